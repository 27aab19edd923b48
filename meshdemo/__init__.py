"""The smallest application that makes a service mesh visible: a proxy and a web server."""

__version__ = "1.0.0"
