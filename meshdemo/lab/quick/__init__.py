"""The quick engine: what Istio's control plane would make of the policies, exactly, or a refusal that says where.

Read (reading/), decided (rules/), and written in Envoy's words (envoy/); translation.py puts them together.
Nothing here runs anything, or reads a file.
"""

from meshdemo.lab.quick.translation import configure as configure
from meshdemo.lab.quick.translation import name as name
