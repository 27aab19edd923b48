"""What a lesson suggests to try does what the lesson says, which is seen by trying it."""

import re
import shutil
import subprocess
import sys

import pytest
from support import ROOT

from meshdemo.lessons.files.comment import parse_words
from meshdemo.lessons.files.reading import read_lessons

WATCH = "meshdemo watch http://127.0.0.1:3030"
OUTSIDE = "meshdemo watch http://127.0.0.1:3031"
GATEWAY = "meshdemo watch http://127.0.0.1:8080"
MIRRORED = "kubectl logs --selector version=v2,app=webserver --tail=-1 | grep --count /mirrored"
TO_V1 = f"{WATCH}/old -n 50 --expect 'Webserver V1=50'"
# Shares have bounds of 4.9 standard deviations or more: they fail by chance less than once in a million runs.
THIRD_OF_100 = "10..57"
# The edits, of what to what, and the commands that show what has become of it. Those of header, jwt and so on that are
# not edited otherwise are the lesson's own.
TRIES = {
    "all-v1": ([("subset: v1", "subset: v2")], [f"{WATCH}/ -n 100 --expect 'Webserver V2=100'"]),
    "split": (
        [("weight: 75", "weight: 0"), ("weight: 25", "weight: 100")],
        [f"{WATCH}/ -n 50 --expect 'Webserver V1=0'"],
    ),
    "header": (
        [("exact: tester", "exact: alice")],
        [
            f"{WATCH}/ -n 50 --header end-user:tester --expect 'Webserver V1=50'",
            f"{WATCH}/ -n 50 --expect 'Webserver V1=50'",
        ],
    ),
    "path": (
        [("      rewrite:\n        uri: /\n", "")],
        [f"{WATCH}/v2 -n 50 --expect 'Webserver V2=50' --expect 'path /v2=50'"],
    ),
    "redirect": ([("authority: webserverv2", "authority: webserverv1")], [TO_V1]),
    "mirror": (
        [("value: 100", "value: 50")],
        [
            f"{WATCH}/mirrored -n 200 --expect 'Webserver V1=200'",
            f"{MIRRORED} | grep --count -x '[6-9].\\|1[0-3].'  # 1",
        ],
    ),
    "sticky": ([("alice", "bob")], [f"{WATCH}/ -n 50 --header end-user:bob --expect pods=1"]),
    "abort": ([("value: 50", "value: 100")], [f"{WATCH}/ -n 50 --expect FI=50"]),
    "delay": (
        [("fixedDelay: 3s", "fixedDelay: 1s")],
        [f"{WATCH}/ -n 100 --expect 'over 0.9s=4..50' --expect 'over 2.9s=0'"],
    ),
    "timeout": (
        [("timeout: 1s", "timeout: 3s")],
        [f"{WATCH}/slowsometimes -n 100 --expect 200=100 --expect 'over 1.9s={THIRD_OF_100}'"],
    ),
    "retries": ([("attempts: 3", "attempts: 1")], [f"{WATCH}/failsometimes -n 300 --expect 500=7..62"]),
    "retries-by-status": (
        [("retryOn: gateway-error", "retryOn: 5xx")],
        [f"{WATCH}/status/500 -n 20 --expect 500=20 --expect 'tries>1=20'"],
    ),
    "retries-twice": (
        [("      retries:\n        attempts: 2\n        retryOn: 5xx\n", "")],
        [
            f"{WATCH}/failsometimes -n 20 --expect 500=20",
            "kubectl logs deployment/webserversick | grep --count /failsometimes  # 60",
        ],
    ),
    "circuit-breaker": (
        [("http2MaxRequests: 2", "http2MaxRequests: 100")],
        [f"{WATCH}/slowsometimes -n 100 --rate 20 --expect UO=0"],
    ),
    "outlier-detection": (
        [("      maxEjectionPercent: 50\n", "")],
        [f"{WATCH}/failsometimes -n 400 --expect 'Webserver sick=23..95'"],
    ),
    "ingress": ([('        - "*"', "        - shop.example")], [f"{GATEWAY}/ -n 20 --expect 404=20"]),
    "gateway-api/all-v1": (
        [("name: webserverv1", "name: webserverv2")],
        [f"{WATCH}/ -n 100 --expect 'Webserver V2=100'"],
    ),
    "gateway-api/split": ([("weight: 3", "weight: 0")], [f"{WATCH}/ -n 50 --expect 'Webserver V1=0'"]),
    "gateway-api/header": (
        [(re.compile(r"(    - matches:\n(?:      .*\n)+)(    - backendRefs:\n(?:      .*\n)+)"), r"\2\1")],
        [],
    ),
    "gateway-api/path": (
        [("replacePrefixMatch: /\n", "replacePrefixMatch: /new\n")],
        [f"{WATCH}/v2 -n 50 --expect 'path /new=50'"],
    ),
    "gateway-api/redirect": ([("hostname: webserverv2", "hostname: webserverv1")], [TO_V1]),
    "gateway-api/mirror": (
        [(re.compile(r"    - filters:\n(?:      [ -].*\n)+?      backendRefs"), "    - backendRefs")],
        [f"{WATCH}/mirrored -n 50 --expect 'Webserver V1=50'", f"{MIRRORED}  # 0"],
    ),
    "gateway-api/timeout": (
        [("request: 1s", "request: 3s")],
        [f"{WATCH}/slowsometimes -n 100 --expect 200=100 --expect 'over 1.9s={THIRD_OF_100}'"],
    ),
    "gateway-api/ingress": (
        [("    - name: http\n", "    - name: http\n      hostname: shop.example\n")],
        [f"{GATEWAY}/ -n 20 --expect 404=20"],
    ),
    "rate-limit": ([("max_tokens: 10", "max_tokens: 100")], [f"{WATCH}/ -n 300 --rate 60 --expect 200=300"]),
    "locality": (
        [(re.compile(r"  trafficPolicy:\n    outlierDetection:.*\n(?:      .*\n)+"), "")],
        [f"{OUTSIDE}/ -n 100 --expect 'Webserver near=1..32'"],
    ),
    "mutual-tls": ([("mode: STRICT", "mode: PERMISSIVE")], [f"{OUTSIDE}/ -n 20 --expect 200=20"]),
    "authorization": (
        [("              - proxy\n", "              - proxy\n              - outsider\n")],
        [f"{OUTSIDE}/ -n 20 --expect 200=20"],
    ),
    "deny-by-default": (
        [
            (
                re.compile(r"(?s)(# Step 1: .*?\n)(.*?)(?=  # Step 2)"),
                lambda match: match[1] + match[2].replace("  # ", "  "),
            )
        ],
        [f"{WATCH}/ -n 20 --expect 200=20", f"{OUTSIDE}/ -n 20 --expect 403=20"],
    ),
    "jwt": ([("            - reader\n", "            - guest\n")], []),
}
# What takes a machine that reaches the internet.
NOT_HERE = {"egress", "tls-origination"}


