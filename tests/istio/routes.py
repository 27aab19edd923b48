"""Judge why requests are passed over: what the lab evaluates, and what a real Envoy does, on random policies.

    python tests/istio/routes.py --seed 1 --count 2000

Makes requests that fit a route of a random policy, or all of it but for one condition, and asks an Envoy with the
matches of that policy which route it takes. Prints each request of which the evaluation says something else, and at the
end for each engine in how many it said the same, said nothing, and said something else. Exits with 1 when one differs.
"""

from __future__ import annotations

import argparse
import http.client
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import yaml
from generate import Document, Generator
from istiod import istiod
from records import load_objects
from static_envoy import listener, static_envoy

from meshdemo.lab import quick
from meshdemo.lab.cluster.model import Cluster
from meshdemo.lab.engine import Configuration, Resource
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.xray.matching.evaluation import Evaluation, Request, evaluate

SAME, SILENT, DIFFERENT = "same", "nothing said", "different"
ENGINES: dict[str, Callable[[Cluster], Configuration]] = {"quick": quick.configure, "istiod": istiod}
# How many requests are made for each policy, and how many policies one Envoy has.
_REQUESTS = 10
_POLICIES = 25
# What of an HttpConnectionManager decides what a request has when a route is looked for.
_MANAGER = ("normalize_path", "merge_slashes", "path_with_escaped_slashes_action", "use_remote_address")
_PATHS = ("/", "/a", "/a/", "/A", "/a/b", "/a/b/c", "/b", "/ab", "/long/path/to/something", "/a.b", "/a%20b", "/aab/b")
_PATHS += ("/x/../a", "/a/./b", "/%61", "/a%2Fb", "//a", "/a//b", "/7", "/a/b?q=1", "/a;x=1", "/A/B", "/a/very/long/e")
_VALUES = ("1", "tester", "Tester", "a b", "x,y", "ü", "a:b", '"', "0", "", "t", "x", "a", "b", "42")
_NAMES = ("x", "X", "end-user", "y", "accept", "cookie", "content-type", "X-Upper")


@dataclass(frozen=True)
class Case:
    """A route configuration as it listens in an Envoy, and a request."""

    policy: list[Document]
    routes: Resource
    manager: Resource
    request: Request
    name: str


@dataclass(frozen=True)
class Result:
    """What an Envoy did with a case, and what was evaluated of it; `outcome` compares them."""

    case: Case
    taken: tuple[str | None, int | None]
    evaluation: Evaluation | None

    @property
    def outcome(self) -> str:
        if self.evaluation is None:
            return SILENT
        # Envoy answers alike where it knows no host, and where no route of the host fits.
        host = self.evaluation.virtual_host if self.evaluation.route is not None else None
        return SAME if (host, self.evaluation.route) == self.taken else DIFFERENT


def judge(engine: str, seed: int, count: int) -> Iterator[Result]:
    """Yield what came of so many requests."""
    cases = _cases(ENGINES[engine], seed)
    judged = 0
    while judged < count:
        batch = [next(cases) for _ in range(min(count - judged + _REQUESTS, _POLICIES * _REQUESTS))]
        listeners = {case.name: _shown(case) for case in batch}
        with tempfile.TemporaryDirectory() as folder, static_envoy(Path(folder), listeners.values()) as ports:
            for case in batch:
                answer = _ask(ports[case.name], case.request)
                if answer is None or judged == count:
                    continue  # no Envoy takes such a request
                judged += 1
                taken, request = answer
                yield Result(case, taken, evaluate(case.routes, request, case.manager))


def _cases(configure: Callable[[Cluster], Configuration], seed: int) -> Iterator[Case]:
    chance, generator = random.Random(seed), Generator(seed)
    for number in range(1_000_000):
        policy = generator.policy()
        try:
            cluster = load_objects(policy)
            configuration = configure(cluster)
        except ManifestError:
            continue
        pairs = [pair for name in _workloads(cluster) for pair in _listening(configuration, name)]
        for _ in range(_REQUESTS if pairs else 0):
            index = chance.randrange(len(pairs))
            routes, manager = pairs[index]
            yield Case(policy, routes, manager, _request(routes, chance), f"{number} {index}")


