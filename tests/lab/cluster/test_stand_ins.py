"""What stands in for images of others: how it behaves, and at which ports it answers."""

import pytest
from lab_support import manifest

from meshdemo.lab.cluster.options import ReadOptions
from meshdemo.lab.cluster.stand_ins import Behaviour, parse_behaviour
from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.files.errors import ManifestError


def workload(name="web", annotations=None, replicas=1, image="other", ports=()):
    container = {"name": "main", "image": image, "ports": list(ports), "args": ["webserver"]}
    metadata = {"labels": {"app": name}, **({"annotations": annotations} if annotations else {})}
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": metadata, "spec": {"containers": [container]}},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def service(name, *ports):
    spec = {"selector": {"app": "web"}, "ports": list(ports)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def read(*documents, **options):
    return read_cluster([manifest(each) for each in documents], options=ReadOptions(**options))


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("status=503", "--everywhere --fail-ratio 1 --fail-status 503 --slow-ratio 0 --delay 0"),
        ("fail-ratio=0.5", "--everywhere --fail-ratio 0.5 --fail-status 500 --slow-ratio 0 --delay 0"),
        ("delay=1.5", "--everywhere --fail-ratio 0 --fail-status 500 --slow-ratio 1 --delay 1.5"),
        ("fail-ratio=.1,status=404,delay=2", "--everywhere --fail-ratio .1 --fail-status 404 --slow-ratio 1 --delay 2"),
    ],
)
def test_behaviours(text, args):
    """A stand-in fails and waits on every path, as it is told."""
    name, behaviour = parse_behaviour(f"web:{text}")
    assert name == "web"
    assert behaviour.args("web v1") == ("webserver", "--content", "web v1", *args.split())


def test_calling_others():
    """A stand-in calls a URL as the proxy does."""
    assert parse_behaviour("web:calls=http://a:90/x,y")[1].args("web") == ("proxy", "--proxy-url", "http://a:90/x,y")
    assert Behaviour().args("web") == ("webserver", "--content", "web")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("web", "not WORKLOAD:SETTING=VALUE"),
        (":delay=1", "not WORKLOAD:SETTING=VALUE"),
        ("web:slow=1", "'slow' is not one of fail-ratio, status, delay, calls"),
        ("web:fail-ratio=2", "fail-ratio=2 is not a share from 0 to 1"),
        ("web:status=200", "status=200 is not a status from 400 to 599"),
        ("web:delay=1h", "delay=1h is not a number of seconds"),
        ("web:delay", "delay= is not a number of seconds"),
        ("web:calls=a", "calls=a is not a URL"),
        ("web:delay=1,calls=http://a", "calls cannot be combined"),
    ],
)
def test_behaviours_that_are_none(text, problem):
    """What cannot be is said in words."""
    with pytest.raises(ValueError, match=problem):
        parse_behaviour(text)


def test_by_annotation():
    """The annotations of a pod say how its stand-in behaves, and an option counts more."""
    web = workload(annotations={"stand-in/delay": "2", "other/delay": "x"})
    assert read(web).pods[0].containers[0].args[-1] == "2"
    chosen = read(web, stand_ins={"web": Behaviour({"delay": "3"})})
    assert chosen.pods[0].containers[0].args[-1] == "3"
    with pytest.raises(ManifestError, match=r"template\.metadata\.annotations: delay=x is not a number"):
        read(workload(annotations={"stand-in/delay": "x"}))


@pytest.mark.parametrize(
    ("name", "image", "problem"),
    [
        ("webb", "other", "--stand-in webb: no stand-in has this name, only web, did you mean web?"),
        ("web", "meshdemo", "--stand-in web: no stand-in has this name, there is none"),
    ],
)
def test_of_what_is_no_stand_in(name, image, problem):
    """A behaviour for what is not there, or runs this program itself, is refused."""
    with pytest.raises(ManifestError) as error:
        read(workload(image=image), stand_ins={name: Behaviour({"delay": "3"})})
    assert str(error.value) == problem


def test_ports_that_are_not_for_http():
    """A stand-in says a line where Services say that something else than HTTP is spoken, in TLS where that is TLS."""
    cluster = read(
        workload(ports=[{"name": "db", "containerPort": 27017}, {"containerPort": 8080}, {"containerPort": 9999}]),
        service("a", {"name": "mongo", "port": 1, "targetPort": "db"}, {"name": "http", "port": 2, "targetPort": 8080}),
        service("b", {"name": "x", "port": 3, "targetPort": 3306, "appProtocol": "mysql"}, {"name": "y", "port": 4}),
        service("c", {"name": "tcp-too", "port": 8080}),
        service("d", {"name": "https", "port": 443}, {"name": "x", "port": 444, "appProtocol": "TLS"}),
    )
    (container,) = cluster.pods[0].containers
    assert container.listens == (27017, 8080, 9999, 3306, 4, 443, 444)
    assert container.lines_at == (27017, 3306, 443, 444)
    assert container.tls_at == (443, 444)
    assert container.content == "web"


def test_how_many_pods():
    """There are as many pods of each workload as all together have room for, or as an option says."""
    assert read(workload(replicas=100)).notes == ()
    cluster = read(workload("a", replicas=90), workload("b", replicas=5), workload("c", replicas=90))
    assert [(each.name, each.replicas) for each in cluster.workloads] == [("a", 10), ("b", 5), ("c", 10)]
    note = "25 pods instead of 185, at most 10 of each workload, are run here: --replicas sets how many"
    assert cluster.notes == (note,)
    fifty = [workload(f"w{number}", replicas=3) for number in range(50)]
    assert {each.replicas for each in read(*fifty).workloads} == {2}
    assert len(read(workload("a", replicas=90), workload("b"), replicas=2).pods) == 3
    many = [workload(f"w{number}") for number in range(101)]
    with pytest.raises(ManifestError, match=r"w100: spec\.replicas: makes 101 pods with those of all others"):
        read(*many)