def test_every_lesson_has_something_to_try():
    """Each lesson's suggestion is tried here, but for those that take the internet."""
    names = {lesson.name for lesson in read_lessons(ROOT / "k8s") if lesson.words().section("Try")}
    assert names == set(TRIES) | NOT_HERE


def tried(lesson):
    """Return a lesson's file after the edit that it suggests, with commands that show what comes of it."""
    text = lesson.text()
    edits, commands = TRIES[lesson.name]
    comment = "".join(f"# {line}".rstrip() + "\n" for line in lesson.comment())
    body = text[len(comment) :]
    assert text == comment + body
    for old, new in edits:
        changed = body.replace(old, new, 1) if isinstance(old, str) else old.sub(new, body, count=1)
        assert changed != body or lesson.name == "sticky", (lesson.name, old)
        body = changed
    if commands:
        comment = f"# {parse_words(lesson.comment()).about}\n#\n" + "".join(f"#   {line}\n" for line in commands)
    elif lesson.name == "jwt":
        comment = comment.replace("200=50", "4xx=50", 1).replace("403=50", "200=50", 1).replace("4xx=50", "403=50", 1)
    return re.sub(r"^(#   meshdemo watch)(?!.*--rate)", r"\1 --rate 100", comment, flags=re.MULTILINE) + body


@pytest.mark.thorough
@pytest.mark.parametrize("engine", ["quick", pytest.param("istiod", marks=pytest.mark.istiod)])
def test_tries(engine, request, tmp_path):
    """After the edit that a lesson suggests there is what the lesson says, in each engine that shows the lesson."""
    if engine == "istiod":
        request.getfixturevalue("built_istiod")
    folder = shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    guide = (folder / "README.md").read_text()
    for lesson in read_lessons(ROOT / "k8s"):
        if lesson.name in NOT_HERE:
            guide = re.sub(rf"^\| .* \| `{lesson.file}` \|.*\n", "", guide, flags=re.MULTILINE)
        else:
            (folder / lesson.file).write_text(tried(lesson))
    (folder / "README.md").write_text(guide)
    command = ["lesson", "--all", "--check", "--port", "0", "--folder", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "meshdemo", *command, *(["--istiod"] if engine == "istiod" else [])],
        capture_output=True, text=True, cwd=ROOT, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
