"""From files to what is to run: read, configured, checked, and blamed on the right object."""

import dataclasses
import json

import pytest
from lab_support import EXAMPLE, K8S

from meshdemo.lab import quick
from meshdemo.lab.cluster.options import ReadOptions
from meshdemo.lab.edits.state import Reader, as_json
from meshdemo.lab.engine import Configuration, Resources
from meshdemo.lab.envoy.judge import Judge
from meshdemo.lab.envoy.xds.control_plane import ControlPlane
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.pods.guard import Guard


@pytest.fixture
def judge():
    guard = Guard()
    plane = ControlPlane(guard.folder)
    judge = Judge(guard.folder, guard.group, plane)
    yield judge
    plane.close()
    guard.close()
    judge.close()


class Engine:
    """An engine that makes of each policy a cluster with a timeout that the policy's label says."""

    def configure(self, cluster):
        def timeout(policy):
            return policy.document["metadata"].get("labels", {}).get("timeout", "1")

        clusters = [
            {"name": each.label, "type": "STATIC", "connect_timeout": timeout(each) + "s"} for each in cluster.policies
        ]
        notes = tuple(f"{each.place}: seen" for each in cluster.policies)
        return Configuration({"proxy-1": Resources(clusters=clusters)}, notes, notes)


class Broken:
    def configure(self, cluster):
        return {}["nothing"]


POLICY = """---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: %s, labels: {timeout: "%s"}}
spec: {host: webserver}
"""


def test_a_state():
    """A state has its files, their cluster and the configuration; notes are said once."""
    reader = Reader([EXAMPLE, K8S / "istio/split.yaml"], Engine())
    state = reader.configure(reader.read())
    assert len(state.cluster.pods) == 7
    assert state.resources("webserverv1-1") is None
    assert len(state.notes) == 2
    assert state.notes[0].endswith("split.yaml: VirtualService/webserver: seen")


def test_pods_that_run():
    """A pod that is as the files say keeps its address; one that no file has any more is there as well, once."""
    reader = Reader([EXAMPLE], Engine())
    files = reader.read()
    moved = dataclasses.replace(files.cluster.pods[0], address="10.244.0.101")
    gone = dataclasses.replace(moved, name="gone-1", address="10.244.9.1")
    state = reader.configure(files, [moved, *files.cluster.pods[1:], gone, dataclasses.replace(gone, labels={})])
    assert [pod.name for pod in state.cluster.pods][7:] == ["gone-1"]
    assert state.cluster.pods[0] == moved
    assert state.pods == list(state.cluster.pods[:7])
    assert state.resources_of(moved) == state.resources("proxy-1")
    assert state.resources_of(gone) is None
    assert len(state.files.cluster.pods) == 7


def test_pods_that_are_replaced():
    """A pod that differs from the running one of its name has another address, whichever of the two that one has."""
    reader = Reader([EXAMPLE], Engine())
    files = reader.read()
    first = files.cluster.pods[0]
    old = dataclasses.replace(first, service_account="former")
    state = reader.configure(files, [old])
    new = state.cluster.pods[0]
    assert (new.name, new.service_account) == (first.name, first.service_account)
    assert new.address != old.address
    assert state.cluster.pods[7:] == (dataclasses.replace(old, name=f"{old.name}former"),)
    assert state.cluster.pods_of("proxy") == [new, state.cluster.pods[7]]
    back = reader.configure(files, [dataclasses.replace(old, address=new.address)])
    assert back.cluster.pods[0].address == old.address
    given_up = dataclasses.replace(old, address=new.address, service_account="given-up")
    assert reader.configure(files, [old, given_up]).cluster.pods[0] == new


def test_who_is_to_blame(judge, tmp_path):
    """What Envoy refuses is told at the object without which it takes the rest."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY % ("good", "1") + POLICY % ("bad", "-1") + POLICY % ("also", "2"))
    reader = Reader([EXAMPLE, path], Engine())
    with pytest.raises(ManifestError, match=r"policy\.yaml: DestinationRule/bad: Envoy does not accept this: "):
        reader.check(reader.configure(reader.read()), judge)
    path.write_text(POLICY % ("bad", "-1") + POLICY % ("worse", "-2"))
    with pytest.raises(ManifestError, match=r"example\.yaml, .*policy\.yaml: Envoy does not accept this: "):
        reader.check(reader.configure(reader.read()), judge)
    path.write_text(POLICY % ("good", "1"))
    reader.check(reader.configure(reader.read()), judge)


def test_a_defect():
    """An error that is none about the files is one line that says so, and where it was."""
    reader = Reader([EXAMPLE], Broken())
    with pytest.raises(ManifestError, match=r"meshdemo itself failed .* KeyError\('nothing'\) \(test_state.py"):
        reader.configure(reader.read())


def test_no_deployment():
    """Policies alone are no application."""
    with pytest.raises(ManifestError, match=r"split\.yaml: no Deployment, StatefulSet or Pod to run: add"):
        Reader([K8S / "istio/split.yaml"], quick).read()


def test_json():
    """Each Envoy's configuration stands under its name."""
    reader = Reader([EXAMPLE, K8S / "istio/ingress.yaml"], quick)
    found = json.loads(as_json(reader.configure(reader.read())))
    assert {"proxy-1", "istio-ingressgateway"} <= set(found)
    assert all(set(each) == {"listeners", "routes", "clusters", "endpoints"} for each in found.values())


def test_certificates():
    """Who needs a certificate gets one, and nobody else."""
    reader = Reader([EXAMPLE], quick)
    cluster = reader.read().cluster
    pod = cluster.pods[0]
    assert reader.secrets(pod, Resources(), cluster) is None
    needing = Resources(clusters=[{"tls_certificate_sds_secret_configs": [{"name": "default"}]}])
    assert reader.secrets(pod, needing, cluster).own.key


def test_without_what_is_invalid(tmp_path):
    """Objects that cannot be, or are not supported, are left out with a note if that is wished; else all are said."""
    broken = tmp_path / "broken.yaml"
    broken.write_text(
        """
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: []}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {ports: [{port: 80, name: tcp}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: c}
spec: {hosts: [nowhere], http: [{route: [{destination: {host: nowhere}}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec: {replicas: -1}
"""
    )
    with pytest.raises(ManifestError) as error:
        Reader([EXAMPLE, broken], quick).read()
    assert ["Service/a" in str(error.value), "Deployment/d" in str(error.value)] == [True, True]
    reader = Reader([EXAMPLE, broken], quick, options=ReadOptions(skip_invalid=True))
    state = reader.configure(reader.read())
    assert [note.partition(": ")[0] for note in state.notes] == ["left out"] * 5
    assert [service.name for service in state.cluster.services] == ["proxy", "webserver", "webserverv1", "webserverv2"]
    assert state.cluster.policies == ()
