"""A call that a running lab explains: asked for, judged, and as text.

Nothing here needs the lab's packages: `meshdemo call` and `watch` ask the lab over its socket.
"""
