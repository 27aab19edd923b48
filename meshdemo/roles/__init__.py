"""What a pod runs: the web server, the proxy, and `meshdemo up`, which is both on one machine.

Nothing here reads options or the environment, or knows of the lab and its lessons.
"""
