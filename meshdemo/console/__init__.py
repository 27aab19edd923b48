"""Terminal, streams and signals: what a command needs of the machine that it is typed on.

Nothing here knows HTTP, Kubernetes, or what a command does.
"""
