"""What can be called in the mesh, and by which policy (pilot/pkg/model/destination_rule.go of Istio)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from meshdemo.lab.cluster.model import ENDPOINTS, Cluster, Service, ServicePort
from meshdemo.lab.files.documents import shown
from meshdemo.lab.files.kinds import NAMESPACE
from meshdemo.lab.quick.rules.destinations import Endpoint, Hashing, Host, HostPolicy, HostPort, Subset, TrafficPolicy
from meshdemo.lab.quick.rules.hosts import is_wildcard, specificity, subset_of
from meshdemo.lab.quick.rules.model import Destination
from meshdemo.lab.quick.rules.refusing import MissingError, UnsupportedError, missing, refused

_DOMAIN = f"{NAMESPACE}.svc.cluster.local"
_OTHER_NAMESPACE = f"the quick engine has no namespace but {NAMESPACE}"
#: What to do where a host is not known because the application's own Services are missing.
NO_SERVICE = "there is no Service at all: add -f k8s/example.yaml"


@dataclass(frozen=True)
class Registry:
    """All hosts by name, and the policies for them that the pods of a namespace see."""

    hosts: Mapping[str, Host]
    policies: tuple[HostPolicy, ...]
    has_services: bool

    def seen_from(self, namespace: str) -> Registry:
        """Return what pods of a namespace see: what is not exported stays in its own."""
        if namespace == NAMESPACE:
            return self
        return dataclasses.replace(
            self,
            hosts={name: host for name, host in self.hosts.items() if not host.is_private},
            policies=tuple(policy for policy in self.policies if not policy.is_private),
        )

    def ports(self) -> list[int]:
        """Return all port numbers where HTTP is spoken."""
        return sorted({port.number for host in self.hosts.values() for port in host.ports})

    def policy_for(self, host: str) -> HostPolicy | None:
        """Return the policy for a host: all of the most specific name together, the first by name counting.

        Subsets of the same name and a second trafficPolicy are left out (PushContext.mergeDestinationRule).
        """
        names = {policy.host for policy in self.policies if subset_of(host, policy.host)}
        if not names:
            return None
        name = min(names, key=specificity)
        rules = sorted((policy for policy in self.policies if policy.host == name), key=lambda policy: policy.name)
        if len({rule.is_private for rule in rules}) > 1:
            raise refused(f"{rules[-1].place}.exportTo", f"is not that of {rules[0].name}, for the same host")
        subsets: dict[str, Subset] = {}
        for subset in (subset for rule in rules for subset in rule.subsets):
            subsets.setdefault(subset.name, subset)
        policy = next((rule.policy for rule in rules if rule.policy is not None), None)
        return dataclasses.replace(rules[0], policy=policy, subsets=tuple(subsets.values()))

    def check(self, destination: Destination) -> None:
        """Raise ManifestError where a destination does not exist."""
        place = destination.place.rpartition(".")[0]
        host = self.find(destination.host, destination.place)
        if destination.port is not None and host.port(destination.port) is None:
            known = ", ".join(str(port.number) for port in host.ports)
            problem = f"{short_name(destination.host)} has no port {destination.port}, only {known}"
            raise MissingError(f"{place}.port", problem)
        if destination.subset:
            policy = self.policy_for(destination.host)
            names = [subset.name for subset in policy.subsets] if policy else []
            if destination.subset not in names:
                problem = f"no DestinationRule for {short_name(destination.host)} defines the subset"
                raise missing(f"{place}.subset", problem, destination.subset, names)
            self._check_subset(host, destination.subset)

    def _check_subset(self, host: Host, name: str) -> None:
        """Raise ManifestError where calls are sent to a subset that nothing is in, though something is behind the host.

        A subset that nothing is sent to may be empty: the files of an application define those of all its versions.
        """
        policy = self.policy_for(host.name)
        rules = [each for each in self.policies if policy and each.host == policy.host]
        for rule in sorted(rules, key=lambda each: each.name):
            for index, subset in ((index, subset) for index, subset in enumerate(rule.subsets) if subset.name == name):
                endpoints = [endpoint for port in host.ports for endpoint in port.endpoints]
                if endpoints and not any(_has(endpoint, subset.labels) for endpoint in endpoints):
                    known = [text for each in endpoints for text in _label_texts(each.labels)]
                    wanted = ", ".join(_label_texts(subset.labels))
                    problem = f"nothing behind {short_name(rule.host)} has the labels"
                    raise missing(f"{rule.place}.subsets[{index}].labels", problem, wanted, known)
                return

    def find(self, name: str, place: str) -> Host:
        """Return a host, or raise ManifestError."""
        try:
            return self.hosts[name]
        except KeyError:
            pass
        short, service = short_name(name), f"{name.partition('.')[0]}.{_DOMAIN}"
        if not self.has_services:
            raise MissingError(place, f"no Service or ServiceEntry has the host {shown(short)}; {NO_SERVICE}")
        if "." in short and service in self.hosts:
            problem = f"{shown(short)} is no Service, since Istio completes no name that has a dot"
            raise MissingError(place, f"{problem}: write {short_name(service)}, or {service}")
        raise missing(place, "no Service or ServiceEntry has the host", short, map(short_name, self.hosts))

    def port_of(self, destination: Destination, called: int, *, at_gateway: bool) -> int:
        """Return the port of a destination (route.go, GetDestinationCluster).

        A sidecar knows only the hosts of the port that is called, so that it takes no other, even where there is none.
        """
        if destination.port is not None:
            return destination.port
        host = self.hosts.get(destination.host)
        return host.ports[0].number if host and at_gateway and len(host.ports) == 1 else called

    def hashing_for_host(self, host: str, port: int) -> Hashing | None:
        """Return how calls of a host without rules are hashed (route.go, hashForService)."""
        policy = self.policy_for(host)
        top = policy.policy if policy else None
        if top is None:
            return None
        return _hashing(top.ports.get(port)) or _hashing(top)

    def hashing_for(self, destination: Destination) -> Hashing | None:
        """Return how calls of a rule's destination are hashed (route.go, HashForHTTPDestination)."""
        policy = self.policy_for(destination.host) if destination.host in self.hosts else None
        if policy is None:
            return None
        subset = next((each.policy for each in policy.subsets if each.name == destination.subset), None)
        levels = (
            _at_port(subset, destination.port),
            subset,
            _at_port(policy.policy, destination.port),
            policy.policy,
        )
        return next((hashing for level in levels if (hashing := _hashing(level))), None)


