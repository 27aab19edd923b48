"""The control plane: a gRPC server that configures each Envoy by xDS, and hears what it logs.

Nothing here decides what the configuration says.
"""
