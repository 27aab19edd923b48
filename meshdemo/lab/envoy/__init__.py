"""One Envoy on loopback: its configuration, its certificates, its process.

Nothing here knows which engine made the configuration.
"""
