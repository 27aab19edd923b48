"""What the objects mean together: hosts, destinations, and which rules a caller has.

Nothing here reads YAML, or knows Envoy's words.
"""
