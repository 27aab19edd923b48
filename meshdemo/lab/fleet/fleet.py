"""All that runs in a lab: its pods, their Envoys, and those in front; one state at a time is in force in them."""

from __future__ import annotations

import dataclasses
import functools
import re
import time

from meshdemo.lab.cluster.pods import Pod
from meshdemo.lab.edits.state import Reader, State, limits_sidecars
from meshdemo.lab.envoy.loopback import Local
from meshdemo.lab.envoy.original import needs_services, service_names
from meshdemo.lab.envoy.sidecar import Sidecar, change
from meshdemo.lab.envoy.xds.control_plane import EnvoyError
from meshdemo.lab.fleet.callers import MOST as MOST_CALLERS
from meshdemo.lab.fleet.callers import Callers
from meshdemo.lab.fleet.outside import Outside
from meshdemo.lab.fleet.request_log import RequestLog
from meshdemo.lab.pods.deployment import Pods
from meshdemo.lab.pods.guard import Guard
from meshdemo.lab.pods.pod import PodContext, PodSpec, RunningPod, pod_spec
from meshdemo.lab.xray.facts.naming import RuleBook

# How Envoy says that it cannot listen at a port.
_TAKEN_PORT = re.compile(r"cannot bind '[\d.]+:(\d+)': Address already in use")
_POLL_SECONDS = 0.05
_START_SECONDS = 30
_POD_SECONDS = 1


