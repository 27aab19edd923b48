"""Where lessons are shown, a lab or a cluster, behind one interface (stage.py).

Nothing here knows what a person at the terminal sees.
"""
