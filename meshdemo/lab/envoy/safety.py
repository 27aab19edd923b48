"""What an Envoy may be given on a machine that is not a pod: no code, no files, no sockets of whoever runs the lab.

A manifest is somebody else's as often as not. What matters is what an Envoy would get, wherever it comes from, so the
resources are looked at, not the objects: each extension by its type and each field by its name, also inside of a
TypedStruct, which Envoy reads as JSON. Extensions that are not known here count as unsafe.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.engine import Configuration, Engine, Resource, Resources
from meshdemo.lab.envoy.original import leads_on, tcp_host
from meshdemo.lab.files.errors import ManifestError

#: What lets all of this pass.
OPTION = "--allow-code"

# Extensions of Envoy 1.40 that know neither files nor programs, by the package of their messages, and what else stands
# in an Any. They call hosts over the network at most.
_KNOWN = re.compile(
    r"""(envoy\.config|envoy\.tcp\.metadataexchange|envoy\.type|google\.protobuf|istio|io\.istio|stats|udpa|xds)\..*
    |envoy\.extensions\.(
    access_loggers\.(file|filters\.[a-z_]+|fluentd|grpc|open_telemetry|stats|stream)
    |clusters\.(aggregate|common\.dns|composite|dns|dynamic_forward_proxy|mcp_multicluster|original_dst|redis)
    |common\.(dynamic_forward_proxy|matching|ratelimit)
    |(compression|load_balancing_policies|path|quic|rate_limit_descriptors|rbac|retry)\.[a-z_.]+
    |(config\.validators\.minimum_clusters|content_parsers\.json|early_data|filters\.common\.[a-z_.]+)
    |filters\.http\.(a2a|adaptive_concurrency|admission_control|ai_protocol_manager|alternate_protocols_cache
      |api_key_auth|aws_eventstream_parser|bandwidth_limit|bandwidth_share|basic_auth|body_size_limit|buffer|cache
      |cache_v2|cdn_loop|composite|compressor|connect_grpc_bridge|cors|credential_injector|csrf|custom_response
      |decompressor|dynamic_forward_proxy|ext_authz|ext_proc|fault|filter_chain|grpc_field_extraction
      |grpc_http1_bridge|grpc_http1_reverse_bridge|grpc_json_reverse_transcoder|grpc_json_transcoder|grpc_stats
      |grpc_web|header_mutation|header_to_metadata|health_check|ip_tagging|json_to_metadata|jwt_authn
      |local_ratelimit|mcp|mcp_json_rest_bridge|mcp_router|oauth2|on_demand|original_src|proto_api_scrubber
      |proto_message_extraction|rate_limit_quota|ratelimit|rbac|router|set_filter_state|set_metadata|sse_to_metadata
      |stateful_session|thrift_to_metadata|transform|upstream_codec)
    |filters\.listener\.(http_inspector|local_ratelimit|original_dst|original_src|proxy_protocol|set_filter_state
      |tls_inspector)
    |filters\.network\.(connection_limit|direct_response|dubbo_proxy[a-z_.]*|echo|ext_authz|ext_proc
      |generic_proxy[a-z0-9_.]*|http_connection_manager|local_ratelimit|mongo_proxy|ratelimit|rbac|redis_proxy
      |set_filter_state|sni_cluster|sni_dynamic_forward_proxy|tcp_bandwidth_limit|tcp_proxy|thrift_proxy[a-z_.]*
      |zookeeper_proxy)
    |filters\.udp\.(dns_filter|udp_proxy[a-z_.]*)
    |formatter\.(cel|generic_secret|metadata|req_without_query)
    |health_checkers\.(redis|thrift|udp)
    |http\.(ai_filters\.[a-z_]+|cache(_v2)?\.simple_http_cache|custom_response\.[a-z_]+|early_header_mutation\.[a-z_]+
      |ext_proc\.[a-z_.]+|header_formatters\.preserve_case|header_validators\.envoy_default
      |injected_credentials\.[a-z_0-9]+|original_ip_detection\.[a-z_]+|stateful_session\.[a-z_]+)
    |(internal_redirect|local_address_selectors|regex_engines|request_id|queue_policy|udp_packet_writer)[a-z_.]*
    |matching\.(actions\.transform_stat|common_inputs\.(network|ssl|stats|transport_socket))
    |matching\.input_matchers\.(consistent_hashing|ip|metadata|runtime_fraction)
    |network\.dns_resolver\.[a-z_]+
    |router\.cluster_specifiers\.(matcher|priority_group)
    |tracers\.(fluentd|opentelemetry\.samplers)
    |transport_sockets\.(http_11_proxy|internal_upstream|proxy_protocol|quic|raw_buffer|starttls|tcp_stats
      |tls(\.cert_mappers\.[a-z_]+|\.cert_selectors\.on_demand_secret)?)
    |upstreams\.(http|tcp)(\.(generic|http|tcp|udp))?
    )\.v\d(alpha\d?)?\..*""",
    re.VERBOSE,
)
_CODE = re.compile(r"dynamic_modules|\.lua|wasm|golang|DynamicOt")
_FILES = re.compile(r"file|maxmind|environment|\.tap\.")
# Fields that name a file, a folder or a variable of this machine, whatever message they stand in.
_FILE_FIELDS = re.compile(
    "access_log_path|access_token_file|actor_token_path|anon_db_path|asn_db_path|cache_path|city_db_path"
    "|country_db_path|descriptor_path|environment_variable|event_log_path|file_per_tap|filename|flags_path"
    "|host_env_keys|isp_db_path|key_log|network_namespace_filepath|path_config_source|perf_tracing_file_path"
    "|profile_path|proto_descriptor|storage_buffer_path|subject_token_path|watched_directory"
)
# Where a source of configuration stands; one over the network brings what nobody has looked at.
_SOURCES = re.compile("(eds|fcds|leds|odcds|sds)_config|((scoped_)?rds_)?config_source|lrs_server|source")
# Istio's agent, from which a sidecar would get its certificates; the lab puts files of its own in its place.
_AGENT = "sds-grpc"
# What Istio writes where access logs are asked for.
_STANDARD_STREAMS = ("/dev/stdout", "/dev/stderr")
_FILE_LOG = "envoy.extensions.access_loggers.file."
# How Istio names certificates with their keys in files (pkg/security, SdsCertificateConfig). Authorities to trust may
# be in a file: nothing of it goes anywhere.
_FILE_CERTIFICATE = "file-cert:"
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LONGEST_VALUE = 80
# Envoy's API has some thousands of fields and types; what else a manifest names need not be remembered.
_REMEMBERED = 10_000


class SafeEngine:
    """An engine whose configuration is refused when it is unsafe, unless `allow_code`, or cannot be carried over."""

    def __init__(self, engine: Engine, *, allow_code: bool) -> None:
        self.name = engine.name
        self._engine = engine
        self._allow_code = allow_code
        # What was found harmless last: engines give the same object again for what has not changed.
        self._harmless: Mapping[str, Resources] = {}

    def configure(self, cluster: Cluster) -> Configuration:
        """Return the engine's configuration; raise ManifestError, at the object that is to blame where one alone is."""
        configuration = self._engine.configure(cluster)
        resources = configuration.resources
        changed = {name: each for name, each in resources.items() if self._harmless.get(name) is not each}
        problem = find_problem(dataclasses.replace(configuration, resources=changed), allow_code=self._allow_code)
        if problem:
            raise ManifestError(self._blame(cluster, problem), problem)
        self._harmless = resources
        return configuration

    def _blame(self, cluster: Cluster, problem: str) -> str:
        """Return the place of the policy without which this problem is gone, else of all."""
        for manifest in cluster.policies:
            others = tuple(each for each in cluster.policies if each is not manifest)
            try:
                without = self._engine.configure(dataclasses.replace(cluster, policies=others))
            except ManifestError:
                continue
            if find_problem(without, allow_code=self._allow_code) != problem:
                return manifest.place
        return ", ".join(manifest.place for manifest in cluster.policies) or "the manifests"


