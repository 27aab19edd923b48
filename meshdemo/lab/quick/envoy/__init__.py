"""What the quick engine's rules are in Envoy's words.

Nothing here reads YAML or decides: each function turns one thing of the rules into one of Envoy's API.
"""
