"""From files to what is to run: read, configured by an engine, and checked by Envoy itself."""

from __future__ import annotations

import dataclasses
import json
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from meshdemo.lab.cluster.model import Cluster, Gateway
from meshdemo.lab.cluster.options import DEFAULT_OPTIONS, ReadOptions
from meshdemo.lab.cluster.pods import Pod
from meshdemo.lab.cluster.workloads import addresses, read_cluster
from meshdemo.lab.engine import Configuration, Engine, Resources
from meshdemo.lab.envoy import node
from meshdemo.lab.envoy.certificates import Authority
from meshdemo.lab.envoy.credentials import check_texts, credentials
from meshdemo.lab.envoy.judge import Judge
from meshdemo.lab.envoy.original import needs_services
from meshdemo.lab.envoy.stand_in_secrets import StandInSecrets
from meshdemo.lab.envoy.standalone import SHOWN, TRUSTED, Secrets
from meshdemo.lab.envoy.xds.control_plane import EnvoyError
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.manifest import Manifest
from meshdemo.lab.files.manifests import Loader, Say, note_of, unheard
from meshdemo.lab.files.sources import given_paths, shown_path
from meshdemo.lab.xray.facts.naming import name_rules

# What is added to the name of a pod that another one of its name is to replace: no pod's number ends like this.
_FORMER = "former"


@dataclass(frozen=True)
class Files:
    """What the files say at one moment: their objects, the cluster that these make, and notes, a line each.

    `left_out` says what is wrong with the objects that are left out.
    """

    manifests: tuple[Manifest, ...]
    cluster: Cluster
    notes: tuple[str, ...]
    left_out: tuple[ManifestError, ...] = ()


@dataclass(frozen=True)
class State:
    """Files, and what an engine makes of them. `cluster` may have more pods: those that run (see `configure`)."""

    files: Files
    cluster: Cluster
    configuration: Configuration

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what there is to say, each line once: what is not applied, and the engine's advice."""
        lines = (*self.files.notes, *self.configuration.notes, *self.configuration.advice)
        return tuple(dict.fromkeys(lines))

    def resources(self, name: str) -> Resources | None:
        """Return what the Envoy of a pod or gateway gets, None for one without."""
        return self.configuration.resources.get(name)

    @property
    def pods(self) -> list[Pod]:
        """Return the pods that there are to be."""
        names = {pod.name for pod in self.files.cluster.pods}
        return [pod for pod in self.cluster.pods if pod.name in names]

    def resources_of(self, running: Pod) -> Resources | None:
        """Return what the Envoy of a running pod gets; None for one without, or that is not in this state."""
        found = next(
            (pod for pod in self.cluster.pods if pod.address == running.address and _is_same(pod, running)), None
        )
        return self.resources(found.name) if found else None


