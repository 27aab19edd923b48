"""Which commands of a lesson run without being asked for."""

import pytest
from support import ROOT

from meshdemo.lessons.files.comment import parse_commands
from meshdemo.lessons.files.permission import is_usual
from meshdemo.lessons.files.reading import read_lessons


def usual(line):
    (command,) = parse_commands([f"  {line}"])
    return is_usual(command)


@pytest.mark.parametrize(
    "line",
    [
        "meshdemo watch http://127.0.0.1:3030/ -n 5",
        "meshdemo call http://webserver/ --from proxy",
        "curl -s -H 'end-user: tester' http://127.0.0.1:3030/v2",
        "curl http://localhost:8080",
        "kubectl get pods --selector app=webserver -o wide",
        "kubectl port-forward --namespace istio-system service/istio-ingressgateway 8080:80",
        "kubectl logs --selector version=v2,app=webserver --tail=-1 | grep --count /mirrored",
        "kubectl logs deployment/x | grep -v y | head -n 3 | wc -l",
    ],
)
def test_usual(line):
    """What calls this machine, or reads what is there, just runs."""
    assert usual(line)


@pytest.mark.parametrize(
    "line",
    [
        "rm -rf .",
        "meshdemo up",
        "meshdemo",
        "curl",
        "curl http://elsewhere.example/",
        "curl http://127.0.0.1@elsewhere.example/",
        "curl http://127.0.0.1:3030/ http://elsewhere.example/",
        "curl --output .profile http://127.0.0.1:3030/",
        "curl -o.profile http://127.0.0.1:3030/",
        "curl -H @secret http://127.0.0.1:3030/",
        "curl --header=@secret http://127.0.0.1:3030/",
        "curl -K settings http://127.0.0.1:3030/",
        "kubectl delete pod x",
        "kubectl",
        "kubectl --server http://elsewhere.example get pods",
        "kubectl get pods --kubeconfig other",
        "kubectl logs x | sh",
        "kubectl logs x | tee file",
        "kubectl logs x | grep y /etc/passwd",
        "kubectl logs x | grep -r y",
        "kubectl logs x | wc --files0-from=list",
        "grep x /etc/passwd",
        "head /etc/passwd",
    ],
)
def test_unusual(line):
    """What writes, reads files, calls elsewhere or does anything else is asked for."""
    assert not usual(line)


def test_the_lessons_of_the_repository():
    """No lesson that comes with meshdemo has to ask."""
    for lesson in read_lessons(ROOT / "k8s"):
        assert all(map(is_usual, lesson.commands())), lesson.name
