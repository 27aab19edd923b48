"""Calls from outside by the hosts of gateways, with Istio's own control plane."""

import pytest
from lab_support import EXAMPLE, RunningLab

from meshdemo.lab_socket import ask

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    tls: {mode: SIMPLE, credentialName: shop}
    hosts: [shop.example.com]
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [shop.example.com]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop.example.com]
  gateways: [public]
  http: [{route: [{destination: {host: webserver}}]}]
"""


@pytest.mark.thorough
def test_hosts_of_a_gateway(engine, tmp_path):
    """A gateway is called by the hosts that it has, from outside or by a Host header; another one is told."""
    source = tmp_path / "gateway.yaml"
    source.write_text(GATEWAY)
    (tmp_path / "lab").mkdir()
    running = RunningLab(tmp_path / "lab", EXAMPLE, source, engine=engine)

    def call(url, *headers, origin=None):
        wish = {"from": origin, "url": url, "headers": list(headers)}
        return ask(running.lab.door.path, "POST", "/call", wish, timeout_seconds=30)

    try:
        (url,) = (each.url for each in running.lab.addresses() if each.url.startswith("https:"))
        seen = [call(url, ["Host", "shop.example.com"]), call(f"https://shop.example.com:{url.split(':')[2]}")]
        seen += [call(f"{scheme}://shop.example.com/", origin="outside") for scheme in ("http", "https")]
        assert [each["answer"]["status"] for each in seen] == [200] * 4
        refused = call("https://nobody.org/")
        assert refused["answer"]["status"] is None
        assert [(hop["kind"], hop["pod"], hop["reason"]) for hop in refused["hops"]] == [
            (
                "gateway",
                "istio-ingressgateway",
                "no server of the gateway is for the server name nobody.org at port 443, only shop.example.com",
            )
        ]
    finally:
        running.close()