class Reader:
    """Reads the files again and again; `say` is told of one that takes long."""

    def __init__(
        self, paths: Sequence[Path], engine: Engine, say: Say = unheard, options: ReadOptions = DEFAULT_OPTIONS
    ) -> None:
        self.loader = Loader(paths, say, namespace=options.namespace, skip_invalid=options.skip_invalid)
        self._options = options
        self._engine = engine
        #: The names of pods from which somebody calls, whatever their programs do.
        self.callers: tuple[str, ...] = ()
        #: How often certificates were renewed.
        self.renewals = 0
        self._networks: dict[str, int] = {}
        self._authority = Authority()
        self._stand_ins = StandInSecrets()
        self._lock = threading.Lock()  # files are read in another thread than pods are started in

    def read(self) -> Files:
        """Read the files; raise ManifestError with the places of all problems."""
        with self._any_defect_said():
            manifests, notes = self.loader.load()
            return self._files(manifests, notes, self.loader.left_out)

    def _files(
        self, manifests: Sequence[Manifest], notes: Sequence[str], left_out: Sequence[ManifestError] = ()
    ) -> Files:
        """Return objects with the cluster that they make; raise ManifestError."""
        try:
            cluster = read_cluster(manifests, self._networks, self._options)
            check_texts(cluster)
            cluster = self._stand_ins.added_to(cluster)
        except ManifestError as error:
            kept = self._without_invalid(manifests, error)
            return self._files(kept, [*notes, *map(note_of, error.errors)], [*left_out, *error.errors])
        if not cluster.workloads:
            problem = "no Deployment, StatefulSet or Pod to run: add -f k8s/example.yaml"
            raise ManifestError(self._all_files(), "; ".join([problem, *self.loader.passed_over, *cluster.notes]))
        texts, namespace = tuple(self.loader.texts.items()), self._options.namespace
        cluster = dataclasses.replace(cluster, texts=texts, unnamed_namespace=namespace)
        return Files(tuple(manifests), cluster, (*notes, *cluster.notes), tuple(left_out))

    def _without_invalid(self, manifests: Sequence[Manifest], error: ManifestError) -> list[Manifest]:
        """Return the objects that an error is not about; raise it where all have to be."""
        places = [f"{each.place}: " for each in error.errors]
        kept = [each for each in manifests if not any(place.startswith(f"{each.place}: ") for place in places)]
        if not self._options.skip_invalid or len(kept) == len(manifests):
            raise error
        self.loader.locate(error)
        return kept

    def configure(self, files: Files, running: Iterable[Pod] = ()) -> State:
        """Return the state with its configuration; raise ManifestError.

        `running` are the pods that there are. One that differs from the pod of its name in the files, or that no file
        has any more, is there as well: it keeps its address, ports and identity until it has gone, as in Kubernetes.
        """
        running = tuple(running)
        pods = tuple(_with_running(files.cluster.pods, running))
        cluster = dataclasses.replace(files.cluster, pods=pods, callers=frozenset(self.callers))
        with self._any_defect_said():
            try:
                return State(files, cluster, self._configured(cluster))
            except ManifestError as error:
                kept = self._without_invalid(files.manifests, error)
                own = [note for note in files.notes if note not in files.cluster.notes]
                notes = [*own, *map(note_of, error.errors)]
                fewer = self._files(kept, notes, [*files.left_out, *error.errors])
        return self.configure(fewer, running)

    def _configured(self, cluster: Cluster) -> Configuration:
        """Let the engine configure a cluster whose rules all have names."""
        return self._engine.configure(dataclasses.replace(cluster, policies=name_rules(cluster.policies)))

    def secrets(self, of: Pod | Gateway, resources: Resources, cluster: Cluster) -> Secrets | None:
        """Return the certificates of a pod or gateway, None for one that needs none; raise ManifestError."""
        parts = [*resources.listeners, *resources.clusters]
        text = json.dumps(parts)
        if f'"{SHOWN}"' not in text and f'"{TRUSTED}"' not in text:
            return None
        account = of.service_account if isinstance(of, Pod) else of.account
        with self._lock:
            own = self._authority.secrets(of.namespace, account)
        return dataclasses.replace(own, named=credentials(parts, of.namespace, cluster))

    def renew_certificates(self) -> bool:
        """Return whether it was time to renew certificates: `secrets` are others from now on."""
        with self._lock:
            is_time = self._authority.renew()
        self.renewals += is_time
        return is_time

    def check(self, state: State, judge: Judge) -> None:
        """Let Envoy judge a state; raise ManifestError at the object to blame."""
        try:
            self._check(state.cluster, state.configuration, judge)
        except EnvoyError as error:
            raise self.blame(state, error, judge) from None

    def blame(self, state: State, refusal: EnvoyError, judge: Judge) -> ManifestError:
        """Return the error for what Envoy refuses, at the policy without which it accepts the rest, else at all."""
        cluster = state.cluster
        for manifest in cluster.policies:
            others = tuple(each for each in cluster.policies if each is not manifest)
            try:
                without = dataclasses.replace(cluster, policies=others)
                self._check(without, self._configured(without), judge)
            except (ManifestError, EnvoyError):
                continue
            return ManifestError(manifest.place, str(refusal))
        return ManifestError(self._all_files(), str(refusal))

    def _check(self, cluster: Cluster, configuration: Configuration, judge: Judge) -> None:
        """Let Envoy judge one pod of each workload, and each gateway; raise EnvoyError."""
        first: dict[str, Pod | Gateway] = {}
        for pod in cluster.pods:
            first.setdefault(pod.workload, pod)
        first |= {f"gateway {gateway.name}": gateway for gateway in cluster.gateways}
        for of in first.values():
            resources = configuration.resources.get(of.name)
            if resources is not None:
                apps = [port for each in of.containers for port in each.listens] if isinstance(of, Pod) else []
                calls = isinstance(of, Gateway) or cluster.calls(of)
                judge.check(resources, apps, self.secrets(of, resources, cluster), calls=calls)

    @contextmanager
    def _any_defect_said(self) -> Iterator[None]:
        """Make one line of any error that is none about the files, as of one that is."""
        try:
            yield
        except ManifestError as error:
            self.loader.locate(error)
            raise
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}, line {last.lineno}"
            problem = f"meshdemo itself failed to read this, please report it: {error!r} ({where})"
            raise ManifestError(self._all_files(), problem) from error

    def _all_files(self) -> str:
        return ", ".join(shown_path(path) for path in given_paths(self.loader.paths))