def _workloads(cluster: Cluster) -> list[str]:
    """Return the first caller, and the gateways."""
    callers = [pod.name for pod in cluster.pods if pod.calls and pod.in_mesh][:1]
    return callers + [gateway.name for gateway in cluster.gateways]


def _listening(configuration: Configuration, name: str) -> Iterator[tuple[Resource, Resource]]:
    """Yield the route configurations of a workload that have a condition, with the connection manager of each."""
    resources = configuration.resources.get(name)
    if resources is None:
        return
    routes = {each["name"]: each for each in resources.routes}
    for each in resources.listeners:
        for chain in each.get("filter_chains", []):
            for manager in (part.get("typed_config", {}) for part in chain["filters"]):
                found = routes.get(manager.get("rds", {}).get("route_config_name"))
                if found and any(_is_conditional(host) for host in found["virtual_hosts"]):
                    yield found, {key: manager[key] for key in _MANAGER if key in manager}


def _is_conditional(host: Resource) -> bool:
    return any(route["match"].keys() - {"case_sensitive"} != {"prefix"} for route in host.get("routes", ()))


def _shown(case: Case) -> Resource:
    """Return a listener in which each route answers with its virtual host and its number."""
    hosts = [
        {
            **host,
            "routes": [
                {
                    "match": route["match"],
                    "direct_response": {"status": 200, "body": {"inline_string": f"{host['name']}\n{number}"}},
                }
                for number, route in enumerate(host.get("routes", ()))
            ],
        }
        for host in case.routes["virtual_hosts"]
    ]
    settings = {**case.manager, "always_set_request_id_in_response": True}
    return listener(case.name, {**case.routes, "virtual_hosts": hosts}, **settings)


