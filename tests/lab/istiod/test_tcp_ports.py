"""Connections without HTTP in the lab with Istio's own control plane: answered, denied, or closed for plain text."""

import pytest
from lab_support import RunningLab

from meshdemo.explaining.expectations import judge, parse_expectation
from meshdemo.lab_socket import ask

_MONGO = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: mongo}
spec:
  selector: {matchLabels: {app: mongo}}
  template:
    metadata: {labels: {app: mongo, version: v1}}
    spec: {containers: [{name: mongo, image: "mongo:7"}]}
---
apiVersion: v1
kind: Service
metadata: {name: mongo}
spec: {type: LoadBalancer, selector: {app: mongo}, ports: [{name: mongo, port: 27017}, {name: https, port: 443}]}
"""
_CALLER = """
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %s}
spec:
  selector: {matchLabels: {app: %s}}
  template:
    metadata: {labels: {app: %s, sidecar.istio.io/inject: "%s"}}
    spec: {containers: [{name: main, image: "caller:1"}]}
"""
_POLICIES = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody}
spec: {selector: {matchLabels: {app: mongo}}, action: DENY, rules: [{}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: all}
spec: {mtls: {mode: STRICT}}
"""
APPLICATION = _MONGO + _CALLER % (("inside",) * 3 + ("true",)) + _CALLER % (("outsider",) * 3 + ("false",))


@pytest.mark.thorough
def test_who_may_connect(engine, tmp_path):
    """A connection is answered by a pod, or it is said which policy had it closed, by tcp:// and by TLS alike."""
    source = tmp_path / "mongo.yaml"
    source.write_text(APPLICATION)
    (tmp_path / "lab").mkdir()
    running = RunningLab(tmp_path / "lab", source, engine=engine)

    def call(origin, url, *texts):
        wish = {"from": origin, "url": url, "headers": []}
        seen = ask(running.lab.door.path, "POST", "/call", wish, timeout_seconds=30)
        assert [str(each) for each in judge(list(map(parse_expectation, texts)), seen) if not each.is_met] == []

    try:
        answered = ("status=answered", "pod=mongo-0", "version=mongo v1")
        call("inside", "tcp://mongo:27017", *answered, "identity=spiffe://*/sa/default")
        call("outsider", "tcp://mongo:27017", *answered)
        running.edit("mongo.yaml", APPLICATION + _POLICIES)
        running.wait_until_settled()
        for _ in range(3):
            call("inside", "tcp://mongo:27017", "status=none", "decided-by=AuthorizationPolicy/nobody[0]")
        call("inside", "https://mongo/", "status=none", "decided-by=AuthorizationPolicy/nobody[0]")
        call("outsider", "tcp://mongo:27017", "status=none", "decided-by=PeerAuthentication/all")
    finally:
        running.close()
