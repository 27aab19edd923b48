"""What the Envoys log of each request and of each try, as data, kept by request for a while."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from meshdemo.lab.envoy.original import name_of_original
from meshdemo.lab.envoy.xds.access_log import CLUSTER_TAG, OBJECT_TAG, ROUTES_TAG
from meshdemo.lab.envoy.xds.messages import api
from meshdemo.lab.xray.facts.flags import short_flags

#: How many requests are kept; the oldest goes first.
MOST_CALLS = 10_000
#: How much of the logs is kept while nobody asks: some 6 kB for each of so many requests, which few come to.
MOST_BYTES = 64 * 1024 * 1024
# A request that comes through more Envoys, or is tried more often, loses its first records.
_MOST_RECORDS = 200
# Among how many of the last requests one is looked for whose x-request-id is not known.
_RECENT = 200
# An Envoy that samples a request for traces says so in its x-request-id, which is a UUID: one digit of it is another
# one then (Envoy, UuidRequestIdConfig, pack_trace_reason). By Istio's default that is one request of a hundred.
_UUID_LENGTH, _MARK_AT, _MARKS, _NO_MARK = 36, 14, "9ab", "4"
_UPSTREAM = ("UpstreamEnd", "UpstreamPeriodic", "UpstreamPoolReady")
# How many of the last connections are kept by which no HTTP went.
_MOST_CONNECTIONS = 500


@dataclass(frozen=True)
class Record:
    """One entry: of a request as it came to an Envoy, or of one try of it, `is_try`.

    Of a connection by which no HTTP went it has what is of connections, with Envoy's reason for its end in `details`.
    `envoy` is the name of the pod or gateway, `routes` that of the RouteConfiguration, `route` that of the route in it,
    `object` Istio's path of the object that it comes from, empty where there is none. `downstream` and `local` are the
    two ends of the connection that the request came by, `upstream` and
    `upstream_local` those of the one that it left by, as `127.0.0.1:20000`.
    `status` is None where nobody was answered. `started` is in seconds since 1970.
    """

    envoy: str
    is_try: bool
    request_id: str
    method: str
    authority: str
    path: str
    headers: Mapping[str, str]
    routes: str
    route: str
    object: str
    cluster: str
    status: int | None
    flags: tuple[str, ...]
    details: str
    started: float
    milliseconds: float
    tries: int
    upstream: str
    downstream: str
    local: str
    peer_identity: str
    is_tls: bool
    #: The rule of an AuthorizationPolicy that let the request through, as `ns[default]-policy[a]-rule[0]`.
    allowed_by: str = ""
    upstream_local: str = ""
    #: How long whoever it went to had it.
    upstream_milliseconds: float = 0.0
    tls_failure: str = ""
    downstream_tls_failure: str = ""

    @property
    def is_inbound(self) -> bool:
        """Return whether it is of what comes to a pod."""
        return is_inbound_name(self.routes or self.cluster)


def is_inbound_name(name: str) -> bool:
    """Return whether a cluster or RouteConfiguration is for what comes to a pod, by Istio's name for it."""
    return name.startswith(("inbound|", "InboundPassthroughCluster"))


def read_record(envoy: str, entry: Any) -> Record:
    """Return an entry of Envoy's access log (HTTPAccessLogEntry) as data."""
    common, request, response = entry.common_properties, entry.request, entry.response
    status = response.response_code.value if response.HasField("response_code") else 0
    return dataclasses.replace(
        _read_common(envoy, common),
        request_id=request.request_id,
        method=request.DESCRIPTOR.fields_by_name["request_method"]
        .enum_type.values_by_number[request.request_method]
        .name,
        authority=request.authority,
        path=request.original_path or request.path,
        headers={name.lower(): value for name, value in request.request_headers.items()},
        status=status or None,
        details=response.response_code_details,
    )


def read_connection(envoy: str, entry: Any) -> Record:
    """Return an entry of Envoy's access log of connections (TCPAccessLogEntry) as data; nothing in it is of HTTP."""
    return _read_common(envoy, entry.common_properties)


def _read_common(envoy: str, common: Any) -> Record:
    peer = common.tls_properties.peer_certificate_properties
    kind = common.DESCRIPTOR.fields_by_name["access_log_type"].enum_type.values_by_number[common.access_log_type].name
    tags = dict(common.custom_tags)
    return Record(
        envoy=envoy,
        is_try=kind in _UPSTREAM,
        request_id="",
        method="",
        authority="",
        path="",
        headers={},
        routes=tags.get(ROUTES_TAG, ""),
        route=common.route_name,
        object=tags.get(OBJECT_TAG, ""),
        cluster=name_of_original(common.upstream_cluster or tags.get(CLUSTER_TAG, "")),
        status=None,
        flags=short_flags(common.response_flags),
        details=common.connection_termination_details,
        started=common.start_time.seconds + common.start_time.nanos / 1e9,
        milliseconds=_milliseconds(common.duration),
        tries=common.upstream_request_attempt_count,
        upstream=_address(common.upstream_remote_address),
        downstream=_address(common.downstream_direct_remote_address),
        local=_address(common.downstream_local_address),
        peer_identity=next((each.uri for each in peer.subject_alt_name if each.uri), ""),
        allowed_by=_allowed_by(common.metadata.filter_metadata),
        upstream_local=_address(common.upstream_local_address),
        upstream_milliseconds=max(
            0.0,
            _milliseconds(common.time_to_last_upstream_rx_byte) - _milliseconds(common.time_to_first_upstream_tx_byte),
        ),
        is_tls=common.HasField("tls_properties") and bool(common.tls_properties.tls_version),
        tls_failure=common.upstream_transport_failure_reason,
        downstream_tls_failure=common.downstream_transport_failure_reason,
    )


