"""What the tests of the quick engine share: objects without files, and the example with policies beside it."""

from pathlib import Path

import yaml

from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.files.kinds import KINDS
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.files.manifests import Loader

EXAMPLE = Path(__file__).resolve().parents[2] / "k8s" / "example.yaml"
SUBSETS = {
    "host": "webserver",
    "subsets": [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}],
}


def manifest(kind, spec, name="webserver", group=None):
    """Return an object of a kind, of the group that has it or else of the one given."""
    group = next(each for each, known in KINDS if known == kind) if group is None else group
    version = KINDS[group, kind][0]
    document = {
        "apiVersion": f"{group}/{version}".removeprefix("/"),
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }
    return Manifest(Path("policy.yaml"), 1, group, version, kind, name, document)


def cluster_of(folder, *manifests, example=True):
    """Return the cluster of the example, or of nothing, with objects beside it."""
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump_all([each.document for each in manifests]))
    return read_cluster(Loader([*([EXAMPLE] if example else []), path]).load()[0])


def to(host="webserver", **more):
    """Return a rule of a VirtualService that sends calls to a host."""
    return {"route": [{"destination": {"host": host}}], **more}


def virtual_service(*rules, hosts=("webserver",), name="webserver", **more):
    """Return a VirtualService with these rules."""
    return manifest("VirtualService", {"hosts": list(hosts), "http": list(rules), **more}, name)


def http_route(*rules, parents=({"group": "", "kind": "Service", "name": "webserver", "port": 80},), name="r", **more):
    """Return an HTTPRoute with these rules, of the Service webserver unless said otherwise."""
    return manifest("HTTPRoute", {"parentRefs": list(parents), "rules": list(rules), **more}, name)
