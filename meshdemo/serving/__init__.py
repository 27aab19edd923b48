"""Requests in: plain WSGI, and the server from its listening socket to the end of its process.

Nothing here knows what a role answers, or calls anything.
"""