def _allowed_by(metadata: Any) -> str:
    """Return what the filter says that decides who may call."""
    found = dict(metadata["envoy.filters.http.rbac"]) if "envoy.filters.http.rbac" in metadata else {}
    allowed = found.get("enforced_engine_result") == "allowed"
    return str(found.get("enforced_effective_policy_id", "")) if allowed else ""


def _milliseconds(duration: Any) -> float:
    return float(duration.seconds * 1000 + duration.nanos / 1e6)


def _address(address: Any) -> str:
    at = address.socket_address
    return f"{at.address}:{at.port_value}" if at.address else ""


def _without_mark(request_id: str) -> str:
    """Return an id as it is where no Envoy has marked it."""
    is_marked = len(request_id) == _UUID_LENGTH and request_id[_MARK_AT] in _MARKS
    return f"{request_id[:_MARK_AT]}{_NO_MARK}{request_id[_MARK_AT + 1 :]}" if is_marked else request_id


class Records:
    """The records of the last requests, by their x-request-id.

    What the Envoys log is kept as it came, and read when somebody asks: most of it nobody ever asks for.
    """

    def __init__(self, most_calls: int = MOST_CALLS, most_bytes: int = MOST_BYTES) -> None:
        self._most_calls = most_calls
        self._most_bytes = most_bytes
        self._unread: deque[tuple[str, bytes]] = deque()
        self._unread_bytes = 0
        self._kept: OrderedDict[str, list[tuple[str, bytes]]] = OrderedDict()
        self._connections: deque[tuple[str, bytes]] = deque(maxlen=_MOST_CONNECTIONS)
        self._changed = threading.Condition()
        entries = api("envoy.data.accesslog.v3.accesslog_pb2")
        self._message_type = api("envoy.service.accesslog.v3.als_pb2").StreamAccessLogsMessage
        self._entry_type, self._connection_type = entries.HTTPAccessLogEntry, entries.TCPAccessLogEntry

    def hear(self, envoy: str, message: bytes) -> None:
        """Take a message of an Envoy (StreamAccessLogsMessage); the oldest one goes where nobody reads for long."""
        with self._changed:
            self._unread.append((envoy, message))
            self._unread_bytes += len(message)
            while self._unread_bytes > self._most_bytes:
                self._unread_bytes -= len(self._unread.popleft()[1])
            self._changed.notify_all()

    def of(self, request_id: str) -> list[Record]:
        """Return what there is of one request."""
        with self._changed:
            self._sort()
            entries = list(self._kept.get(_without_mark(request_id), ()))
        return self._read(entries)

    def id_of(self, downstream: str) -> str | None:
        """Return the x-request-id of the request that came by a connection just now, by the caller's end of it."""
        with self._changed:
            self._sort()
            recent = [(key, list(self._kept[key])) for key in itertools.islice(reversed(self._kept), _RECENT)]
        for request_id, entries in recent:
            if any(each.downstream == downstream and not each.is_try for each in self._read(entries)):
                return request_id
        return None

    def wait(
        self, request_id: str, is_complete: Callable[[list[Record]], bool], *, settle_seconds: float, seconds: float
    ) -> list[Record]:
        """Return the records of a request when they are complete and no more have come for a while, or time is over."""
        records: list[Record] = []
        with self._changed:
            self._sort()  # which may take its time after many calls
            now = time.monotonic()
            deadline, settled_at = now + seconds, now + settle_seconds
            while True:
                self._sort()
                entries, now = self._kept.get(_without_mark(request_id), []), time.monotonic()
                if len(entries) != len(records):
                    records, settled_at = self._read(entries), now + settle_seconds
                wake_at = min(deadline, settled_at) if is_complete(records) else deadline
                if now >= wake_at:
                    return records
                self._changed.wait(wake_at - now)

    def wait_connection(
        self, downstream: str, is_complete: Callable[[list[Record]], bool], *, seconds: float
    ) -> list[Record]:
        """Return the records of a connection by which no HTTP went, by the caller's end of it, and of those behind it.

        They come when it has ended; in the order in which it went on, when they are complete or time is over.
        """
        deadline, read = time.monotonic() + seconds, self._connection_type.FromString
        with self._changed:
            while True:
                self._sort()
                known = (read_connection(envoy, read(data)) for envoy, data in self._connections)
                ends = {each.downstream: each for each in known}
                records, end = [], downstream
                while end in ends:
                    records.append(ends.pop(end))
                    end = records[-1].upstream_local
                if is_complete(records) or time.monotonic() >= deadline:
                    return records
                self._changed.wait(deadline - time.monotonic())

    def _sort(self) -> None:
        """Put what nobody has read yet to its requests; the oldest request goes where there are too many."""
        for envoy, data in self._unread:
            message = self._message_type.FromString(data)
            self._connections += [(envoy, entry.SerializeToString()) for entry in message.tcp_logs.log_entry]
            for entry in message.http_logs.log_entry:
                if request_id := _without_mark(entry.request.request_id):
                    entries = self._kept.setdefault(request_id, [])
                    entries.append((envoy, entry.SerializeToString()))
                    del entries[:-_MOST_RECORDS]
                    if len(self._kept) > self._most_calls:
                        self._kept.popitem(last=False)
        self._unread.clear()
        self._unread_bytes = 0

    def _read(self, entries: Iterable[tuple[str, bytes]]) -> list[Record]:
        return [read_record(envoy, self._entry_type.FromString(data)) for envoy, data in entries]
