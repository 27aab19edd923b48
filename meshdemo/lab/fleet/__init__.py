"""All that runs in a lab: pods with their Envoys, gateways, what stands outside, and who calls from pods.

Nothing here follows files.
"""
