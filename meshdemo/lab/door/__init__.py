"""How other programs of the user ask a running lab, and what it tells them.

Nothing here decides what an answer says.
"""
