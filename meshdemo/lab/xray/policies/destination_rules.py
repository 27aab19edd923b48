"""Which DestinationRule a call came under, and what it says there.

Which one counts for a caller is Istio's decision (pilot/pkg/model/push_context.go, destinationRule); it writes the name
into the metadata of each cluster, and nothing else is believed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from meshdemo.lab.cluster.pods import matches
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.xray.facts.scene import Scene, Target, full_host, short_host


@dataclass(frozen=True)
class DestinationPolicy:
    """The DestinationRule of a cluster, `owner`, and all that Istio merges into one with it, in the order of `parts`.

    `parts` is empty where it cannot be said how they are merged.
    """

    owner: Manifest
    parts: tuple[Manifest, ...]

    def subsets(self) -> dict[str, dict[str, Any]]:
        """Return the subsets by name; of two of the same name the first counts."""
        found: dict[str, dict[str, Any]] = {}
        for part in self.parts:
            for subset in part.spec.get("subsets") or []:
                found.setdefault(str(subset.get("name")), subset)
        return found

    def source_of(self, subset: str | None) -> Manifest:
        """Return the object that defines a subset, or the first that says something of all of them."""
        for part in self.parts:
            if any(each.get("name") == subset for each in part.spec.get("subsets") or []):
                return part
        return next((part for part in self.parts if part.spec.get("trafficPolicy")), self.owner)

    def traffic(self, target: Target) -> dict[str, Any]:
        """Return the trafficPolicy that holds for a destination (networking/util, MergeSubsetTrafficPolicy)."""
        own, of_host = self._policies(target)
        host, _ = _at_port(of_host, target.port)
        subset, is_of_port = _at_port(own, target.port)
        return subset if is_of_port else {**host, **subset}

    def tls_mode(self, target: Target) -> str | None:
        """Return how a destination is called, None where no object says so.

        DISABLE holds for endpoints even where the settings of a port say nothing of TLS (Istio, mtlsChecker).
        """
        levels = [level for each in self._policies(target) for level in (_at_port(each, target.port)[0], each)]
        modes = [tls.get("mode", "DISABLE") for level in levels if (tls := level.get("tls")) is not None]
        said = self.traffic(target).get("tls")
        return modes[0] if said is not None or modes[:1] == ["DISABLE"] else None

    def _policies(self, target: Target) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the trafficPolicy of a destination's subset and that of its host, as they stand."""
        policies = (part.spec.get("trafficPolicy") for part in self.parts)
        own = self.subsets().get(target.subset or "", {}).get("trafficPolicy") or {}
        return own, next(filter(None, policies), {})


def policy_for(scene: Scene, envoy: str, target: Target) -> DestinationPolicy | None:
    """Return the DestinationRule under which an Envoy calls a destination; None where it has none for it."""
    for subset in dict.fromkeys((target.subset or "", "")):
        cluster = scene.cluster_of(envoy, f"outbound|{target.port}|{subset}|{target.host}")
        if cluster is not None:
            return _policy_of(cluster, scene)
    return None


def why_missing(target: Target | None, envoy: str, scene: Scene) -> str:
    """Return why an Envoy has no cluster for a destination."""
    if target is None:
        return "the destination does not exist"
    host = short_host(target.host)
    policy = policy_for(scene, envoy, target)
    if target.subset and (policy or scene.cluster_of(envoy, f"outbound|{target.port}||{target.host}")):
        return _missing_subset(target, policy, envoy, scene)
    service = next((each for each in scene.cluster.services if each.host == target.host), None)
    if service is None:
        return f"there is no host {host}"
    if service.port(target.port) is None:
        return service.lack_of(target.port)
    limit = scene.sidecar_for(envoy)
    return f"{limit.label} does not let the sidecar know {host}" if limit else f"{envoy} does not know {host}"


def _missing_subset(target: Target, policy: DestinationPolicy | None, envoy: str, scene: Scene) -> str:
    """Return which DestinationRule lacks a subset, and which has it and does not count."""
    host, namespace = short_host(target.host), scene.namespace(envoy)
    others = [
        each
        for each in scene.policies("DestinationRule")
        if _host(each) == target.host
        and any(one.get("name") == target.subset for one in each.spec.get("subsets") or [])
    ]
    if policy is None:
        reason = f"no DestinationRule defines the subset {target.subset} of {host}"
    else:
        known = ", ".join(sorted(policy.subsets()))
        only = f", only {known}" if known else ": it has none"
        reason = f"{policy.owner.label} has no subset {target.subset} of {host}{only}"
    if not others:
        return reason
    if policy is None:
        reason = (
            f"no DestinationRule that counts for callers in {namespace} defines the subset {target.subset} of {host}"
        )
    name = others[0].label
    if policy and policy.owner.namespace == namespace != others[0].namespace:
        return f"{reason}; {name} has it, but one in the caller's namespace, {namespace}, comes first"
    return f"{reason}; {name} has it, and does not count here"


def why_nobody(target: Target | None, policy: DestinationPolicy | None, scene: Scene) -> str:
    """Return why no pod of a destination takes calls."""
    if target is None:
        return "nobody takes calls there"
    host = short_host(target.host)
    labels = (policy.subsets() if policy else {}).get(target.subset or "", {}).get("labels") or {}
    service = next((each for each in scene.cluster.services if each.host == target.host), None)
    if service is None:
        return f"nothing takes calls for {host}"
    near = (pod for pod in scene.cluster.pods if pod.namespace == service.namespace)
    behind = [pod for pod in near if service.selector and matches(pod.labels, service.selector)]
    if not behind:
        return f"the Service {host} selects no pod"
    if labels and not any(matches(pod.labels, labels) for pod in behind):
        words = ",".join(f"{name}={value}" for name, value in labels.items())
        return f"no pod of {host} has the labels of subset {target.subset}, {words}"
    which = f" in subset {target.subset}" if target.subset else ""
    return f"no pod of {host}{which} takes calls: none is ready, or outlier detection has ejected it"


def _policy_of(cluster: dict[str, Any], scene: Scene) -> DestinationPolicy | None:
    path = str(cluster.get("metadata", {}).get("filter_metadata", {}).get("istio", {}).get("config", ""))
    rules = scene.policies("DestinationRule")
    owner = next((each for each in rules if path.endswith(f"/{each.namespace}/destination-rule/{each.name}")), None)
    if owner is None:
        return None
    same = [each for each in rules if each.namespace == owner.namespace and _host(each) == _host(owner)]
    # Those of other callers are merged in part, or not at all.
    is_clear = all(_callers(each) == _callers(owner) for each in same)
    parts = sorted(same, key=lambda each: (each is not owner, each.name)) if is_clear else ()
    return DestinationPolicy(owner, tuple(parts))


def _at_port(policy: dict[str, Any], port: int) -> tuple[dict[str, Any], bool]:
    """Return what holds at a port, and whether that is its own: then nothing of the rest does."""
    for each in policy.get("portLevelSettings") or []:
        if (each.get("port") or {}).get("number") == port:
            return each, True
    return policy, False


def _host(rule: Manifest) -> str:
    return full_host(str(rule.spec.get("host")), rule.namespace)


def _callers(rule: Manifest) -> tuple[Any, Any]:
    return sorted(rule.spec.get("exportTo") or []), rule.spec.get("workloadSelector")
