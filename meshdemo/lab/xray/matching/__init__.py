"""Which route of an Envoy a request meets, by pure functions over routes and requests.

Nothing here knows a lab, a log, or a cluster.
"""
