"""An application of other images in the lab: stand-ins answer for it."""

import pytest
from lab_support import RunningLab
from support import get

# Two ports behind one Service, of which one is named by no container; and this program's proxy, which calls one.
SHOP = """
apiVersion: v1
kind: Service
metadata: {name: catalog}
spec:
  type: LoadBalancer
  selector: {app: catalog}
  ports:
    - {name: http, port: 80, targetPort: web}
    - {name: http-admin, port: 9000}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: catalog-v2}
spec:
  serviceName: catalog
  selector: {matchLabels: {app: catalog}}
  template:
    metadata: {labels: {app: catalog, version: v2}}
    spec:
      initContainers: [{name: migrate, image: catalog:2, command: [migrate]}]
      containers:
        - name: catalog
          image: catalog:2
          command: [/catalog]
          envFrom: [{secretRef: {name: passwords}}]
          ports: [{name: web, containerPort: 8080}]
          readinessProbe: {exec: {command: [/ready]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: proxy}
spec:
  selector: {matchLabels: {app: proxy}}
  template:
    metadata: {labels: {app: proxy}}
    spec: {containers: [{name: proxy, image: "meshdemo:1.0.0", args: [proxy, --proxy-url, "http://catalog:9000"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: catalog}
spec:
  hosts: [catalog]
  http:
    - match: [{headers: {end-user: {exact: tester}}}]
      fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
      route: [{destination: {host: catalog}}]
    - route: [{destination: {host: catalog}}]
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    source = folder / "shop.yaml"
    source.write_text(SHOP)
    (folder / "lab").mkdir()
    lab = RunningLab(folder / "lab", source)
    yield lab
    lab.close()


def test_a_stand_in_answers(shop):
    """A stand-in says workload, version, pod and path at each port of its Service."""
    ports = [address.port for address in shop.lab.addresses() if address.name == "service/catalog"]
    assert [get(port, "/items")[2] for port in ports] == [
        "catalog v2 requested from /items on catalog-v2-0 with code 200"
    ] * 2


def test_through_a_sidecar(shop):
    """What calls a stand-in does so through its sidecar, by the policies."""
    (port,) = [address.port for address in shop.lab.addresses() if address.name == "deployment/proxy"]
    assert "catalog v2 requested from /items on catalog-v2-0" in get(port, "/items")[2]
    assert "fault filter abort" in get(port, "/items", **{"end-user": "tester"})[2]


def test_what_is_said(shop):
    """The start says who is stood in for."""
    assert shop.lines[0] == "starting 2 pods (1 catalog-v2, 1 proxy), with stand-ins for the images of catalog-v2 ..."
