"""Writing Envoy's configuration as Istio's control plane does: its names, its shapes, its defaults."""
