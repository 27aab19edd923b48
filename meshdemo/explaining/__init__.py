"""The explanation of a call as text, from the object that the lab gives.

Nothing here asks the lab, or needs it: `meshdemo call` and `watch` do without its packages.
"""