class Fleet:
    """The pods and Envoys of one lab, in which `state` is in force."""

    def __init__(
        self, guard: Guard, context: PodContext, request_log: RequestLog, reader: Reader, state: State
    ) -> None:
        self.state = state
        self._plane, self._ports, self._say = context.plane, context.ports, context.say
        self._request_log = request_log
        self._has_retired = False
        self._reader = reader
        self.outside = Outside(
            guard,
            context.plane,
            context.ports,
            reader,
            context.say,
            request_log.write,
            access_log=context.access_log,
        )
        self.callers = Callers(guard, context.plane, context.ports, reader, context.say)
        self.pods = Pods(context, self._local, self._publish, self.outside.where)

    def start(self) -> None:
        """Start everything, and return when all pods take calls and everything that is to be called listens.

        What takes too long is said, and no error. Raise EnvoyError.
        """
        self._want(self.state)
        self.outside.start(self.state, self.pods.where)
        self.pods.step()
        seconds = _START_SECONDS + _POD_SECONDS * len(self.state.pods)
        deadline = time.monotonic() + seconds
        while not (self.pods.settled and self.outside.is_ready):
            if time.monotonic() > deadline:
                names = ", ".join(self.pods.not_ready())
                self._say(f"not ready after {seconds} s, so no traffic goes to them yet: {names}")
                break
            time.sleep(_POLL_SECONDS)
            for envoy in self._envoys():
                envoy.check()
            self.outside.look_after()
            self.pods.step()
        self.put_in_force()
        self._want(self.state)  # once more, since pods call at ports that may have been chosen again

    def change(self, state: State) -> tuple[list[str], bool]:
        """Put a state in force, or raise EnvoyError, with all as it was.

        Return the names of the Envoys that do not answer, and whether pods are replaced.
        """
        former, self.state = self.state, state
        try:
            silent = self.put_in_force()
        except BaseException:
            self.state = former
            self._keep(former)
            raise
        self._keep(state)
        return silent, self._want(state)

    def put_in_force(self) -> list[str]:
        """Put the state in force in all Envoys, or in none; return the names of those that do not answer.

        A port that somebody else took before an Envoy listened at it is chosen again.
        """
        cluster, where = self.state.cluster, self.pods.where
        while True:
            try:
                silent = change(self._wanted(), where, self._plane)
                break
            except EnvoyError as error:
                taken = _TAKEN_PORT.search(str(error))
                if not taken or not self._ports.lose(int(taken[1])):
                    raise
        self._request_log.book = RuleBook(cluster.policies, dict(cluster.texts))
        return silent

    def rules_of_caller(self, pod: Pod) -> tuple[tuple[str, str | int], ...] | None:
        """Return where a pod's calls go instead, of one that calls nobody, too; wait until it can.

        It is None where that takes too long, or all ends. Another thread asks.
        """
        deadline = time.monotonic() + _START_SECONDS
        if pod.name not in self._reader.callers:
            self._reader.callers = (*self._reader.callers, pod.name)[-MOST_CALLERS:]
        while time.monotonic() < deadline and not self._has_retired:
            state = self.state
            is_known = pod.name in state.cluster.callers
            services: tuple[tuple[str, str | int], ...] = ()
            if not pod.in_mesh or limits_sidecars(state.cluster):
                services = self.outside.service_rules(state.cluster, pod.namespace)
            rules = self.callers.rules(pod, state) if pod.in_mesh else ()
            if is_known and rules is not None:
                return (*rules, *services)
            time.sleep(_POLL_SECONDS)
        return None

    def retire(self) -> None:
        """Have no pod start again what is ended from now on."""
        self._has_retired = True
        for pod in self.pods.present:
            pod.retire()

    def drain(self, seconds: float) -> None:
        """Let the proxies finish what they have begun, for which each has so many seconds of its own."""
        proxies = [pod for pod in self.pods.present if pod.pod.calls]
        for pod in proxies:
            pod.retire()
        deadline = time.monotonic() + seconds + _START_SECONDS
        while not all(pod.has_ended for pod in proxies) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End all Envoys at once."""
        for envoy in self._envoys():
            envoy.stop()

    def _want(self, state: State) -> bool:
        """Set what pods there are to be, as the files say; return whether that changes any."""
        cluster = state.files.cluster
        wanted = {}
        templates = {workload.name: workload.template for workload in cluster.workloads}
        for pod in state.pods:
            template = templates[pod.workload]
            if pod.calls and not pod.in_mesh:
                outside = self.outside.service_rules(state.cluster, pod.namespace)
                wanted[pod.name] = PodSpec(pod, template, rules=outside)
            else:
                spec = pod_spec(pod, template, state.resources(pod.name), cluster)
                if spec.rules and limits_sidecars(cluster):
                    rules = (*spec.rules, *self.outside.service_rules(state.cluster, pod.namespace))
                    spec = dataclasses.replace(spec, rules=rules)
                wanted[pod.name] = spec
        return self.pods.want(templates, wanted)

    def _wanted(self) -> dict[Sidecar, Local]:
        """Start what the state needs beside its pods, and return what each Envoy is to have. Raise EnvoyError."""
        where = self.pods.where
        wanted = {**self.outside.prepare(self.state, where), **self.callers.prepare(self.state, where)}
        for pod in self.pods.present:
            local = self._local(pod)
            if pod.sidecar and local:
                wanted[pod.sidecar] = local
        return wanted

    def _local(self, pod: RunningPod) -> Local | None:
        """Return the configuration of a pod's sidecar, None for one without."""
        resources = self.state.resources_of(pod.pod)
        if resources is None or pod.sidecar is None:
            return None
        cluster = self.state.cluster
        is_needed = needs_services(resources) or limits_sidecars(cluster)
        names = service_names(cluster, pod.pod.namespace) if is_needed else {}
        secrets = functools.partial(self._reader.secrets, pod.pod, resources, cluster)
        return pod.local(resources, names, (cluster.others, self._reader.renewals), secrets)

    def _envoys(self) -> list[Sidecar]:
        return [*(pod.sidecar for pod in self.pods.present if pod.sidecar), *self.outside.envoys, *self.callers.envoys]

    def _publish(self) -> None:
        """Tell all Envoys who takes calls now, and return when they know."""
        envoys = self._envoys()
        for envoy in envoys:
            envoy.change_endpoints(self.pods.where)
        self._plane.wait(envoy.subscriber for envoy in envoys if envoy.is_ready)

    def _keep(self, state: State) -> None:
        """End the Envoys beside those of pods that a state does not have."""
        self.outside.keep(state)
        self.callers.keep(state)
