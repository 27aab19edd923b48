"""Deployments as Kubernetes keeps them: rolling updates, scaling, names that change; with pods that are only played."""

import pytest

from meshdemo.lab.cluster.pods import Pod, Template
from meshdemo.lab.pods import deployment
from meshdemo.lab.pods.deployment import Pods
from meshdemo.lab.pods.pod import PodSpec


class PlayedPod:
    """A pod that is ready and has ended when a test says so."""

    started: list

    def __init__(self, key, wanted, around):
        self.key, self.wanted, self.pod = key, wanted, wanted.pod
        self.is_ready = self.has_ended = self.was_retired = self.was_ended = False

    def start(self, local, where):
        if self.wanted.template.service_account == "broken":
            raise OSError("no more processes")
        self.started.append(self)

    def look_after(self):
        pass

    def retire(self):
        self.was_retired, self.is_ready = True, False

    def end(self):
        self.was_ended = True

    def port_of(self, number):
        return 20000 + number


def wanted(*names, version="1"):
    template = Template((), version, 30, ())
    return {
        name: PodSpec(
            Pod(
                name,
                f"10.244.{ord(name[0])}.{name[-1]}",
                {"version": version},
                "default",
                (),
                workload=name.rpartition("-")[0],
            ),
            template,
        )
        for name in names
    }


@pytest.fixture
def pods(monkeypatch):
    """Return pods without any."""
    monkeypatch.setattr(deployment, "RunningPod", PlayedPod)
    PlayedPod.started = []
    return Pods(None, lambda pod: None, lambda: None, lambda address, port: None)


def want(pods, *names, version="1", deployments=("a",)):
    return pods.want(deployments, wanted(*names, version=version))


def step(pods):
    """Do what there is to do; return the names and versions of those that were taken out of traffic."""
    before = {id(pod) for pod in PlayedPod.started if pod.was_retired}
    pods.step()
    taken_out = [pod for pod in pods.present if pod.was_retired and id(pod) not in before]
    return [(pod.pod.name, pod.wanted.template.service_account) for pod in taken_out]


def running(pods):
    """Return the names and versions of the pods that take calls."""
    return sorted((pod.pod.name, pod.wanted.template.service_account) for pod in pods.taking_calls.values())


def all_ready(pods):
    for pod in PlayedPod.started:
        pod.is_ready = not pod.was_retired
    step(pods)


def start(pods, *names, **options):
    want(pods, *names, **options)
    step(pods)
    all_ready(pods)
    assert pods.settled


def test_a_start(pods):
    """All pods are started at once, take calls when they are ready, and are found by their address."""
    assert want(pods, "a-1", "a-2")
    assert step(pods) == []
    assert not pods.settled
    assert pods.not_ready() == ["a-1", "a-2"]
    PlayedPod.started[0].is_ready = True
    step(pods)
    assert running(pods) == [("a-1", "1")]
    assert pods.not_ready() == ["a-2"]
    assert pods.where("10.244.97.1", 80) == 20080
    assert pods.where("10.244.97.2", 80) is None
    all_ready(pods)
    assert pods.settled
    assert not want(pods, "a-1", "a-2")


def test_more_and_fewer(pods):
    """Scaling starts or ends only the difference, and ends it at once."""
    start(pods, "a-1", "a-2")
    want(pods, "a-1", "a-2", "a-3")
    step(pods)
    assert [pod.pod.name for pod in PlayedPod.started] == ["a-1", "a-2", "a-3"]
    all_ready(pods)
    want(pods, "a-1")
    assert step(pods) == [("a-2", "1"), ("a-3", "1")]
    assert running(pods) == [("a-1", "1")]
    assert pods.settled


def test_a_rolling_update(pods):
    """One new pod after the other takes the place of an old one, and only when it is ready."""
    start(pods, "a-1", "a-2")
    want(pods, "a-1", "a-2", version="2")
    for count, name in enumerate(("a-1", "a-2")):
        assert step(pods) == []
        assert len(PlayedPod.started) == 3 + count
        assert len(running(pods)) == 2
        PlayedPod.started[-1].is_ready = True
        assert step(pods) == [(name, "1")]
        assert len(running(pods)) == 2
    assert running(pods) == [("a-1", "2"), ("a-2", "2")]
    assert pods.settled


