"""The control plane of the lab: a gRPC server that every Envoy takes its configuration from, and that it logs to.

It speaks ADS in its state-of-the-world form (Envoy, "xDS REST and gRPC protocol"): each Envoy asks for kinds of
resources on one stream, gets what has changed of them, and acknowledges each response or says why it refuses it.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from meshdemo.lab.engine import Resource
from meshdemo.lab.envoy.xds.access_log import CONTROL_PLANE
from meshdemo.lab.envoy.xds.messages import URLS, Snapshot, api
from meshdemo.lab.envoy.xds.subscriber import COMPLETE, Stream, Subscriber, Subscription

#: How a resource says that what it refers to comes from here.
ADS: Resource = {"ads": {}, "resource_api_version": "V3"}
_DISCOVERY_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_LOG_SERVICE = "envoy.service.accesslog.v3.AccessLogService"
# The metadata by which an Envoy says which one it is.
_KEY = "meshdemo-envoy"
# Longer than any sound Envoy takes on a busy machine; one that does not answer holds up no edit any further.
_ANSWER_SECONDS = 5.0
_LOOK_UP_SECONDS = 0.3
# An Envoy that hangs is found within this time, and counts as not there.
_KEEPALIVE = [
    ("grpc.keepalive_time_ms", 2000),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
# Each Envoy has two streams, and a new one may begin before the one before has ended. Threads are made as needed.
_MOST_STREAMS = 512
_KINDS = {url: kind for kind, url in URLS.items()}
# What is no part of the reason of a refusal.
_NOISE = re.compile(r"^Error adding/updating \w+\(s\) |goo\.gle/\w+ +")


class EnvoyError(Exception):
    """Envoy did not start, refused a configuration, or ended; `str()` says why."""


class ControlPlane:
    """The server, on a Unix socket in `folder`, which nobody but the user may open."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "control-plane"
        self._subscribers: dict[str, Subscriber] = {}
        self._answers = threading.Condition()
        self._nonces = itertools.count(1)
        #: Are called with the name of a pod or gateway and each message of its Envoy's access logs, as it came.
        self.hearers: list[Callable[[str, bytes], object]] = []
        discovery = api("envoy.service.discovery.v3.discovery_pb2")
        access_log = api("envoy.service.accesslog.v3.als_pb2")
        self._cluster_type = api("envoy.config.cluster.v3.cluster_pb2").Cluster
        self._response_type = discovery.DiscoveryResponse
        self._log_message_type = access_log.StreamAccessLogsMessage
        self._log_response_type = access_log.StreamAccessLogsResponse
        serve = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=discovery.DiscoveryRequest.FromString,
            response_serializer=discovery.DiscoveryResponse.SerializeToString,
        )
        hear = grpc.stream_unary_rpc_method_handler(
            self._hear_log,  # what it hears stays as it comes: nobody may ask for it
            response_serializer=access_log.StreamAccessLogsResponse.SerializeToString,
        )
        self._server = grpc.server(ThreadPoolExecutor(_MOST_STREAMS), options=_KEEPALIVE)
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(_DISCOVERY_SERVICE, {"StreamAggregatedResources": serve}),
                grpc.method_handlers_generic_handler(_LOG_SERVICE, {"StreamAccessLogs": hear}),
            )
        )
        self._server.add_insecure_port(f"unix:{self._socket}")
        self._server.start()
        self._socket.chmod(0o600)

    def close(self) -> None:
        """End the server."""
        self._server.stop(0).wait()

    def bootstrap(self, subscriber: Subscriber) -> Resource:
        """Return the parts of an Envoy's bootstrap that connect it."""
        protocol = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        options = {"@type": f"type.googleapis.com/{protocol}", "explicit_http_config": {"http2_protocol_options": {}}}
        endpoint = {"endpoint": {"address": {"pipe": {"path": str(self._socket)}}}}
        cluster = {
            "name": CONTROL_PLANE,
            "type": "STATIC",
            "typed_extension_protocol_options": {protocol: options},
            "load_assignment": {"cluster_name": CONTROL_PLANE, "endpoints": [{"lb_endpoints": [endpoint]}]},
        }
        retry = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}}
        service = {
            "envoy_grpc": {"cluster_name": CONTROL_PLANE, "retry_policy": retry},
            "initial_metadata": [{"key": _KEY, "value": subscriber.key}],
        }
        ads = {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [service]}
        return {
            "node": {"id": subscriber.name, "cluster": "meshdemo"},
            "static_resources": {"clusters": [cluster]},
            "dynamic_resources": {"ads_config": ads, "lds_config": ADS, "cds_config": ADS},
        }

    def add(self, key: str, name: str) -> Subscriber:
        """Return a new subscriber; `key` tells it from all others, `name` is that of its pod or gateway."""
        with self._answers:
            self._subscribers[key] = Subscriber(key, name)
            return self._subscribers[key]

    def remove(self, subscriber: Subscriber) -> None:
        """Forget a subscriber."""
        with self._answers:
            self._subscribers.pop(subscriber.key, None)

    def offer(self, offers: Mapping[Subscriber, Snapshot], *, is_between: bool = False) -> None:
        """Send Envoys what they are to have, without waiting; those that connect later get it then."""
        with self._answers:
            for subscriber, snapshot in offers.items():
                subscriber.offered, subscriber.is_between = snapshot, is_between
                self._send(subscriber)

    def change(self, offers: Mapping[Subscriber, Snapshot]) -> list[Subscriber]:
        """Put a change in force in all Envoys, or in none, and return those that do not answer.

        No call is lost by it: clusters come before what refers to them, and go after it. Raise EnvoyError with the
        reason of one that refuses it; then all have what they had before.
        """
        former = {subscriber: subscriber.offered for subscriber in offers}
        try:
            for last in (former, offers):
                step = {each: _staged(former[each], new, last[each]) for each, new in offers.items()}
                self._take(step, is_between=True)
            self._take(offers)
        except EnvoyError:
            # What listens goes back first, while all that it may refer to is still there.
            for part in ({each: _staged(each.offered, {}, former[each]) for each in offers}, former):
                self.offer(part, is_between=part is not former)
                self.wait(offers)
            raise
        return [each for each in offers if each.is_silent]

    def wait(self, subscribers: Iterable[Subscriber]) -> None:
        """Return when all have acknowledged or refused what they are to have; note those that have not in time.

        An Envoy acknowledges clusters when it has looked all their hosts up; nobody waits for a name server.
        """
        started = time.monotonic()
        with self._answers:
            waiting = {each for each in subscribers if not each.is_silent}
            while waiting := {
                each for each in waiting if each.is_connected and not each.is_current and not each.refusals
            }:
                self._answers.wait(_LOOK_UP_SECONDS)
                waited = time.monotonic() - started
                for each in waiting if waited > _LOOK_UP_SECONDS else ():
                    self._put_off(each)
                    each.is_silent = waited > _ANSWER_SECONDS
                waiting = {each for each in waiting if not each.is_silent}

    def _put_off(self, subscriber: Subscriber) -> None:
        """Do not wait for the clusters of one that looks hosts up."""
        clusters = subscriber.stream.subscriptions.get("clusters") if subscriber.stream else None
        if clusters and not clusters.is_answered and any(map(self._is_looked_up, clusters.sent.values())):
            clusters.is_put_off = True
            self._send(subscriber)

    def _is_looked_up(self, message: Any) -> bool:
        cluster = self._cluster_type()
        message.Unpack(cluster)
        return cluster.type in (cluster.STRICT_DNS, cluster.LOGICAL_DNS)

    def _take(self, offers: Mapping[Subscriber, Snapshot], *, is_between: bool = False) -> None:
        self.offer(offers, is_between=is_between)
        self.wait(offers)
        for subscriber in offers:
            for reason in subscriber.refusals.values():
                raise EnvoyError(f"Envoy does not accept this: {reason}")

    def _send(self, subscriber: Subscriber) -> None:
        """Send what has changed since it was sent last, of each kind one response at a time."""
        stream = subscriber.stream
        if stream is None:
            return
        for kind, url in URLS.items():
            subscription, offered = stream.subscriptions.get(kind), subscriber.offered[kind]
            if subscription is None or not (subscription.is_answered or subscription.is_put_off):
                continue
            wanted = (
                offered if kind in COMPLETE else {name: offered[name] for name in subscription.names & offered.keys()}
            )
            changed = {name: each for name, each in wanted.items() if subscription.sent.get(name) != each}
            is_complete = kind in COMPLETE and subscription.nonce and subscription.sent.keys() <= wanted.keys()
            if not changed and (is_complete or kind not in COMPLETE):
                continue
            if kind == "clusters" and changed and "endpoints" in stream.subscriptions:
                # A cluster that is replaced needs its endpoints again, and clusters are acknowledged after that.
                stream.subscriptions["endpoints"].sent = {}
            subscription.sent = dict(wanted)
            subscription.is_answered = subscription.is_put_off = False
            subscriber.refusals.pop(kind, None)
            subscription.nonce = str(next(self._nonces))
            stream.responses.put(
                self._response_type(
                    version_info=subscription.nonce,
                    nonce=subscription.nonce,
                    type_url=url,
                    resources=(wanted if kind in COMPLETE else changed).values(),
                )
            )

    def _serve(self, requests: Any, context: Any) -> Iterator[Any]:
        """Serve one Envoy."""
        key = dict(context.invocation_metadata()).get(_KEY, "")
        stream = Stream()
        with self._answers:
            subscriber = self._subscribers.get(key)
            if subscriber is not None:
                subscriber.stream, subscriber.refusals = stream, {}
        if subscriber is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such Envoy")
            raise RuntimeError("unreachable")

        def follow() -> None:
            with contextlib.suppress(grpc.RpcError):  # the stream has ended
                for request in requests:
                    self._hear_request(subscriber, stream, request)

        def end() -> None:
            stream.responses.put(None)
            with self._answers:
                if subscriber.stream is stream:
                    subscriber.stream = None
                self._answers.notify_all()

        if not context.add_callback(end):
            end()
        threading.Thread(target=follow, name=f"requests of {subscriber.name}", daemon=True).start()
        yield from iter(stream.responses.get, None)

    def _hear_request(self, subscriber: Subscriber, stream: Stream, request: Any) -> None:
        kind = _KINDS.get(request.type_url)
        if kind is None:
            return
        names = frozenset(request.resource_names)
        with self._answers:
            if subscriber.stream is not stream:
                return
            subscriber.is_silent = False
            subscription = stream.subscriptions.setdefault(kind, Subscription(names))
            if not subscription.is_answered and request.response_nonce == subscription.nonce:
                subscription.is_answered = True
                if request.HasField("error_detail"):
                    subscriber.refusals[kind] = _reason(request.error_detail.message)
            elif names == subscription.names:
                subscription.sent = {}  # it asks again for what it has
            elif kind not in COMPLETE:
                subscription.sent = {name: sent for name, sent in subscription.sent.items() if name in names}
            subscription.names = names
            self._send(subscriber)
            self._answers.notify_all()

    def _hear_log(self, messages: Any, _context: Any) -> Any:
        """Hear what one Envoy logs; the first message of a stream says which one it is."""
        name = ""
        with contextlib.suppress(grpc.RpcError):  # the stream has ended
            for message in messages:
                name = name or self._log_message_type.FromString(message).identifier.node.id
                for hear in self.hearers:
                    hear(name, message)
        return self._log_response_type()


def _staged(former: Snapshot, new: Snapshot, last: Snapshot) -> Snapshot:
    """Return what others refer to, former and new, with the listeners and routes of `last`."""
    both = {kind: {**former[kind], **new.get(kind, {})} for kind in ("clusters", "endpoints", "secrets")}
    return {**both, "listeners": last["listeners"], "routes": last["routes"]}


def _reason(message: str) -> str:
    return _NOISE.sub("", " ".join(message.split()))
