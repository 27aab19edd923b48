"""One running lab: the application as its manifests describe it, on real Envoys and without a cluster.

Nothing here knows lessons, and nothing outside of `meshdemo up -f` and the lessons needs it.
"""
