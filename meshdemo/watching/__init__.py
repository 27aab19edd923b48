"""`meshdemo watch`: calls at a steady pace, and who answered.

Nothing here knows how the server that is called came to be, in the lab or in a cluster.
"""
