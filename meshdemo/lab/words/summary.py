"""What a lab says: what starts, what runs, which policies are in force, and what an edit has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshdemo.escaping import printable
from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.engine import Configuration, NotInForce
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.files.sources import shown_path
from meshdemo.lab.quick.precedence import find_not_in_force
from meshdemo.lab.words.differences import describe_change
from meshdemo.lab.words.wording import describe

_LONGEST_WORDS = 300
# More workloads than this are not named at once: all are when they run.
_MOST_COUNTED = 12
# A proxy is told at its start where Services are.
_OF_PODS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Rollout", "Pod", "Service")


@dataclass(frozen=True)
class Change:
    """What an edit did to one object: `text` for the terminal, `label` for the page, and whether pods may change.

    The label of what is rolled out is short, since it is said more than once. `object` tells it from others.
    """

    text: str
    label: str
    moves_pods: bool
    object: tuple[str, str, str, str]


def starting(cluster: Cluster) -> str:
    """Return the line that is said at once."""
    workloads, pods, gateways = cluster.workloads, len(cluster.pods), len(cluster.gateways)
    counts = ", ".join(f"{workload.replicas} {workload.name}" for workload in workloads)
    if len(workloads) > _MOST_COUNTED:
        counts = f"of {len(workloads)} workloads"
    names = [workload.name for workload in workloads if workload.stands_in]
    which = ", ".join(names)
    if len(names) == len(workloads):
        which = "all"
    elif len(names) > _MOST_COUNTED:
        which = f"{len(names)} of them"
    parts = [f"starting {pods} pod{'s' * (pods != 1)} ({counts})"]
    parts += [f" and {gateways} gateway{'s' * (gateways > 1)}"] if gateways else []
    parts += [f", with stand-ins for the images of {which}"] if names else []
    return f"{''.join(parts)} ..."


def policies(cluster: Cluster, configuration: Configuration) -> list[str]:
    """Return the policies in words, `VirtualService/webserver: 75 % v1, 25 % v2`, and what of them is not in force."""
    lines = []
    known = _not_in_force(cluster, configuration)
    for manifest in cluster.policies:
        without = {each.part: each.reason for each in known if each.policy == manifest.id}
        rules = [str(rule) for rule in describe(manifest)]
        for index, rule in enumerate(rules):
            reason = without.pop(f"spec.http[{index}]", None)
            if reason:
                rules[index] = f"not in force, since {reason}: {rule}"
        whole = without.pop("", None)
        state = [f"not in force, since {whole}"] if whole else []
        state += [f"{part} is not in force, since {reason}" for part, reason in without.items()]
        words = ": ".join(filter(None, ("; ".join(state), "; ".join(rules))))
        lines.append(f"{manifest.label}: {_cut(words)}" if words else manifest.label)
    return lines


def without_force(cluster: Cluster, configuration: Configuration) -> dict[tuple[str, str, str, str], str]:
    """Return the policies that are not in force at all, by what tells them apart, with the reasons."""
    return {each.policy: each.reason for each in _not_in_force(cluster, configuration) if not each.part}


def _not_in_force(cluster: Cluster, configuration: Configuration) -> list[NotInForce]:
    return [*configuration.not_in_force, *find_not_in_force(cluster)]


def changes(before: Sequence[Manifest], after: Sequence[Manifest]) -> list[Change]:
    """Return what is different, object by object, with what a change has replaced by what."""
    old = {manifest.id: manifest for manifest in before}
    new = {manifest.id: manifest for manifest in after}
    found = []
    for key in dict.fromkeys((*old, *new)):
        manifest = new.get(key) or old[key]
        difference = ""
        if key not in new:
            verb = "removed"
        elif key not in old:
            verb = "added"
        elif old[key].document != new[key].document:
            verb = "changed"
            difference = f" ({_cut(describe_change(old[key], new[key]))})"
        else:
            continue
        label, moves_pods = f"{manifest.label} {verb}", manifest.kind in _OF_PODS
        text = f"{shown_path(manifest.path)}: {label}{difference}"
        found.append(Change(text, label if moves_pods else f"{label}{difference}", moves_pods, key))
    return found


def example_call(cluster: Cluster) -> str | None:
    """Return a command that calls a Service by HTTP from another workload, the first that a policy names.

    None where no Service leads to a pod so.
    """
    named = {host for manifest in cluster.policies for host in _hosts(manifest)}
    found = [
        (service, port, {pod.workload for pod, _ in cluster.endpoints(service, port)})
        for service in cluster.services
        for port in service.ports
        if not port.is_for_tcp and cluster.endpoints(service, port)
    ]
    if not found:
        return None
    service, port, behind = min(found, key=lambda each: not named & set(each[0].short_names))
    caller = min(
        (each for each in cluster.workloads if each.replicas),
        key=lambda each: (each.name in behind, not each.template.in_mesh, each.namespace != service.namespace),
    )
    number = "" if port.number == 80 else f":{port.number}"
    return f"meshdemo call --from {caller.name} http://{service.names_from(caller.namespace)[0]}{number}/"


def _hosts(manifest: Manifest) -> list[str]:
    """Return the hosts that a policy for traffic is for."""
    spec = manifest.spec
    parents = [each.get("name") for each in spec.get("parentRefs") or [] if each.get("kind") == "Service"]
    return [str(each) for each in (*(spec.get("hosts") or []), spec.get("host"), *parents) if each]


def _cut(words: str) -> str:
    words = printable(words)
    return words if len(words) <= _LONGEST_WORDS else words[:_LONGEST_WORDS] + " ..."
