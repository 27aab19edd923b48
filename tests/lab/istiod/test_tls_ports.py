"""Ports for TLS in the lab with Istio's own control plane: the mesh passes it on by its server name."""

import pytest
from lab_support import RunningLab

from meshdemo.lab_socket import ask

_DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-%(version)s}
spec:
  selector: {matchLabels: {app: shop, version: %(version)s}}
  template:
    metadata: {labels: {app: shop, version: %(version)s}}
    spec: {containers: [{name: shop, image: "shop:1"}]}
---
"""
SHOP = f"""{"".join(_DEPLOYMENT % {"version": version} for version in ("v1", "v2"))}
apiVersion: v1
kind: Service
metadata: {{name: shop}}
spec:
  type: LoadBalancer
  selector: {{app: shop}}
  ports: [{{name: https, port: 443}}, {{name: tls-more, port: 444}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: shop}}
spec: {{host: shop, subsets: [{{name: v2, labels: {{version: v2}}}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec:
  hosts: [shop]
  tls: [{{match: [{{port: 443, sniHosts: [shop]}}], route: [{{destination: {{host: shop, subset: v2}}}}]}}]
"""


@pytest.mark.thorough
def test_tls_to_stand_ins(engine, tmp_path):
    """What begins TLS is led by the name that it asks for, and is answered inside; elsewhere a line is said."""
    source = tmp_path / "shop.yaml"
    source.write_text(SHOP)
    (tmp_path / "lab").mkdir()
    running = RunningLab(tmp_path / "lab", source, engine=engine)

    def call(url):
        wish = {"from": "shop-v1", "url": url, "headers": []}
        return ask(running.lab.door.path, "POST", "/call", wish, timeout_seconds=30)["answer"]

    try:
        assert [call("https://shop/x")["version"] for _ in range(4)] == ["shop v2"] * 4
        assert call("https://shop:444/")["version"] in ("shop v1", "shop v2")
        assert call("tcp://shop:444")["body"].rstrip() in ("shop v1 on shop-v1-1", "shop v2 on shop-v2-1")
    finally:
        running.close()
