"""Policies and their changes in words.

Nothing here runs or configures anything.
"""
