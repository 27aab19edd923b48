"""The local lab: the YAML of a cluster, on a real Envoy, without a cluster. Needs the extra `lab`."""