def _is_same(one: Pod, other: Pod) -> bool:
    """Return whether two pods differ in nothing but name and address."""
    return dataclasses.replace(one, name=other.name, address=other.address) == other


def _with_running(wanted: Iterable[Pod], running: Sequence[Pod]) -> list[Pod]:
    """Return the pods that are to be, and those that run and are none of them, each with an address of its own."""
    pods = []
    for pod in wanted:
        namesakes = [each for each in running if each.name == pod.name]
        address = next((each.address for each in namesakes if _is_same(pod, each)), None)
        if address is None:
            # The first of them takes calls; another one is not ready, and is given up for this one.
            first = namesakes[0].address if namesakes else ""
            free = [each for each in addresses(pod) if each != first]
            address = next((each for each in free if each not in {other.address for other in namesakes}), free[0])
        pods.append(dataclasses.replace(pod, address=address))
    names = {pod.name for pod in pods}
    for each in running:
        if all(each.address != pod.address for pod in pods):
            pods.append(dataclasses.replace(each, name=each.name + _FORMER if each.name in names else each.name))
            names.add(pods[-1].name)
    unique = {pod.name: pod for pod in reversed(pods)}
    return [pod for pod in pods if unique[pod.name] is pod]


def as_json(state: State) -> str:
    """Return what each Envoy gets, as one object by the name of the pod or gateway."""
    return json.dumps(
        {name: dataclasses.asdict(resources) for name, resources in sorted(state.configuration.resources.items())},
        indent=2,
    )


def entrances(state: State) -> list[node.Entrance]:
    """Return all that the node forwards: what is reached from outside, and Services that are called at their address.

    Pods without a sidecar call them so, sidecars where a policy says it, and callers what their sidecars do not know.
    """
    needs_inner = has_outsiders(state.cluster) or any(map(needs_services, state.configuration.resources.values()))
    needs_inner |= limits_sidecars(state.cluster)
    inner = [entrance for _, entrance in node.service_entrances(state.cluster)] if needs_inner else []
    return [*node.public_entrances(state.cluster), *inner]


def limits_sidecars(cluster: Cluster) -> bool:
    """Return whether sidecars may know less than all Services."""
    return any(each.kind == "Sidecar" for each in cluster.policies)


def has_outsiders(cluster: Cluster) -> bool:
    """Return whether any pod calls others without a sidecar."""
    return any(cluster.calls(pod) and not pod.in_mesh for pod in cluster.pods)
