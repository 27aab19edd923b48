"""Somebody else's manifests with Istio's own control plane: nothing of this machine is touched or told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from istiod_support import LabProgram
from quick_support import EXAMPLE, cluster_of, manifest
from support import ROOT

from meshdemo.lab.envoy.safety import SafeEngine
from meshdemo.lab.files.errors import ManifestError

TYPE = "type.googleapis.com/envoy.extensions."
LUA = {
    "@type": f"{TYPE}filters.http.lua.v3.Lua",
    "inline_code": "io.open(os.getenv('HOME') .. '/ran', 'w')\nfunction envoy_on_request(handle) end",
}
TYPED_STRUCT = {"@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": LUA["@type"]}
DIRECT = {"@type": f"{TYPE}filters.network.direct_response.v3.Config"}
MANAGER = {"@type": f"{TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager"}
IN_MANAGER = {"listener": {"filterChain": {"filter": {"name": "envoy.filters.network.http_connection_manager"}}}}


def patch(target, value, operation="ADD", **match):
    """Return an EnvoyFilter with one patch."""
    change = {"operation": operation, "value": value} if value else {"operation": operation}
    patches = [{"applyTo": target, "match": {"context": "ANY", **match}, "patch": change}]
    return manifest("EnvoyFilter", {"configPatches": patches}, "foreign")


def http_filter(config):
    return patch("HTTP_FILTER", {"name": "f", "typed_config": config}, "INSERT_FIRST", **IN_MANAGER)


def listener(**parts):
    chains = [{"filters": [{"name": "d", "typed_config": DIRECT}]}]
    return patch("LISTENER", {"name": "mine", "filter_chains": chains, **parts})


def access_log(path):
    log = {"name": "f", "typed_config": {"@type": f"{TYPE}access_loggers.file.v3.FileAccessLog", "path": path}}
    value = {"typed_config": {**MANAGER, "access_log": [log]}}
    return patch("NETWORK_FILTER", value, "MERGE", **IN_MANAGER)


def service_entry(**parts):
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    return manifest("ServiceEntry", {"hosts": ["foreign.example.com"], "ports": ports, **parts}, "foreign")


REFUSED = {
    "Lua": (http_filter(LUA), "filters.http.lua.v3.Lua runs code"),
    "Lua in a struct": (http_filter({**TYPED_STRUCT, "value": {"inlineCode": LUA["inline_code"]}}), "Lua runs code"),
    "a log in a file": (access_log("/tmp/log"), "path '/tmp/log' uses a file"),  # noqa: S108
    "a socket behind a host": (
        service_entry(resolution="STATIC", endpoints=[{"address": "unix:///run/engine.sock"}]),
        "pipe '/run/engine.sock' connects to a Unix socket",
    ),
    "a key in a file": (
        manifest(
            "DestinationRule",
            {
                "host": "webserver",
                "trafficPolicy": {"tls": {"mode": "MUTUAL", "clientCertificate": "/a.pem", "privateKey": "/a.key"}},
            },
            "foreign",
        ),
        "the key with the certificate '/a.pem~/a.key' is taken from a file",
    ),
    "a Wasm plugin": (manifest("WasmPlugin", {"url": "https://example.com/x.wasm"}, "foreign"), "such as a WasmPlugin"),
    "all interfaces": (
        patch(
            "LISTENER",
            {"additional_addresses": [{"address": {"socket_address": {"address": "0.0.0.0", "port_value": 9}}}]},
            "MERGE",
        ),
        "has additional_addresses",
    ),
    "a listener at a pipe": (listener(address={"pipe": {"path": "/tmp/pipe"}}), "mine has no address"),  # noqa: S108
    "an internal listener": (listener(internal_listener={}), "the listener mine has"),
    "chains that are removed": (patch("FILTER_CHAIN", None, "REMOVE"), "has no filter chain"),
    "a cluster without endpoints": (
        patch("CLUSTER", {"name": "c", "type": "EDS", "connect_timeout": "1s"}),
        "the cluster c of type EDS has no eds_cluster_config",
    ),
    "a cluster that is no port's": (
        patch(
            "CLUSTER",
            {"name": "inbound|abc", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "1s"},
        ),
        "the cluster inbound|abc has no port in its name",
    ),
    "the bootstrap": (patch("BOOTSTRAP", {"admin": {}}, "MERGE"), "spec.configPatches[0]: the lab has no BOOTSTRAP"),
    "a discovered configuration": (patch("EXTENSION_CONFIG", {"name": "f", "typed_config": LUA}), "EXTENSION_CONFIG"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(engine, tmp_path, case):
    """What would touch this machine, or cannot be carried over, is refused at its object, in one line."""
    foreign, words = REFUSED[case]
    harmless = manifest("PeerAuthentication", {"mtls": {"mode": "STRICT"}}, "harmless")
    with pytest.raises(ManifestError) as caught:
        SafeEngine(engine, allow_code=False).configure(cluster_of(tmp_path, harmless, foreign))
    assert caught.value.place == f"{tmp_path}/policy.yaml: {foreign.label}"
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


TAKEN = {
    "another filter": http_filter({"@type": f"{TYPE}filters.http.buffer.v3.Buffer", "max_request_bytes": 9}),
    "a listener of its own": listener(address={"socket_address": {"address": "0.0.0.0", "port_value": 9}}),
    "a log to the standard output": access_log("/dev/stdout"),
    "Istio's access logs": manifest("Telemetry", {"accessLogging": [{"providers": [{"name": "envoy"}]}]}, "foreign"),
    "a host by its name": service_entry(resolution="DNS"),
}


@pytest.mark.parametrize("case", TAKEN)
def test_taken(engine, tmp_path, case):
    """What stays in Envoy and on the network is taken."""
    assert SafeEngine(engine, allow_code=False).configure(cluster_of(tmp_path, TAKEN[case])).resources


@pytest.mark.parametrize(("options", "status"), [((), 2), (("--allow-code",), 0)], ids=["as it is", "allowed"])
def test_dry_run(built_istiod, tmp_path, options, status):
    """A dry run hands no code to Envoy's check, unless --allow-code is given."""
    path = tmp_path / "foreign.yaml"
    code = f"io.open('{tmp_path}/ran', 'w')\nfunction envoy_on_request(handle) end"
    path.write_text(yaml.safe_dump(http_filter({**LUA, "inline_code": code}).document))
    command = [sys.executable, "-m", "meshdemo", "up", "-f", EXAMPLE, "-f", path, "--istiod", "--dry-run", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == status
    assert (tmp_path / "ran").exists() == (not status)
    if status:
        place = f"Error: {path}, line 1, column 1: EnvoyFilter/foreign"
        reason = "envoy.extensions.filters.http.lua.v3.Lua runs code on the machine that runs this"
        assert done.stderr.endswith(f"{place}: {reason}: only with --allow-code, if you trust it\n")
    else:
        assert json.loads(done.stdout)


def test_nothing_of_the_shell(built_istiod, tmp_path):
    """Neither the Envoys nor Istio's control plane have anything of the shell's environment."""
    lab = LabProgram(tmp_path, "--istiod", env={"MESHDEMO_SECRET": "shell", "PILOT_ENABLE_GATEWAY_API": "false"})
    try:
        environments = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                parent = process.joinpath("stat").read_text().rpartition(")")[2].split()[1]
                if parent == str(lab.process.pid):
                    environments[process.name] = (process / "exe").readlink().name, (process / "environ").read_bytes()
            except OSError:  # it has ended meanwhile
                continue
        programs = [environment for name, environment in environments.values() if name in ("envoy", "istiod")]
        assert len(programs) == 9
        assert set(programs) == {b""}
    finally:
        lab.close()
