"""AuthorizationPolicies that judge by addresses, which are no cluster's here."""

import dataclasses

import pytest
from quick_support import EXAMPLE

from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.edits.state import Reader
from meshdemo.lab.files.manifests import Loader
from meshdemo.lab.istiod import Istiod
from meshdemo.lab.istiod.addresses import judged_by_address

POLICY = """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: near}
spec:
  rules:
    - from: [{source: {namespaces: [default]}}]
      when: [{key: "request.headers[a]", values: [b]}]
    - from:
        - source: {ipBlocks: [10.244.0.0/16], notRemoteIpBlocks: [10.0.0.1]}
      when:
        - {key: source.ip, notValues: [10.0.0.2]}
"""


def read(path):
    loader = Loader([EXAMPLE, path])
    cluster = read_cluster(loader.load()[0])
    return dataclasses.replace(cluster, texts=tuple(loader.texts.items()))


def test_each_field_is_said(tmp_path):
    """With its place, and why; a rule without any says nothing, whatever else it asks for."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    assert [note.removeprefix(str(path)).partition(": judges")[0] for note in judged_by_address(read(path))] == [
        ", line 9, column 20: AuthorizationPolicy/near: spec.rules[1].from[0].source.ipBlocks",
        ", line 9, column 47: AuthorizationPolicy/near: spec.rules[1].from[0].source.notRemoteIpBlocks",
        ", line 11, column 12: AuthorizationPolicy/near: spec.rules[1].when[0].key",
    ]
    path.write_text(POLICY.partition("    - from:\n")[0])
    assert judged_by_address(read(path)) == []


@pytest.mark.thorough
def test_it_is_said_at_the_start(built_istiod, tmp_path):
    """The engine that applies such a policy says it."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    engine = Istiod()
    try:
        reader = Reader([EXAMPLE, path], engine)
        notes = reader.configure(reader.read()).notes
    finally:
        engine.close()
    assert sum("every pod and caller here has the address 127.0.0.1" in note for note in notes) == 3
