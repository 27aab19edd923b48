"""What an explanation looks at: what the Envoys logged, the names of rules, and a call with its hops.

Nothing here judges why anything happened.
"""
