"""What a lesson says: its file, its comment, its policy, and which of its commands run unasked.

Nothing here runs anything.
"""
