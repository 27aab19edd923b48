"""Random policies that an API server takes: every field that a learner may write, alone and in every combination.

What Istio's validation refuses is left in at a low rate, since the quick engine has to refuse it as well; so are fields
that are empty, or that something is missing from. Fields that hardly any learner needs are rare, not absent.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

Document = dict[str, Any]
Options = dict[str, Callable[[], Any]]

_ISTIO = "networking.istio.io/v1"
_GATEWAY_API = "gateway.networking.k8s.io/v1"
_PATHS = ("/", "/a", "/a/", "/A", "/a/b", "/a/b/c", "/b", "/long/path/to/something", "/a.b", "/a%20b", "/ab")
_PATH_REGEXES = (".*", "/.*", "/a.*", "/[a-z]+/b", "/(a|b)/.*", "/a/very/long/expression.*", "/", "^/a$", "/[A-Z].*")
_PATH_REGEXES += (r"/\d+", "(?i)/a.*", "/ü.*")
_VALUES = ("1", "tester", "a b", "Tester", "x,y", "ü", "a:b", '"', "0")
_VALUE_REGEXES = (".*", ".+", "t.*", "[0-9]+", "a|b", "^x$", "(?i)x")
_DURATIONS = ("1s", "1h2m3.5s", "0.5s", "1.5s", "250ms", "1m", "1m30s", "1h", "2ms", "0.001s", "15s", "3661s")
_HEADERS = ("x", "X", "end-user", "X-Upper", "cookie", "y", "accept", "x-request-id", "content-type")
_PERCENTAGES = (0, 0.0001, 0.01, 0.29, 0.5, 1, 1.1, 12.5, 33.333, 50, 57.1, 99.9999, 100)
_HTTP_HOSTS = ("shop.example.com", "www.example.com", "*.example.com", "*", "a.b.example.com", "shop.example.org")
_WEIGHTS = (0, 1, 1, 2, 3, 10, 25, 50, 75, 90, 100, 1000)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each field and item as what holds it and its name or number."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield value, key
        yield from _places(inner)


class Generator:
    """Makes one policy after another, each a list of objects; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def policy(self) -> list[Document]:
        """Return the objects of one policy, with unlike names and in any order."""
        self._density = self._random.choice((0.08, 0.2, 0.4))
        # Names of what is not there: seldom, and then more than one.
        self._mistakes = 0.1 if self._chance(0.06) else 0.0
        self._entries: list[str] = []
        self._gateways: list[str] = []
        self._subsets: dict[str, list[str]] = {}
        self._ports: dict[str, list[int]] = {}
        self._services = ["webserver", "webserver", "webserver", "webserverv1", "webserverv2", "proxy"]
        documents: list[Document] = []
        if self._chance(0.15):
            documents.append(self._service())
        if self._chance(0.25):
            documents += [self._service_entry(name) for name in self._names("entry", 2)]
        documents += self._destination_rules() if self._chance(0.6) else []
        if self._chance(0.55):
            if self._chance(0.35):
                documents += [self._istio_gateway(name) for name in self._names("gateway", 2)]
            documents += [self._virtual_service(name) for name in self._names("route", 3)]
        else:
            gateways = [self._gateway(name) for name in self._names("gateway", 2)] if self._chance(0.4) else []
            documents += gateways
            documents += [self._http_route(name, gateways) for name in self._names("route", 3)]
            if self._chance(0.08):
                documents.append(self._virtual_service("beside"))
        self._random.shuffle(documents)
        if self._chance(0.15):
            self._empty_a_field([each for each in documents if each["apiVersion"] in (_ISTIO, _GATEWAY_API)])
        return documents

    def _empty_a_field(self, policies: list[Document]) -> None:
        """Leave out a field, or what stands in it, as somebody does who comments out lines while trying."""
        if not policies:
            return
        places = list(_places(self._one(policies)["spec"]))
        if not places:
            return
        holder, key = self._one(places)
        if self._chance(0.3):
            del holder[key]
        else:
            holder[key] = self._one((None, None, {}, [], "", 0))

    # -- Choices

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _one(self, values: Any) -> Any:
        return self._random.choice(tuple(values))

    def _names(self, prefix: str, most: int) -> list[str]:
        count = 1 if self._chance(0.65) else self._random.randint(1, most)
        names = [f"{prefix}-{letter}" for letter in "abcd"[:count]]
        self._random.shuffle(names)
        return names

    def _some(self, options: Options, rare: Options | None = None) -> dict[str, Any]:
        """Return some of the options, in some order, and hardly ever one of the rare."""
        chosen = [name for name in options if self._chance(self._density)]
        chosen += [name for name in rare or {} if self._chance(0.01)]
        self._random.shuffle(chosen)
        return {name: ({**options, **(rare or {})})[name]() for name in chosen}

    def _at_least_one(self, options: Options, rare: Options | None = None) -> dict[str, Any]:
        value = self._some(options, rare)
        if not value:
            name = self._one(options)
            value = {name: options[name]()}
        return value

    def _several(self, make: Callable[[], Any], most: int = 3, least: int = 1) -> list[Any]:
        return [make() for _ in range(self._random.randint(least, most))]

    def _of(self, values: Any) -> Callable[[], Any]:
        return lambda: self._one(values)

    # -- What is called

    def _service(self) -> Document:
        self._services += ["shop", "shop"]
        ports: list[dict[str, Any]] = [
            {"name": "http", "port": 80, "targetPort": 3030},
            {"name": "http-other", "port": 8080, "targetPort": "http"},
            {"name": "admin", "port": 81, "targetPort": 3030, "appProtocol": "http"},
        ]
        if self._chance(0.1):
            protocol = self._one(
                ("http2", "grpc", "kubernetes.io/h2c", "kubernetes.io/ws", "tcp", "https", "redis", "HTTP")
            )
            self._one(ports)["appProtocol"] = protocol
        if self._chance(0.05):
            ports[0]["name"] = self._one(("web", "tcp", "grpc-web", "http2"))
        ports = [port for port in ports if self._chance(0.7)] or ports[:1]
        self._ports["shop"] = [port["port"] for port in ports]
        spec: dict[str, Any] = {"selector": {"app": "webserver"}, "ports": ports}
        metadata: dict[str, Any] = {"name": "shop"}
        if self._chance(0.03):
            spec["trafficDistribution"] = "PreferClose"
        if self._chance(0.03):
            metadata["annotations"] = {"networking.istio.io/exportTo": self._one((".", "*", "~"))}
        if self._chance(0.03):
            spec["selector"] = {"app": "nobody"}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}

    def _host(self) -> str:
        if self._entries and self._chance(0.3):
            return self._one(self._entries)
        if self._chance(self._mistakes):
            return self._one(("nowhere", "webserver.default", "nowhere.example.com"))
        name = self._one(self._services)
        return f"{name}.default.svc.cluster.local" if self._chance(0.15) else name

    def _ports_of(self, host: str) -> list[int]:
        return self._ports.get(host.partition(".default.svc")[0], [80])

    def _port_of(self, host: str) -> int:
        return self._one((80, 8080, 81)) if self._chance(self._mistakes) else self._one(self._ports_of(host))

    def _destination(self) -> dict[str, Any]:
        host = self._host()
        value: dict[str, Any] = {"host": host}
        subsets = self._subsets.get(host.partition(".default.svc")[0], [])
        if subsets and self._chance(0.6):
            value["subset"] = self._one(subsets)
        elif self._chance(self._mistakes):
            value["subset"] = "unknown"
        # Of several ports Istio takes the one that was called; not every host has all of them.
        if self._chance(0.6 if self._ports_of(host) != [80] else 0.15):
            value["port"] = {"number": self._port_of(host)}
        return value

    # -- ServiceEntry

    def _service_entry(self, name: str) -> Document:
        hosts = [f"{name}.example.com", *([f"{name}.example.org"] if self._chance(0.2) else [])]
        self._entries += hosts
        ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
        if self._chance(0.25):
            ports.append({"number": self._one((8080, 81)), "name": "http-other", "protocol": "HTTP"})
        for port in ports:
            if self._chance(0.15):
                port["targetPort"] = self._one((3030, 8080))
            if self._chance(0.02):
                port["protocol"] = self._one(("HTTP2", "GRPC", "TCP", "HTTPS", "TLS"))
        for host in hosts:
            self._ports[host] = [port["number"] for port in ports]
        resolution = self._one(("DNS", "STATIC", "STATIC", "NONE"))
        spec: dict[str, Any] = {"hosts": hosts, "ports": ports, "resolution": resolution}
        if resolution == "NONE":
            hosts += ["*.example.net"] if self._chance(0.2) else []
            if self._chance(0.5):
                del spec["resolution"]
        spec |= self._some(
            {
                "location": self._of(("MESH_EXTERNAL", "MESH_INTERNAL")),
                "exportTo": lambda: [self._one((".", "*", "*", "default"))],
            },
            {
                "addresses": lambda: [self._one(("192.0.2.80", "192.0.2.80/32", "192.0.2.64/28"))],
                "subjectAltNames": lambda: ["spiffe://a"],
            },
        )
        if resolution != "NONE" and self._chance(0.9 if resolution == "STATIC" else 0.3):
            spec["endpoints"] = self._several(lambda: self._endpoint(resolution))
            addresses = {endpoint["address"] for endpoint in spec["endpoints"]}
            if len(addresses) < len(spec["endpoints"]):
                spec["endpoints"] = spec["endpoints"][:1]
        return self._document(_ISTIO, "ServiceEntry", name, spec)

    def _endpoint(self, resolution: str) -> dict[str, Any]:
        number = self._random.randint(1, 9)
        address = f"192.0.2.{number}" if resolution == "STATIC" or self._chance(0.2) else f"host{number}.example.com"
        return {"address": address} | self._some(
            {
                "ports": lambda: {"http": self._one((80, 8000))},
                "weight": self._of((1, 2, 10)),
                "labels": lambda: {"version": self._one(("v1", "v2"))},
            },
            {"locality": lambda: "a/b/c"},
        )

    # -- DestinationRule

    def _destination_rules(self) -> list[Document]:
        hosts = list(dict.fromkeys([*self._services, *self._entries]))
        self._random.shuffle(hosts)
        if self._chance(0.6):
            hosts.sort(key=lambda host: host != "webserver")
        documents = [
            self._destination_rule(f"rule-{host.partition('.')[0]}", host) for host in hosts[: self._one((1, 1, 2))]
        ]
        if self._chance(0.06):
            documents.append(self._destination_rule("rule-again", hosts[0]))
        if self._chance(0.03):
            everything = ("*.default.svc.cluster.local", "*", "*.example.com")
            documents.append(self._destination_rule("rule-all", self._one(everything)))
        return documents

    def _destination_rule(self, name: str, host: str) -> Document:
        spec: dict[str, Any] = {"host": host}
        if host in self._services and self._chance(0.15):
            spec["host"] = f"{host}.default.svc.cluster.local"
        if self._chance(0.75):
            spec["trafficPolicy"] = self._traffic_policy(ports=True)
        if self._chance(0.6):
            versions = {"webserverv1": ("v1",), "webserverv2": ("v2",), "proxy": ("v1",)}.get(host, ("v1", "v2"))
            versions = versions if self._chance(0.8) else versions[:1]
            subsets = []
            for version in versions:
                subset: dict[str, Any] = {"name": version, "labels": {"version": version}}
                if self._chance(0.05):
                    subset["labels"] = self._one(({}, {"app": "webserver", "version": version}))
                if self._chance(0.35):
                    subset["trafficPolicy"] = self._traffic_policy(ports=True)
                subsets.append(subset)
            spec["subsets"] = subsets
            self._subsets.setdefault(host, []).extend(versions)
        spec |= self._some(
            {}, {"exportTo": lambda: ["."], "workloadSelector": lambda: {"matchLabels": {"app": "proxy"}}}
        )
        return self._document(_ISTIO, "DestinationRule", name, spec)

    def _traffic_policy(self, ports: bool) -> dict[str, Any]:
        value = self._at_least_one(
            {
                "loadBalancer": self._load_balancer,
                "connectionPool": self._connection_pool,
                "outlierDetection": self._outlier_detection,
            },
            {
                "tls": lambda: {"mode": self._one(("DISABLE", "ISTIO_MUTUAL", "SIMPLE"))},
                **(
                    {
                        "retryBudget": lambda: self._some(
                            {"percent": self._of((0, 25, 33.3)), "minRetryConcurrency": self._of((1, 9))}
                        )
                    }
                    if ports
                    else {}
                ),
            },
        )
        if ports and self._chance(0.12):
            if self._chance(0.3):
                value = {}
            numbers = [80, 8080] if self._chance(0.25) else [self._one((80, 80, 8080))]
            value["portLevelSettings"] = [
                {"port": {"number": number}, **self._traffic_policy(ports=False)} for number in numbers
            ]
        return value

    def _load_balancer(self) -> dict[str, Any]:
        rare: Options = {
            "localityLbSetting": lambda: {"enabled": self._chance(0.5)},
            "warmupDurationSecs": self._of(_DURATIONS),
        }
        common = self._some({}, rare)
        if self._chance(0.06):
            more = self._some({"minimumPercent": self._of((0, 1, 50, 100)), "aggression": self._of((1, 1.5, 3))})
            common["warmup"] = {"duration": self._one(_DURATIONS), **more}
        if self._chance(0.02):
            return self._one(({}, {"consistentHash": {}}))
        if self._chance(0.5):
            simple = self._one(("ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "LEAST_CONN", "UNSPECIFIED"))
            return {"simple": "PASSTHROUGH" if self._chance(0.1) else simple, **common}
        key: dict[str, Any] = self._one(
            (
                {"httpHeaderName": self._one(_HEADERS)},
                {"useSourceIp": True},
                {"useSourceIp": False},
                {"httpQueryParameterName": "user"},
                {"httpCookie": {"name": "user", **self._some({"path": self._of(("/", "/a", "")), "ttl": self._ttl})}},
            )
        )
        if self._chance(0.3):
            key |= self._one(
                (
                    {"minimumRingSize": self._one((0, 1, 1024, 2048))},
                    {"ringHash": self._some({"minimumRingSize": self._of((0, 1, 512, 1024))})},
                    {"maglev": {"tableSize": self._one((2, 1009, 65537))}},
                )
            )
        return {"consistentHash": key, **common}

    def _ttl(self) -> str:
        return self._one((*_DURATIONS, "0s"))

    def _connection_pool(self) -> dict[str, Any]:
        numbers = self._of((0, 1, 2, 100, 2**31 - 1))
        tcp: Options = {
            "maxConnections": numbers,
            "connectTimeout": self._of(_DURATIONS),
            "maxConnectionDuration": self._of(_DURATIONS),
            "idleTimeout": self._of(_DURATIONS),
            "tcpKeepalive": lambda: self._some(
                {"probes": self._of((1, 9)), "time": self._of(("7200s", "1s")), "interval": self._of(("75s", "2s"))}
            ),
        }
        http: Options = {
            "http1MaxPendingRequests": numbers,
            "http2MaxRequests": numbers,
            "maxRequestsPerConnection": numbers,
            "maxRetries": numbers,
            "idleTimeout": self._of(_DURATIONS),
        }
        rare: Options = {
            "h2UpgradePolicy": self._of(("DEFAULT", "DO_NOT_UPGRADE", "UPGRADE")),
            "useClientProtocol": self._of((True, False)),
            "maxConcurrentStreams": numbers,
        }
        return self._at_least_one({"tcp": lambda: self._some(tcp), "http": lambda: self._some(http, rare)})

    def _outlier_detection(self) -> dict[str, Any]:
        counts, percents = self._of((0, 1, 5, 1000)), self._of((0, 1, 10, 50, 100))
        value = self._some(
            {
                "consecutive5xxErrors": counts,
                "consecutiveGatewayErrors": counts,
                "interval": self._of(_DURATIONS),
                "baseEjectionTime": self._of(_DURATIONS),
                "maxEjectionPercent": percents,
                "minHealthPercent": percents,
            },
            {"consecutiveErrors": counts},
        )
        if self._chance(0.15):
            value["splitExternalLocalOriginErrors"] = True
            if self._chance(0.6):
                value["consecutiveLocalOriginFailures"] = counts()
        return value

    # -- VirtualService

    def _istio_gateway(self, name: str) -> Document:
        self._gateways.append(name)
        selector = {"istio": "ingressgateway" if self._chance(0.85) else "egressgateway"}
        servers: list[dict[str, Any]] = []
        for index in range(1 if self._chance(0.8) else 2):
            number = 80 if self._chance(0.85) else 8080
            hosts = self._random.sample(_HTTP_HOSTS, self._one((1, 1, 2)))
            if self._chance(0.1):
                hosts = [self._one(("default/", "./", "*/")) + host for host in hosts]
            server: dict[str, Any] = {
                "port": {"number": number, "name": f"http-{index}", "protocol": "HTTP"},
                "hosts": hosts,
            }
            if self._chance(0.08):
                server["tls"] = {"httpsRedirect": self._chance(0.7)}
            server |= self._some({}, {"name": lambda: "main"})
            servers.append(server)
        return self._document(_ISTIO, "Gateway", name, {"selector": selector, "servers": servers})

    def _virtual_service(self, name: str) -> Document:
        spec: dict[str, Any] = {}
        gateways = []
        if self._gateways and self._chance(0.8):
            gateways = self._random.sample(self._gateways, self._random.randint(1, len(self._gateways)))
            hosts = self._random.sample(_HTTP_HOSTS, self._one((1, 1, 2)))
            if len(hosts) > 1:
                hosts = [host for host in hosts if "*" not in host] or hosts[:1]  # one may not hold another
            if self._chance(0.2):
                hosts = [*(host for host in hosts if host != "*"), self._host()]
                gateways.append("mesh")
            spec["gateways"] = [
                f"default/{each}" if each != "mesh" and self._chance(0.1) else each for each in gateways
            ]
        else:
            hosts = list(dict.fromkeys(self._several(self._host, 2)))
            if self._chance(0.3):
                hosts = ["webserver"]
            if self._chance(0.05):
                spec["gateways"] = ["mesh"]
            if self._chance(0.02):
                hosts = [self._one(("*.default.svc.cluster.local", "*.example.com"))]
        spec["hosts"] = hosts
        spec["http"] = self._several(lambda: self._http(gateways), 4)
        spec |= self._some(
            {}, {"exportTo": lambda: ["."], "tcp": lambda: [{"route": [{"destination": {"host": "proxy"}}]}]}
        )
        return self._document(_ISTIO, "VirtualService", name, spec)

    def _http(self, gateways: list[str]) -> dict[str, Any]:
        rule: dict[str, Any] = {}
        if self._chance(0.7):
            rule["match"] = self._several(lambda: self._match(gateways), 3)
        kind = self._random.random()
        options: Options = {"name": self._of(("one", "two")), "headers": self._headers, "corsPolicy": self._cors}
        if kind < 0.1:
            rule["redirect"] = self._redirect()
        elif kind < 0.17:
            body = self._one(({"string": self._one(("", "text", "{}"))}, {"bytes": "aGVsbG8="}, {"bytes": ""}))
            status = self._one((200, 204, 404, 503, 599, 301))
            rule["directResponse"] = {"status": status, **self._some({"body": lambda: body})}
        else:
            rule["route"] = self._route()
            options |= {
                "timeout": self._of(_DURATIONS),
                "retries": self._retries,
                "fault": self._fault,
                "rewrite": self._rewrite,
                self._one(("mirror", "mirrors")): lambda: None,
            }
            if self._chance(0.005):
                rule["delegate"] = {"name": "somewhere"}
        rule |= self._some(options)
        if "mirror" in rule:
            rule["mirror"] = self._destination()
            if self._chance(0.5):
                rule["mirrorPercentage"] = {"value": self._one(_PERCENTAGES)}
            elif self._chance(0.05):
                rule["mirrorPercent"] = self._one((0, 40, 100))
        if "mirrors" in rule:
            rule["mirrors"] = self._several(
                lambda: {
                    "destination": self._destination(),
                    **self._some({"percentage": lambda: {"value": self._one(_PERCENTAGES)}}),
                },
                2,
            )
        return rule

    def _route(self) -> list[dict[str, Any]]:
        count = self._one((1, 1, 2, 2, 3))
        routes = []
        for _ in range(count):
            route: dict[str, Any] = {"destination": self._destination()}
            if count > 1 or self._chance(0.15):
                route["weight"] = self._one(_WEIGHTS)
            if self._chance(self._density / 2):
                route["headers"] = self._headers()
            routes.append(route)
        if count > 1 and not any(route["weight"] for route in routes):
            routes[-1]["weight"] = 1
        return routes

    def _string_match(self, values: Any, regexes: Any) -> dict[str, str]:
        kind = self._one(("exact", "prefix", "regex"))
        return {kind: self._one(regexes if kind == "regex" else values)}

    def _value_match(self) -> dict[str, str]:
        if self._chance(0.15):
            return {}
        match = self._string_match(_VALUES, _VALUE_REGEXES)
        return {"exact": ""} if self._chance(0.04) else match

    def _match(self, gateways: list[str]) -> dict[str, Any]:
        if self._chance(0.05):
            return {}
        names = (*_HEADERS, ":method", ":authority", ":path", "Host")
        rare: Options = {"sourceNamespace": self._of(("default", "other")), "statPrefix": lambda: "a"}

        def conditions(names: Any) -> Callable[[], dict[str, Any]]:
            return lambda: {self._one(names): self._value_match() for _ in range(self._one((1, 1, 2, 3)))}

        options: Options = {
            "headers": conditions(names),
            "withoutHeaders": conditions(_HEADERS),
            "queryParams": conditions(("q", "r", "Upper")),
            "method": lambda: self._string_match(("GET", "POST", "P"), ("G.*", ".*")) if self._chance(0.95) else {},
            "ignoreUriCase": self._of((True, True, False)),
            "name": self._of(("one", "two")),
        }
        if self._chance(0.4):
            options |= {
                "authority": lambda: self._string_match(("webserver", "web", "shop.example.com"), (".*web.*", ".*")),
                "scheme": lambda: self._string_match(("http", "https"), ("http.*",)),
                "port": self._of((80, 80, 8080)),
                "sourceLabels": self._of(({"app": "proxy"}, {"app": "other"}, {"app": "proxy", "version": "v1"}, {})),
                "gateways": lambda: self._random.sample(sorted({*gateways, "mesh"}), 1),
            }
        match = self._some(options, rare)
        if self._chance(0.65):
            match["uri"] = self._string_match(_PATHS, _PATH_REGEXES)
            if self._chance(0.02):
                match["uri"] = self._one(({"exact": ""}, {"prefix": ""}, {"exact": "a"}, {"prefix": "*"}))
        return match

    def _headers(self) -> dict[str, Any]:
        def operations(is_request: bool) -> dict[str, Any]:
            names = list(_HEADERS)
            values = ("1", "a b", "", "x=y;z", "ü") if self._chance(0.95) else ("%REQ(x)%", "100%%", "%START_TIME%")

            def pairs() -> dict[str, str]:
                value = {self._one(names): self._one(values) for _ in range(self._one((1, 1, 2)))}
                if is_request and self._chance(0.1):
                    value[self._one(("Host", "host", ":authority"))] = self._one(("other.example.com", "webserverv2"))
                return value

            return self._some(
                {"set": pairs, "add": pairs, "remove": lambda: self._random.sample(names, self._one((1, 2)))}
            )

        return self._some({"request": lambda: operations(True), "response": lambda: operations(False)})

    def _redirect(self) -> dict[str, Any]:
        value = self._at_least_one(
            {
                "uri": self._of((*_PATHS[:5], "%PREFIX()%/x")),
                "authority": self._of(("other.example.com", "webserverv2:8080")),
                "scheme": self._of(("http", "https")),
                self._one(("port", "derivePort")): lambda: None,
            }
        )
        if "port" in value:
            value["port"] = self._one((80, 443, 8080, 65535))
        if "derivePort" in value:
            value["derivePort"] = self._one(("FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"))
        if self._chance(0.4):
            value["redirectCode"] = self._one((301, 302, 303, 307, 308))
        return value

    def _rewrite(self) -> dict[str, Any]:
        value = self._at_least_one(
            {
                self._one(("uri", "uriRegexRewrite")): lambda: None,
                "authority": self._of(("other.example.com", "webserverv2")),
            }
        )
        if "uri" in value:
            value["uri"] = self._one((*_PATHS, "%PREFIX()%x", "x"))
        if "uriRegexRewrite" in value:
            value["uriRegexRewrite"] = {
                "match": self._one(("/a/(.*)", "^/[^/]+", ".*")),
                "rewrite": self._one((r"/\1", "/b", "")),
            }
            if value["uriRegexRewrite"]["match"] != "/a/(.*)":
                value["uriRegexRewrite"]["rewrite"] = "/b"
        return value

    def _retries(self) -> dict[str, Any]:
        if self._chance(0.1):
            return self._one(({}, {"attempts": 0}))
        conditions = (
            "5xx",
            "503",
            "reset",
            "gateway-error",
            "connect-failure",
            "retriable-4xx",
            "429",
            "retriable-headers",
        )
        conditions += ("refused-stream", "cancelled", "retriable-status-codes", "unavailable")
        comma = "," if self._chance(0.03) else ""
        return {"attempts": self._one((1, 2, 3, 100))} | self._some(
            {
                "retryOn": lambda: ",".join(self._random.choices(conditions, k=self._random.randint(1, 4))) + comma,
                "perTryTimeout": self._of(_DURATIONS),
                "backoff": self._of(_DURATIONS),
                "retryIgnorePreviousHosts": self._of((True, False)),
            },
            {"retryRemoteLocalities": self._of((True, False))},
        )

    def _fault(self) -> dict[str, Any]:
        def percentage(is_delay: bool) -> dict[str, Any]:
            if self._chance(0.1):
                return self._one(({}, {"percentage": {}}))
            if is_delay and self._chance(0.05):
                return {"percent": self._one((0, 30, 100))}
            return {"percentage": {"value": self._one(_PERCENTAGES)}}

        return self._at_least_one(
            {
                "delay": lambda: {"fixedDelay": self._one(_DURATIONS), **percentage(True)},
                "abort": lambda: {"httpStatus": self._one((200, 404, 418, 500, 503, 599)), **percentage(False)},
            }
        )

    def _cors(self) -> dict[str, Any]:
        origins = ("https://example.com", "*", "https://a.example.com:8443")
        return self._some(
            {
                "allowOrigins": lambda: self._several(lambda: self._string_match(origins, ("https://.*", ".*"))),
                "allowMethods": lambda: self._random.sample(("GET", "POST", "PUT", "OPTIONS", "*"), 2),
                "allowHeaders": lambda: self._random.sample(_HEADERS, 2),
                "exposeHeaders": lambda: self._random.sample(_HEADERS, 2),
                "maxAge": self._of(("1s", "1m", "24h", "90s")),
                "allowCredentials": self._of((True, False)),
            },
            {
                "unmatchedPreflights": self._of(("FORWARD", "IGNORE", "UNSPECIFIED")),
                "allowOrigin": lambda: ["https://a.example.com"],
            },
        )

    # -- Gateway API

    def _gateway(self, name: str) -> Document:
        listeners, seen = [], set()
        for index in range(self._one((1, 1, 1, 2, 3))):
            hostname = None if self._chance(0.5) else self._one(tuple(host for host in _HTTP_HOSTS if host != "*"))
            port = 80 if self._chance(0.8) else 8080
            if (port, hostname) in seen:
                continue
            seen.add((port, hostname))
            listener: dict[str, Any] = {"name": f"http-{index}", "port": port, "protocol": "HTTP"}
            if hostname:
                listener["hostname"] = hostname
            if self._chance(0.15):
                listener["allowedRoutes"] = {"namespaces": {"from": self._one(("Same", "All"))}}
            if self._chance(0.03):
                listener["allowedRoutes"] = self._one(
                    (
                        {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}},
                        {"kinds": [{"kind": "GRPCRoute"}]},
                        {"kinds": [{"kind": "HTTPRoute"}, {"kind": "GRPCRoute"}]},
                    )
                )
            listeners.append(listener)
        return self._document(_GATEWAY_API, "Gateway", name, {"gatewayClassName": "istio", "listeners": listeners})

    def _http_route(self, name: str, gateways: list[Document]) -> Document:
        spec: dict[str, Any] = {"parentRefs": []}
        hosted = bool(gateways) and self._chance(0.8)
        if hosted:
            for gateway in self._random.sample(gateways, self._random.randint(1, len(gateways))):
                parent: dict[str, Any] = {"name": gateway["metadata"]["name"]}
                listener = self._one(gateway["spec"]["listeners"])
                both = {"sectionName": listener["name"], "port": listener["port"]}
                parent |= self._one(({}, {}, {}, {"sectionName": listener["name"]}, {"port": listener["port"]}, both))
                if self._chance(self._mistakes):
                    parent |= self._one(({"sectionName": "unknown"}, {"port": 9999}, {"name": "nowhere"}))
                spec["parentRefs"].append(parent)
            if self._chance(0.6):
                hosts = tuple(host for host in _HTTP_HOSTS if host != "*")
                spec["hostnames"] = self._random.sample(hosts, self._one((1, 1, 2)))
        if not hosted or self._chance(0.1):
            for service in self._random.sample(sorted(set(self._services)), self._one((1, 1, 1, 2))):
                parent = {"group": "", "kind": "Service", "name": service}
                if self._chance(0.75):
                    parent["port"] = self._port_of(service)
                if self._chance(self._mistakes):
                    parent["name"] = "nowhere"
                spec["parentRefs"].append(parent)
        if self._chance(0.97):
            spec["rules"] = self._several(self._rule, 4)
        return self._document(_GATEWAY_API, "HTTPRoute", name, spec)

    def _rule(self) -> dict[str, Any]:
        rule: dict[str, Any] = {}
        if self._chance(0.75):
            rule["matches"] = self._several(self._route_match, 3 if self._chance(0.4) else 1)
        matches = rule.get("matches", [{}])
        path = matches[0].get("path", {})
        is_prefix = len(matches) == 1 and path.get("type", "PathPrefix") == "PathPrefix"
        if self._chance(0.15):
            rule["filters"] = [{"type": "RequestRedirect", "requestRedirect": self._route_redirect(is_prefix)}]
            rule["filters"] += self._filters(is_prefix, ("ResponseHeaderModifier",))
            return rule
        rule["backendRefs"] = self._several(lambda: self._backend(is_prefix), self._one((1, 1, 2, 3)))
        kinds = ("RequestHeaderModifier", "ResponseHeaderModifier", "URLRewrite", "RequestMirror")
        if self._chance(0.2):
            kinds += ("CORS",)
        filters = self._filters(is_prefix, kinds)
        if filters:
            rule["filters"] = filters
        rule |= self._some({"timeouts": self._timeouts, "retry": self._route_retry}, {"name": lambda: "main"})
        if self._chance(0.02):
            rule.pop("backendRefs")
        return rule

    def _route_match(self) -> dict[str, Any]:
        def conditions(names: Any) -> Callable[[], list[dict[str, str]]]:
            def make() -> list[dict[str, str]]:
                chosen = self._random.sample(names, self._one((1, 1, 2)))
                found = []
                for name in chosen:
                    kind = self._one(("Exact", "RegularExpression", None))
                    values = [
                        value
                        for value in (_VALUE_REGEXES if kind == "RegularExpression" else _VALUES)
                        if value.isascii()
                    ]
                    found.append({"name": name, "value": self._one(values)} | ({"type": kind} if kind else {}))
                return found

            return make

        def path() -> dict[str, str]:
            kind = self._one(("Exact", "PathPrefix", "PathPrefix", "RegularExpression", None))
            value = self._one(_PATH_REGEXES if kind == "RegularExpression" else _PATHS)
            return {"value": value} | ({"type": kind} if kind else {})

        return ({"path": path()} if self._chance(0.7) else {}) | self._some(
            {
                "headers": conditions(_HEADERS),
                "queryParams": conditions(("q", "r", "Upper")),
                "method": self._of(("GET", "POST", "DELETE")),
            }
        )

    def _backend(self, is_prefix: bool) -> dict[str, Any]:
        name = self._one(self._services)
        backend: dict[str, Any] = {
            "name": "nowhere" if self._chance(self._mistakes) else name,
            "port": self._port_of(name),
        }
        if self._entries and self._chance(0.05):
            host = self._one(self._entries)
            backend |= {"group": "networking.istio.io", "kind": "Hostname", "name": host, "port": self._port_of(host)}
        if self._chance(0.5):
            backend["weight"] = self._one(_WEIGHTS)
        if self._chance(0.1):
            filters = self._filters(is_prefix, ("RequestHeaderModifier", "ResponseHeaderModifier"))
            if filters:
                backend["filters"] = filters
        return backend

    def _filters(self, is_prefix: bool, kinds: tuple[str, ...]) -> list[dict[str, Any]]:
        def operations() -> dict[str, Any]:
            names = self._random.sample(_HEADERS, 3)
            pairs = [{"name": name, "value": self._one(("1", "a b", "x=y"))} for name in names]
            value = self._at_least_one(
                {"set": lambda: pairs[:1], "add": lambda: pairs[1:2], "remove": lambda: names[2:]}
            )
            if self._chance(0.06):
                value["set"] = [{"name": self._one(("Host", "host")), "value": "other.example.com"}]
            return value

        makers: Options = {
            "RequestHeaderModifier": operations,
            "ResponseHeaderModifier": operations,
            "URLRewrite": lambda: self._route_rewrite(is_prefix),
            "RequestMirror": self._route_mirror,
            "CORS": self._route_cors,
        }
        filters = []
        for kind in kinds:
            if self._chance(self._density):
                key = "cors" if kind == "CORS" else "urlRewrite" if kind == "URLRewrite" else kind[0].lower() + kind[1:]
                filters.append({"type": kind, key: makers[kind]()})
        if "RequestMirror" in kinds and self._chance(0.03):
            filters.append({"type": "RequestMirror", "requestMirror": self._route_mirror()})
        self._random.shuffle(filters)
        return filters

    def _route_cors(self) -> dict[str, Any]:
        origins = (["https://a.example.com"], ["*"], ["https://*.example.com:8443", "http://b.example.com"])
        return self._some(
            {
                "allowOrigins": self._of(origins),
                "allowMethods": self._of((["GET"], ["GET", "PUT"], ["*"])),
                "allowHeaders": lambda: self._random.sample(_HEADERS, 2),
                "exposeHeaders": lambda: self._random.sample(_HEADERS, 2),
                "maxAge": self._of((1, 5, 60)),
                "allowCredentials": self._of((True, False)),
            }
        )

    def _route_path(self, is_prefix: bool) -> dict[str, str]:
        if is_prefix and self._chance(0.6):
            return {"type": "ReplacePrefixMatch", "replacePrefixMatch": self._one(("/", "", "/x", "/x/"))}
        return {"type": "ReplaceFullPath", "replaceFullPath": self._one(("/", "/x", "/x/y"))}

    def _route_rewrite(self, is_prefix: bool) -> dict[str, Any]:
        hostname = self._of(("other.example.com", "webserverv2"))
        return self._at_least_one({"hostname": hostname, "path": lambda: self._route_path(is_prefix)})

    def _route_redirect(self, is_prefix: bool) -> dict[str, Any]:
        return self._some(
            {
                "scheme": self._of(("http", "https")),
                "hostname": self._of(("other.example.com", "webserverv2")),
                "port": self._of((80, 443, 8080)),
                "path": lambda: self._route_path(is_prefix),
                "statusCode": self._of((301, 302, 303, 307, 308)),
            }
        )

    def _route_mirror(self) -> dict[str, Any]:
        name = self._one(self._services)
        value: dict[str, Any] = {"backendRef": {"name": name, "port": self._port_of(name)}}
        if self._chance(0.5):
            value |= self._one(
                (
                    {"percent": self._one((0, 1, 33, 100))},
                    {"fraction": {"numerator": self._one((0, 1, 3, 5)), "denominator": self._one((5, 7, 1000))}},
                    {"fraction": {"numerator": self._one((0, 1, 50, 100))}},
                )
            )
        return value

    def _timeouts(self) -> dict[str, Any]:
        return self._one(
            (
                {},
                {"request": self._one(("1s", "500ms", "1m", "0s", "1h1m1s"))},
                {"backendRequest": self._one(("1s", "250ms", "0s"))},
                {"request": "3s", "backendRequest": "1s"},
                {"request": "0s", "backendRequest": "1s"},
                {"request": "2s", "backendRequest": "2s"},
            )
        )

    def _route_retry(self) -> dict[str, Any]:
        return self._some(
            {
                "attempts": self._of((1, 3, 10)),
                "backoff": self._of(("100ms", "1s", "25ms")),
                "codes": lambda: self._random.sample((500, 502, 503, 504, 429, 404), self._one((1, 2))),
            }
        )

    def _document(self, api_version: str, kind: str, name: str, spec: dict[str, Any]) -> Document:
        return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}
