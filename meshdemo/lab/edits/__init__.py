"""How an edit of the files becomes a state that Envoys can have: it is read, configured and checked, beside the calls.

Nothing here puts a state in force.
"""
