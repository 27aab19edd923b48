"""What one object says: a module for each kind, each field exact or refused.

Nothing here knows Envoy's words, or other objects than its own.
"""
