"""Which headers go where; all names in small letters."""

from __future__ import annotations

#: Headers that an application has to copy for the spans of a trace to join, by the systems that Istio and Envoy
#: support (Istio, "Distributed Tracing FAQ: what headers must be propagated"), and the one that lessons route by.
FORWARDED_HEADERS = (
    "x-request-id",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-ot-span-context",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "sw8",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "end-user",
)

#: What goes along when a redirect leads to another origin: nothing that was meant for the first one alone.
SAFE_HEADERS = frozenset({*FORWARDED_HEADERS, "accept", "via"})
#: What describes a body, beside headers that begin with content- (RFC 9110, 15.4; RFC 9530).
BODY_HEADERS = frozenset({"digest", "last-modified", "repr-digest"})
#: Headers of an answer that are shown to nobody: with them one could act as somebody else.
CREDENTIALS = frozenset(
    {
        "authentication-info",
        "authorization",
        "cookie",
        "proxy-authentication-info",
        "proxy-authorization",
        "set-cookie",
        "set-cookie2",
    }
)