def _ask(port: int, request: Request) -> tuple[tuple[str | None, int | None], Request] | None:
    """Return which route an Envoy takes, and the request with the id that it had there; None where it is refused."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", request.authority)
        for name, value in request.headers:
            connection.putheader(name, value.encode())
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read().decode()
    finally:
        connection.close()
    if answer.status not in (200, 404):
        return None
    headers = [each for each in request.headers if each[0].lower() != "x-request-id"]
    headers.append(("x-request-id", answer.headers["x-request-id"].encode("latin-1").decode()))
    host, _, number = body.partition("\n")
    taken = (host, int(number)) if answer.status == 200 else (None, None)
    return taken, Request(request.method, request.authority, request.path, tuple(headers))


# -- Requests ----------------------------------------------------------------------------------------------------------


def _request(routes: Resource, chance: random.Random) -> Request:
    """Return a request that fits a route, or would but for one thing."""
    hosts = [host for host in routes["virtual_hosts"] if _is_conditional(host)]
    host = chance.choice(hosts if chance.random() < 0.95 else routes["virtual_hosts"])
    authority = chance.choice(host["domains"]).replace("*", chance.choice(("x", "a.b", "www")))
    if chance.random() < 0.1:
        authority = chance.choice((authority.upper(), f"{authority.partition(':')[0]}:80", "nobody", authority + ".a"))
    match = chance.choice(host.get("routes") or [{"match": {"prefix": "/"}}])["match"]
    if chance.random() < 0.7:
        match = chance.choice([each["match"] for each in host.get("routes", ()) if "match" in each] or [match])
    fields: dict[str, Any] = {"method": "GET", "authority": authority, "path": _path(match, chance)}
    headers: list[tuple[str, str]] = []
    for condition in match.get("headers", ()):
        _fit(fields, headers, condition, chance)
    query = [
        f"{condition['name']}={value}"
        for condition in match.get("query_parameters", ())
        if " " not in (value := _fitting(condition.get("string_match"), _VALUES, chance))
    ]
    change = chance.random()
    if change < 0.15 and headers:
        headers.pop(chance.randrange(len(headers)))
    elif change < 0.3 and headers:
        index = chance.randrange(len(headers))
        headers[index] = (headers[index][0], chance.choice(_VALUES))
    elif change < 0.4 and query:
        query.pop()
    elif change < 0.55:
        fields["path"] = chance.choice(_PATHS)
    elif change < 0.65:
        headers.append((chance.choice(_NAMES), chance.choice(_VALUES)))
    elif change < 0.7:
        fields["method"] = chance.choice(("POST", "DELETE", "PUT"))
    elif change < 0.75:
        query.append(chance.choice(("q=1", "r", "Upper=tester", "q=", "=", "q=0&q=1")))
    if query:
        fields["path"] += ("&" if "?" in fields["path"] else "?") + "&".join(query)
    fields["path"] = re.sub("[^!-~]", "%20", fields["path"])
    # What no request can have (RFC 9110, 9.1 and 7.2): a value that a condition asks for, and that no client sends.
    fields["method"] = fields["method"] if re.fullmatch("[A-Za-z]+", fields["method"]) else "GET"
    fields["authority"] = re.sub("[^!-~]", "", fields["authority"]) or "webserver"
    return Request(**fields, headers=tuple(headers))


def _path(match: Resource, chance: random.Random) -> str:
    if "path" in match:
        path = match["path"]
    elif "safe_regex" in match:
        path = _fitting({"safe_regex": match["safe_regex"]}, _PATHS, chance)
    else:
        prefix = match.get("path_separated_prefix") or match.get("prefix", "/")
        path = prefix + chance.choice(("", "", "/", "/x", "x", "?q=1", "/../c"))
    if not match.get("case_sensitive", True) and chance.random() < 0.5:
        path = path.swapcase()
    return path if path.startswith("/") else f"/{path}"


def _fit(fields: dict[str, Any], headers: list[tuple[str, str]], condition: Resource, chance: random.Random) -> None:
    """Give a request what a condition asks for."""
    name, matcher = condition["name"].lower(), condition.get("string_match")
    if condition.get("invert_match"):
        if chance.random() < 0.3:
            headers.append((name, chance.choice(_VALUES)))
    elif name == ":method":
        fields["method"] = _fitting(matcher, ("GET", "POST"), chance) or "GET"
    elif name in (":authority", "host"):
        fields["authority"] = _fitting(matcher, (fields["authority"], "webserver", "web"), chance) or "webserver"
    elif not name.startswith(":"):
        headers.append((name, _fitting(matcher, _VALUES, chance)))


def _fitting(matcher: Resource | None, values: tuple[str, ...], chance: random.Random) -> str:
    """Return a value for a StringMatcher: most of the time one that fits."""
    if not matcher:
        return chance.choice(values)
    if "safe_regex" in matcher:
        expression = matcher["safe_regex"]["regex"]
        fitting = [value for value in values if re.fullmatch(expression, value)]
        return chance.choice(fitting or values)
    return str(matcher.get("exact") or matcher.get("prefix", "")) + (
        chance.choice(("", "x")) if "prefix" in matcher or chance.random() < 0.1 else ""
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same policies and requests")
    parser.add_argument("--count", type=int, default=2000, help="how many requests for each engine")
    parser.add_argument("--engine", choices=list(ENGINES), action="append", help="only this one")
    parser.add_argument("--show", action="store_true", help="print as well of which requests nothing was said")
    options = parser.parse_args()
    is_wrong = False
    for engine in options.engine or ENGINES:
        outcomes: Counter[str] = Counter()
        passed_over = 0
        for result in judge(engine, options.seed, options.count):
            outcomes[result.outcome] += 1
            passed_over += len(result.evaluation.passed_over) if result.evaluation else 0
            if result.outcome == DIFFERENT or (options.show and result.outcome == SILENT):
                print(f"# {result.outcome}: {result.case.request}")
                print(f"#   Envoy took {result.taken}, evaluated {result.evaluation}")
                if result.outcome == DIFFERENT:
                    print(yaml.safe_dump_all(result.case.policy, sort_keys=False, allow_unicode=True, width=118))
        counts = ", ".join(f"{outcomes[each]} {each}" for each in (SAME, SILENT, DIFFERENT))
        print(f"{engine}: {counts}; {passed_over} reasons", flush=True)
        is_wrong |= bool(outcomes[DIFFERENT])
    return 1 if is_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
