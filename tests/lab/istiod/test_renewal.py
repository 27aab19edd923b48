"""Certificates that end while a lab runs, in a day of some seconds."""

import datetime
import time
from contextlib import closing

import pytest
from lab_support import EXAMPLE, K8S, RunningLab

from meshdemo.lab.envoy import certificates
from meshdemo.lab.istiod.engine import Istiod

DAY_SECONDS = 8
# Mutual TLS is the rule, and each call takes a connection of its own, so that each has to show certificates.
RECONNECT = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: webserver
spec:
  host: webserver
  trafficPolicy:
    connectionPool:
      http:
        maxRequestsPerConnection: 1
"""


@pytest.mark.thorough
def test_no_call_is_lost_when_certificates_end(built_istiod, tmp_path, monkeypatch):
    """Over two days of their validity all calls are answered, with mutual TLS, by certificates that were renewed."""
    monkeypatch.setattr(certificates, "_VALID", datetime.timedelta(seconds=DAY_SECONDS))
    rule = tmp_path / "reconnect.yaml"
    rule.write_text(RECONNECT)
    folder = tmp_path / "lab"
    folder.mkdir()
    with closing(Istiod()) as engine:
        running = RunningLab(folder, EXAMPLE, K8S / "istio/mutual-tls.yaml", rule, engine=engine)
        try:
            started = time.monotonic()
            with running.load(rate=20) as calls:
                while time.monotonic() < started + 2 * DAY_SECONDS:
                    calls.wait_for_more(10)
        finally:
            running.close()
    assert len(calls) > 5 * DAY_SECONDS
    assert not calls.lost
