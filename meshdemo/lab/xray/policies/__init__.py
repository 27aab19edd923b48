"""What policies do to a call: who lets it in, which DestinationRule counts, which rules are for whom.

Nothing here knows how a call went from hop to hop.
"""
