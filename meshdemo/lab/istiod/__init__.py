"""Istio's own control plane as an engine: how it is compiled, what it is told, and what it answers.

Nothing here decides what a policy means, or runs an Envoy.
"""

from meshdemo.lab.istiod.engine import Istiod as Istiod
