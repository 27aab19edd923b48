"""From files to objects: YAML, its places, its fields, and when it changes.

Nothing here knows what the objects of one kind mean to another.
"""
