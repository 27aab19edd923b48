"""Lessons for a person at a terminal: screens, keys and edits.

Nothing here is for scripts.
"""