def _hashing(policy: TrafficPolicy | None) -> Hashing | None:
    return policy.balancing.hashing if policy and policy.balancing else None


def _at_port(policy: TrafficPolicy | None, port: int | None) -> TrafficPolicy | None:
    return policy.ports.get(port) if policy and port is not None else None


def effective(policy: TrafficPolicy | None, port: int) -> TrafficPolicy | None:
    """Return the policy at a port: its own settings replace all others (util.go, GetPortLevelTrafficPolicy)."""
    return policy.ports.get(port, policy) if policy else None


def merged(policy: TrafficPolicy | None, subset: TrafficPolicy | None, port: int) -> TrafficPolicy | None:
    """Return a subset's policy at a port on top of its host's (util.go, MergeSubsetTrafficPolicy)."""
    base = effective(policy, port)
    if subset is None or base is None:
        return base if subset is None else effective(subset, port)
    own = subset.ports.get(port)
    if own is not None:
        return dataclasses.replace(own, retry_budget=base.retry_budget)
    return TrafficPolicy(
        pool=subset.pool or base.pool,
        outliers=subset.outliers or base.outliers,
        balancing=subset.balancing or base.balancing,
        retry_budget=subset.retry_budget or base.retry_budget,
    )


def service_hosts(cluster: Cluster) -> Iterator[Host]:
    """Yield the Services as hosts; `unsupported_parts` says which this engine cannot have."""
    for service in cluster.services:
        full, short = service.host, service.name
        names = (full, f"{full}.", short, f"{short}.{NAMESPACE}.svc", f"{short}.{NAMESPACE}", service.address)
        ports = tuple(HostPort(port.number, _pods(cluster, service, port)) for port in service.ports)
        pods = [pod for port in service.ports for pod, _ in cluster.endpoints(service, port)]
        has_outsiders = not all(pod.in_mesh for pod in pods)
        yield Host(full, names, ports, prefers_near=service.prefers_near, has_outsiders=has_outsiders)


