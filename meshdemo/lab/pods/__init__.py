"""Replicas as processes, their probes, and rolling updates.

Nothing here reads files, or knows what a policy says.
"""
