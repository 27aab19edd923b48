"""What the tests of proposed calls share: a mesh of three namespaces, and policies on top of it."""

import yaml

from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.files.manifests import Loader

_WORKLOAD = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: {app}, version: {version}}}}}
  template:
    metadata: {{labels: {{app: {app}, version: {version}}}}}
    spec:
      serviceAccountName: {app}
      containers: [{{name: {app}, image: "{app}:1", ports: [{{containerPort: 8080}}]}}]
---
"""
_SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: {name}}}, ports: {ports}}}
---
"""
_NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}, labels: {{istio-injection: {}}}}}\n---\n"
_GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
    - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*.example.com"]}
    - {port: {number: 27017, name: mongo, protocol: MONGO}, hosts: ["*"]}
---
"""
MESH = (
    "".join(_NAMESPACE.format(name, "enabled") for name in ("shop", "pay", "data"))
    + _NAMESPACE.format("legacy", "disabled")
    + _WORKLOAD.format(name="cart-v1", namespace="shop", app="cart", version="v1")
    + _WORKLOAD.format(name="cart-v2", namespace="shop", app="cart", version="v2")
    + _WORKLOAD.format(name="front", namespace="shop", app="front", version="v1")
    + _WORKLOAD.format(name="pay", namespace="pay", app="pay", version="v1")
    + _WORKLOAD.format(name="batch", namespace="legacy", app="batch", version="v1")
    + _WORKLOAD.format(name="mongo", namespace="data", app="mongo", version="v1")
    + _SERVICE.format(name="cart", namespace="shop", ports="[{name: http, port: 80, targetPort: 8080}]")
    + _SERVICE.format(name="mongo", namespace="data", ports="[{name: tcp, port: 27017, targetPort: 8080}]")
    + _GATEWAY
)


def policy(kind, spec, *, name="it", namespace="shop"):
    """Return a policy as text."""
    group = {"VirtualService": "networking.istio.io", "HTTPRoute": "gateway.networking.k8s.io"}
    api = f"{group.get(kind, 'security.istio.io')}/v1"
    head = {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace}}
    return yaml.safe_dump({**head, "spec": yaml.safe_load(spec)}) + "---\n"


def read_policies(folder, text):
    """Return the policies of a text, the first as it stands, with the cluster that they and the mesh make."""
    (folder / "mesh.yaml").write_text(MESH)
    (folder / "policy.yaml").write_text(text)
    manifests, _ = Loader([folder / "mesh.yaml", folder / "policy.yaml"]).load()
    return [each for each in manifests if each.path.name == "policy.yaml"], read_cluster(manifests)
