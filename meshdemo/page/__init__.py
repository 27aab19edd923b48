"""The live page at /ui, and the calls that it shows.

Nothing here is needed to proxy a call: the proxy only hands its requests for /ui over.
"""
