"""What the tests of explanations share: a scene of a few workloads, with policies, and records as Envoys log them."""

import dataclasses

import yaml

from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.engine import Configuration, Resources
from meshdemo.lab.files.kinds import KINDS
from meshdemo.lab.files.manifests import Loader
from meshdemo.lab.files.sources import shown_path
from meshdemo.lab.xray.facts.records import Record
from meshdemo.lab.xray.facts.scene import Scene

EMPTY = {
    field.name: "" if field.type == "str" else 0
    for field in dataclasses.fields(Record)
    if field.type in ("str", "int", "float")
}


def an_object(kind, name, spec, namespace="shop", group=None, **metadata):
    """Return an object of a kind as it stands in a file."""
    group = next(each for each, known in KINDS if known == kind) if group is None else group
    version = KINDS[group, kind][0]
    own = {"name": name, "namespace": namespace, **metadata}
    return {"apiVersion": f"{group}/{version}".removeprefix("/"), "kind": kind, "metadata": own, "spec": spec}


def workload(name, namespace="shop", port=8080, *, headless=False, in_mesh=True):
    """Return a Deployment with one pod, `NAME-v1-1.NAMESPACE`, and its Service at port 80."""
    labels = {"app": name}
    template = {
        "metadata": {"labels": {**labels, "sidecar.istio.io/inject": str(in_mesh).lower()}},
        "spec": {"containers": [{"name": "main", "image": name, "ports": [{"containerPort": port}]}]},
    }
    deployment = an_object(
        "Deployment", f"{name}-v1", {"selector": {"matchLabels": labels}, "template": template}, namespace
    )
    address = {"clusterIP": "None"} if headless else {}
    ports = [{"name": "http", "port": 80, "targetPort": port}]
    return [deployment, an_object("Service", name, {"selector": labels, "ports": ports, **address}, namespace)]


def scene_of(folder, *objects, clusters=(), routes=(), envoy="", not_in_force=()):
    """Return what objects describe; `clusters` are the names of those that an Envoy has, `routes` its own, too."""
    path = folder / "files.yaml"
    text = yaml.safe_dump_all(objects, sort_keys=False)
    path.write_text(text)
    cluster = dataclasses.replace(read_cluster(Loader([path]).load()[0]), texts=((shown_path(path), text),))
    resources = Resources(clusters=[{"name": name} for name in clusters], routes=list(routes))
    return Scene(cluster, Configuration({envoy: resources}), {}, not_in_force=tuple(not_in_force))


def record(envoy, **fields):
    """Return what an Envoy logs of a request, as far as is said."""
    given = {"headers": {}, "flags": (), "status": 200, "is_try": False, "is_tls": False, "started": 10.0}
    return Record(**{**EMPTY, **given, "milliseconds": 5.0, "method": "GET", "envoy": envoy, **fields})