def find_problem(configuration: Configuration, *, allow_code: bool) -> str | None:
    """Return what no Envoy here may get: what cannot be carried over, and what is unsafe, unless `allow_code`."""
    for resources in configuration.resources.values():
        problem = next(_uncarried(resources), None)
        if problem:
            return f"{problem}, which the lab cannot carry over to an Envoy here"
    if allow_code:
        return None
    for resources in configuration.resources.values():
        for part in (resources.listeners, resources.routes, resources.clusters, resources.endpoints):
            problem = next(_unsafe(list(part), ""), None)
            if problem:
                return f"{problem} on the machine that runs this: only with {OPTION}, if you trust it"
    return None


def _unsafe(value: Any, field: str) -> Iterator[str]:
    """Return in words what a part of a configuration would do; `field` is where it stands."""
    if isinstance(value, str):
        if "FILE_CONTENT(" in value:
            yield f"{_shown(value)} reads a file"
        elif value.startswith(_FILE_CERTIFICATE):
            yield f"the key with the certificate {_shown(value.removeprefix(_FILE_CERTIFICATE))} is taken from a file"
    elif isinstance(value, list):
        for each in value:
            yield from _unsafe(each, field)
    elif isinstance(value, dict):
        yield from _unsafe_message(value, field)


def _unsafe_message(message: Resource, field: str) -> Iterator[str]:
    kinds = [str(message[key]).rpartition("/")[2] for key in ("@type", "type_url", "typeUrl") if key in message]
    for kind in kinds:
        if problem := _unsafe_kind(kind):
            yield problem
    for key, inner in message.items():
        name, is_of_file = _read_field(key)
        if name == "filter_metadata":  # data, which no message is made of
            continue
        if is_of_file and inner:
            yield f"{name} {_shown(inner)} uses a file or variable"
        elif name in ("library", "access_log") and isinstance(inner, str) and inner:
            yield f"{name} {_shown(inner)} uses a file"
        elif name == "path" and _SOURCES.fullmatch(field):
            yield f"path {_shown(inner)} uses a file"
        elif name == "path" and any(kind.startswith(_FILE_LOG) for kind in kinds):
            if inner not in _STANDARD_STREAMS:
                yield f"path {_shown(inner)} uses a file"
        elif name == "pipe":
            yield f"pipe {_shown(inner)} connects to a Unix socket"
        elif name == "google_grpc":
            yield "google_grpc connects to whatever its target names, Unix sockets too,"
        elif name == "api_config_source" and not _is_agent(inner):
            yield "api_config_source brings a configuration that nothing has checked, to be applied"
        elif name == "name" and inner == _AGENT and "connect_timeout" in message:
            yield f"a cluster called {_AGENT} would bring certificates that nothing has checked"
        yield from _unsafe(inner, name)