def unsupported_parts(cluster: Cluster) -> Iterator[UnsupportedError]:
    """Yield the errors for all but pods behind ports for plain HTTP in the one namespace that this engine has."""
    for service in cluster.services:
        spec = f"{service.place}: spec"
        if service.namespace != NAMESPACE:
            yield refused(f"{service.place}: metadata.namespace", _OTHER_NAMESPACE)
        if service.alias_of:
            yield refused(f"{spec}.type", "ExternalName is not supported by the quick engine")
        elif service.is_headless:
            yield refused(f"{spec}.clusterIP", "a headless Service is not supported by the quick engine")
        elif not service.selector and any(
            (each.group, each.kind) in ENDPOINTS and each.namespace == service.namespace for each in cluster.others
        ):
            yield refused(f"{spec}.selector", "endpoints of a Service's own are not supported by the quick engine")
        for name in service.annotations:
            if name.startswith("networking.istio.io/"):
                yield refused(f"{service.place}: metadata.annotations.{name}")
        for index, port in enumerate(service.ports):
            if port.protocol != "http" and not service.alias_of:
                said = f"but {shown(port.protocol)}" if port.protocol else "and this says nothing"
                yield refused(
                    f"{spec}.ports[{index}]", f"is not for http, which its name or appProtocol has to say, {said}"
                )
    for manifest in cluster.policies:
        if manifest.namespace != NAMESPACE:
            yield refused(f"{manifest.place}: metadata.namespace", _OTHER_NAMESPACE)
    for workload in cluster.workloads:
        if workload.namespace != NAMESPACE:
            yield refused(f"{workload.place}: metadata.namespace", _OTHER_NAMESPACE)


def gateway_services(cluster: Cluster) -> Iterator[Host]:
    """Yield the Services before the gateways, which can be called from within the mesh as well."""
    for gateway in cluster.gateways:
        full = f"{gateway.service}.{gateway.namespace}.svc.cluster.local"
        domain = f"{gateway.service}.{gateway.namespace}"
        is_near = gateway.namespace == NAMESPACE
        short = (gateway.service, f"{domain}.svc", domain) if is_near else (domain, f"{domain}.svc")
        ports = tuple(HostPort(port, (Endpoint(gateway.address, port, gateway.labels),)) for port in gateway.ports)
        yield Host(full, (full, f"{full}.", *short, gateway.service_address), ports)


def _pods(cluster: Cluster, service: Service, port: ServicePort) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(pod.address, number, pod.labels) for pod, number in cluster.endpoints(service, port))


def check_policy(policy: HostPolicy, registry: Registry) -> None:
    """Refuse a policy for a host that does not exist, which a typing mistake would make, and what is not exact here."""
    for host in registry.hosts.values():
        if host.has_outsiders and subset_of(host.name, policy.host) and _passes_through(policy):
            problem = f"PASSTHROUGH calls the pods of {short_name(host.name)} that are not in the mesh by TLS as well"
            raise refused(policy.place, problem)
    if not is_wildcard(policy.host):
        registry.find(policy.host, f"{policy.place}.host")


def _passes_through(policy: HostPolicy) -> bool:
    top = [policy.policy, *(subset.policy for subset in policy.subsets)]
    return any(each.passes_through for part in top if part for each in (part, *part.ports.values()))


def _label_texts(labels: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in labels.items()]


def short_name(host: str) -> str:
    """Return the name by which a host is usually called: that of a Service without namespace and domain."""
    return host.removesuffix(f".{_DOMAIN}")


def _has(endpoint: Endpoint, labels: Mapping[str, str]) -> bool:
    return labels.items() <= endpoint.labels.items()
