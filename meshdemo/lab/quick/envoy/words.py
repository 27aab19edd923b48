"""Words of Envoy's API that more than one of its resources has."""

from __future__ import annotations

from typing import Any

from meshdemo.lab.quick.rules.model import Share, StringMatch

TYPE = "type.googleapis.com/"
FAULT = "envoy.filters.http.fault"
CORS = "envoy.filters.http.cors"
FAULT_TYPE = f"{TYPE}envoy.extensions.filters.http.fault.v3.HTTPFault"
#: Where resources come from by name.
ADS = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}


def duration(seconds: float) -> str:
    """Return seconds as Envoy's JSON writes a duration: 0, 3, 6 or 9 digits after the point."""
    nanoseconds = round(seconds * 1e9)
    whole, rest = divmod(nanoseconds, 10**9)
    digits = f"{rest:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{whole}.{digits}s" if digits else f"{whole}s"


def without_empty(values: dict[str, Any]) -> dict[str, Any]:
    """Return what is given: protobuf's JSON leaves out what is None, false, 0 or empty."""
    return {name: value for name, value in values.items() if value not in (None, False, 0, "", [], ())}


def cluster_name(host: str, port: int, subset: str) -> str:
    """Return Istio's name of a cluster (model.BuildSubsetKey)."""
    return f"outbound|{port}|{subset}|{host}"


def address(host: str, port: int) -> dict[str, Any]:
    """Return an address."""
    return {"socket_address": {"address": host, "port_value": port}}


def share(part: Share) -> dict[str, Any]:
    """Return a share, in millionths cut off as Istio does it (route.go, translatePercentToFractionalPercent)."""
    if part.is_whole:
        return without_empty({"numerator": int(part.percent)})
    return {**without_empty({"numerator": int(part.percent * 10_000)}), "denominator": "MILLION"}


def string_matcher(match: StringMatch) -> dict[str, Any]:
    """Return what a text has to be."""
    return {"safe_regex": {"regex": match.value}} if match.kind == "regex" else {match.kind: match.value}
