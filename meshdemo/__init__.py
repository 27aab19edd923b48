"""The smallest application that makes a service mesh visible: a proxy and a web server.

Beside the rooms are the commands, and the ground that all stand on. Nothing here belongs to one room alone.
"""

__version__ = "1.0.0"