@functools.lru_cache(_REMEMBERED)
def _unsafe_kind(kind: str) -> str:
    """Return in words what an extension of a type would do, empty where it is harmless."""
    if _CODE.search(kind):
        return f"{kind} runs code"
    if _KNOWN.fullmatch(kind):
        return ""
    return f"{kind} reads or writes files" if _FILES.search(kind) else f"what {kind} does is not known to be harmless"


@functools.lru_cache(_REMEMBERED)
def _read_field(key: str) -> tuple[str, bool]:
    """Return the name of a field as Envoy's API writes it, and whether it names a file, a folder or a variable."""
    name = _WORD_START.sub("_", key).lower()
    return name, bool(_FILE_FIELDS.fullmatch(name))


def _is_agent(source: Any) -> bool:
    """Return whether a source is Istio's agent and nothing else."""
    services = source.get("grpc_services") if isinstance(source, dict) else None
    return isinstance(services, list) and [each.get("envoy_grpc") for each in services] == [{"cluster_name": _AGENT}]


def _uncarried(resources: Resources) -> Iterator[str]:
    """Return in words what the lab cannot bring to loopback."""
    for listener in resources.listeners:
        name = listener.get("name")
        if not name:
            yield "a listener has no name"
            continue
        if "socket_address" not in listener.get("address", {}):
            yield f"the listener {name} has no address and port"
        for key in ("additional_addresses", "api_listener", "internal_listener", "fcds_config"):
            if key in listener:
                yield f"the listener {name} has {key}"
        if not listener.get("filter_chains") and "udp_listener_config" not in listener:
            yield f"the listener {name} has no filter chain"
        if not all(each.get("name") for each in listener.get("listener_filters", [])):
            yield f"a listener filter of {name} has no name"
    for cluster in resources.clusters:
        name = cluster.get("name")
        if not name:
            yield "a cluster has no name"
            continue
        if cluster.get("type") == "EDS" and "eds_cluster_config" not in cluster:
            yield f"the cluster {name} of type EDS has no eds_cluster_config"
        if leads_on(cluster) and "original_dst_lb_config" in cluster:
            yield f"the cluster {name} leads to another address or port than its caller chose (targetPort does, say)"
        if name.startswith("inbound|") and not name.split("|")[1].isdecimal():
            yield f"the cluster {name} has no port in its name"
    originals = {each["name"]: each for each in resources.clusters if "transport_socket" in each and leads_on(each)}
    for listener in resources.listeners if originals else ():
        if tcp_host(listener, resources) == "":
            name = listener["filter_chains"][0]["filters"][-1]["typed_config"]["cluster"]
            if name in originals:
                yield f"the cluster {name} starts TLS to whatever address a TCP connection goes to"
    if _holds(list(resources.listeners), "config_discovery"):
        yield "a filter is discovered (config_discovery, such as a WasmPlugin)"


def _holds(value: Any, field: str) -> bool:
    if isinstance(value, Mapping):
        return field in value or any(_holds(each, field) for each in value.values())
    return isinstance(value, list) and any(_holds(each, field) for each in value)


def _shown(value: Any) -> str:
    text = str(next(iter(value.values()), "")) if isinstance(value, dict) else str(value)
    return repr(text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "...")
