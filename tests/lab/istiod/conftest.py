"""Istio's own control plane, as one program for all tests that only ask it."""

import pytest

from meshdemo.lab.istiod import Istiod


@pytest.fixture(scope="session")
def engine(built_istiod):
    istiod = Istiod()
    yield istiod
    istiod.close()
