"""What a lesson is, and the stages on which it is shown: the lab and a cluster.

Nothing here knows what a policy means: the lesson's own commands judge that.
"""
