"""Calls for the rules of policies, as `meshdemo check --write` proposes them: made once, and named by what was seen.

Nothing here runs a lab: whoever asks makes the calls, and hands in what explains them.
"""
