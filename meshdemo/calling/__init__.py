"""Requests out: the HTTP client of the proxy and of `watch`.

Nothing here answers requests, counts answers or prints.
"""