def test_deployments_roll_at_the_same_time(pods):
    """Each Deployment is rolled by itself."""
    start(pods, "a-1", "a-2", "b-1", deployments=("a", "b"))
    want(pods, "a-1", "a-2", "b-1", version="2", deployments=("a", "b"))
    step(pods)
    assert [pod.pod.name for pod in PlayedPod.started[3:]] == ["a-1", "b-1"]


def test_an_update_that_is_never_ready(pods):
    """The old pods go on; the next update takes the place of the one that failed."""
    start(pods, "a-1", "a-2")
    want(pods, "a-1", "a-2", version="2")
    for _ in range(5):
        assert step(pods) == []
    assert running(pods) == [("a-1", "1"), ("a-2", "1")]
    assert not pods.settled
    want(pods, "a-1", "a-2", version="3")
    assert step(pods) == [("a-1", "2")]
    assert [pod.wanted.template.service_account for pod in PlayedPod.started[2:]] == ["2", "3"]
    want(pods, "a-1", "a-2", version="1")
    assert step(pods) == [("a-1", "3")]
    assert pods.settled
    assert len(PlayedPod.started) == 4


def test_another_name(pods):
    """Pods of a Deployment that is gone stay until all others are ready."""
    start(pods, "a-1", "a-2")
    want(pods, "b-1", "b-2", deployments=("b",))
    assert step(pods) == []
    assert running(pods) == [("a-1", "1"), ("a-2", "1")]
    PlayedPod.started[2].is_ready = True
    assert step(pods) == []
    PlayedPod.started[3].is_ready = True
    step(pods)
    assert set(step(pods)) == {("a-1", "1"), ("a-2", "1")}
    assert running(pods) == [("b-1", "1"), ("b-2", "1")]


def test_another_name_that_is_never_ready(pods, monkeypatch):
    """They do not stay for ever."""
    start(pods, "a-1")
    want(pods, "b-1", deployments=("b",))
    assert step(pods) == []
    monkeypatch.setattr(deployment, "_REPLACEMENT_SECONDS", 0)
    assert step(pods) == [("a-1", "1")]


def test_fewer_beside_one_that_is_not_ready(pods):
    """A Deployment with fewer pods does not wait for another Deployment, nor one with none for anybody."""
    start(pods, "a-1", "a-2", "b-1", deployments=("a", "b"))
    PlayedPod.started[2].is_ready = False
    want(pods, "a-1", "b-1", deployments=("a", "b"))
    assert step(pods) == [("a-2", "1")]
    want(pods, "b-1", deployments=("a", "b"))
    assert step(pods) == [("a-1", "1")]


def test_a_pod_that_is_wanted_again(pods):
    """A pod that is wanted again before it was ended stays as it is."""
    start(pods, "a-1")
    want(pods, "b-1", deployments=("b",))
    step(pods)
    want(pods, "a-1")
    assert step(pods) == [("b-1", "1")]
    assert running(pods) == [("a-1", "1")]


def test_those_that_leave(pods):
    """A pod that leaves is present until all of it has ended; then its ports are given back."""
    start(pods, "a-1", "a-2")
    want(pods, "a-1")
    step(pods)
    left = PlayedPod.started[1]
    assert left.was_retired
    step(pods)
    assert left in pods.present
    left.has_ended = True
    step(pods)
    assert left not in pods.present
    assert left.was_ended


def test_a_pod_that_cannot_be_started(pods):
    """What has been started of it is ended, and it is tried again."""
    want(pods, "a-1", version="broken")
    for _ in range(2):
        with pytest.raises(OSError, match="no more processes"):
            step(pods)
    assert [pod.was_retired for pod in pods.present] == [True, True]


def test_many_pods(pods, monkeypatch):
    """A few pods start at a time; the next ones do when these are ready, or long in coming."""
    now = [100.0]
    monkeypatch.setattr(deployment.time, "monotonic", lambda: now[0])
    names = [f"a-{number}" for number in range(1, 10)] + [f"b-{number}" for number in range(1, 10)]
    want(pods, *names, deployments=("a", "b"))
    step(pods)
    step(pods)
    assert len(PlayedPod.started) == 8
    PlayedPod.started[0].is_ready = True
    step(pods)
    assert len(PlayedPod.started) == 9
    now[0] += 11
    step(pods)
    assert len(PlayedPod.started) == 17
