"""One call where no lab explains it, judged by what its answer says of itself."""

import json

import pytest
from stage_support import StageDouble
from support import http_response, replying

from meshdemo.errors import StartError
from meshdemo.lessons.files.comment import Command
from meshdemo.lessons.running import one_call

CALL = ("meshdemo", "call", "127.0.0.1:3030/v2", "-H", "end-user: jason")
ANSWER = {"content": "Webserver V2", "hostname": "webserverv2-1", "status": 200}


def test_what_an_answer_says(tcp_server):
    """Status, version and pod are judged; what only a lab knows is not."""
    answer = http_response(json.dumps(ANSWER).encode(), "Content-Type: application/json")
    server = tcp_server(replying(answer))
    expected = ("status=200", "version=Webserver*", "pod=webserverv1-*", "subset=v2", "identity=*proxy")
    words = (*CALL, *(f"--expect={each}" for each in expected[:2]))
    words += tuple(word for each in expected[2:] for word in ("--expect", each))
    result = one_call.run(StageDouble(server.port), Command((words,)))
    assert [(each.subject, each.seen, each.met) for each in result.verdicts] == [
        ("status", "200", True),
        ("version", "Webserver V2", True),
        ("pod", "webserverv2-1", False),
    ]
    assert result.not_judged == expected[3:]


def test_nothing_to_judge():
    """A call of which nothing can be judged is not made."""
    result = one_call.run(StageDouble(1), Command(((*CALL, "--expect", "rule=x"),)))
    assert (result.verdicts, result.not_judged) == ([], ("rule=x",))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("-X", "POST", "--expect", "status=200"), "-X is for calls in a lab"),
        (("--data=x", "--expect", "status=200"), "--data is for calls in a lab"),
        (("--expect", "nonsense"), "'nonsense': is not SUBJECT=VALUE"),
    ],
)
def test_what_is_not_called(words, reason):
    """What a watch cannot call is named."""
    with pytest.raises(StartError, match=reason):
        one_call.run(StageDouble(1), Command(((*CALL, *words),)))
