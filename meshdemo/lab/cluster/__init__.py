"""What the files describe: Services, workloads and their pods, gateways.

Nothing here runs anything, or knows Envoy.
"""
