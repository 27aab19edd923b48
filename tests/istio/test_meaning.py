"""What counts as the same: for each rule a pair that is, and a pair that is not; and nothing else is left out."""

import copy
import dataclasses
import json
import random
import re

import pytest
from meaning import _LEFT_OUT, differences, meaning
from records import NO_POLICY, load, policies
from rules import RULES, configuration, member

from meshdemo.lab import quick
from meshdemo.lab.engine import Configuration, Resources
from meshdemo.lab.files.errors import ManifestError

CLUSTER = load(policies()[NO_POLICY])


def meaning_of(changes):
    return meaning(configuration(**changes), CLUSTER)


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule):
    """Two forms of one thing count as the same, and a third that is something else does not."""
    one, other, different = (meaning_of(changes) for changes in RULES[rule])
    assert differences(one, other) == []
    assert differences(one, different)


def test_addresses_are_those_of_somebody():
    """Other addresses of the same pods and Services make no difference; an address of somebody else does."""
    service, pod = CLUSTER.services[0], CLUSTER.pods[0]
    renumbered = dataclasses.replace(
        CLUSTER,
        services=(dataclasses.replace(service, address="10.0.0.7"), *CLUSTER.services[1:]),
        pods=(dataclasses.replace(pod, address="10.0.0.8"), *CLUSTER.pods[1:]),
    )

    def of(cluster, *addresses):
        return meaning(configuration(host={"domains": [addresses[0]]}, members=[member(addresses[1])]), cluster)

    assert of(CLUSTER, service.address, pod.address) == of(renumbered, "10.0.0.7", "10.0.0.8")
    assert of(CLUSTER, service.address, pod.address) != of(CLUSTER, CLUSTER.services[1].address, pod.address)
    assert of(CLUSTER, service.address, pod.address) != of(CLUSTER, service.address, CLUSTER.pods[1].address)


def test_differences_name_the_place():
    """A difference is told by its place, with what is expected and what stands there."""
    one, other = {"a": [{"b": 1}, 2], "c": 3}, {"a": [{"b": 2}, 2], "d": 4}
    assert differences(one, other) == [
        "a[0] / b: 1 in Istio, 2 here",
        "c: 3 in Istio, nothing here",
        "d: nothing in Istio, 4 here",
    ]


# -- Nothing is left out but what the rules say: what the quick engine makes is broken field by field. -----------------

# What may be changed ("~") or taken away ("-") without a difference, and why.
NO_DIFFERENCE = [
    rf".*/({'|'.join(sorted(_LEFT_OUT))})(=\w+|/.*)? [-~]",
    # Order, where it does not matter; names; what is Envoy's default and written all the same.
    r"/(listeners|routes|clusters|endpoints|routes\[\]/virtual_hosts|.*/(domains|lb_endpoints)) ~",
    r".*/match/(headers|query_parameters) ~",
    r".*/(request|response)_headers_to_(add|remove) ~",
    r".*/(request_mirror_policies|retriable_status_codes|weighted_clusters/clusters) ~",
    r"/listeners\[\]/name [-~]",
    r"/listeners\[\]/filter_chains\[\]/filters\[\]/name [-~]",
    r".*/virtual_hosts\[\]/name [-~]",
    r".*/virtual_hosts\[\]/routes\[\]/name [-~]",
    r".*/retry_host_predicate\[\]/name [-~]",
    r".*/explicit_http_config -",
    r".*/case_sensitive=True -",
    r".*/outlier_detection/enforcing_consecutive_local_origin_failure -",
    r".*/path_with_escaped_slashes_action -",
    r".*/(use_remote_address=False|server_name|http_protocol_options) -",
    # What a share of 101 % would be.
    r".*/filter_enabled/default_value/numerator ~",
    # Where a listener binds is the lab's part; how its routes come there as well.
    r"/listeners\[\]/address/socket_address/address [-~]",
    r".*/rds/config_source(/.*)? [-~]",
    # Without TLS no caller has a certificate.
    r".*/(forward_client_cert_details|set_current_client_cert_details)(/.*)? [-~]",
    # A weight of 1 is the default, and a group that is alone has all the weight; places that are not said.
    r".*/lb_endpoints\[\]/load_balancing_weight -",
    r".*/endpoints\[\]/(load_balancing_weight|locality) [-~]",
    r".*/load_assignment/cluster_name [-~]",
]

# What decides in some places only: what is alone has the whole share, a path without letters no case, 0 % no fault.
SOMETIMES = [
    r".*/(load_balancing_)?weight ~",
    r".*/numerator ~",
    r".*/case_sensitive=\w+ ~",
    r".*/(fixed_delay|http_status) ~",
]


def steps(value, path=(), kind=""):
    """Return every place below a value, with its kind: the path without numbers and names."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        if isinstance(key, int):
            name = "[]"
        else:
            name = f"/{key}" if re.fullmatch(r"@?[a-z0-9_]+", key) else f"/{key.rpartition('.')[2]}"
        yield (*path, key), kind + name + (f"={inner}" if isinstance(inner, bool) else ""), inner
        yield from steps(inner, (*path, key), kind + name)


def broken(value):
    """Return another value of the same type, or None where there is none."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        number = re.fullmatch(r"(\d+(?:\.\d+)?)(s?)", value)
        return f"{float(number[1]) + 1}{number[2]}" if number else f"{value}x"
    return value[::-1] if isinstance(value, list) and value != value[::-1] else None


def mutations(parts):
    """Return everything that can be broken: its place, what to put there (None takes it away), and its kind."""
    for path, kind, value in steps(parts):
        yield path, None, f"{kind} -"
        if broken(value) is not None:
            yield path, broken(value), f"{kind} ~"


def is_seen(parts, path, value, name, cluster):
    """Tell whether a broken part makes a difference, or cannot even be understood any more."""
    changed = copy.deepcopy(parts)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    if value is None:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    try:
        found = meaning(Configuration({name: Resources(**changed)}), cluster)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return True
    return found[name] != meaning(Configuration({name: Resources(**parts)}), cluster)[name]


@pytest.fixture(scope="module")
def made(request):
    """Return what the quick engine makes of every so many policies, without clusters that nothing leads to."""
    found = []
    for policy, record in list(policies().items())[:: request.param]:
        try:
            cluster = load(record)
            configuration = quick.configure(cluster)
        except ManifestError:
            continue
        for name, value in meaning(configuration, cluster).items():
            resources = configuration.resources[name]
            parts = {
                "listeners": list(resources.listeners),
                "routes": list(resources.routes),
                "clusters": [each for each in resources.clusters if each["name"] in value["clusters"]],
                "endpoints": [each for each in resources.endpoints if each["cluster_name"] in value["clusters"]],
            }
            found.append((policy, name, json.loads(json.dumps(parts)), cluster))
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("made", [1], indirect=True)
def test_every_kind_of_field_decides(made):
    """Each kind of field that the engine writes, changed or taken away, makes a difference, or a rule says why not."""
    tries, seen = {}, set()
    for _, name, parts, cluster in made:
        for path, value, kind in mutations(parts):
            if kind in seen or tries.get(kind, 0) >= 40:
                continue
            tries[kind] = tries.get(kind, 0) + 1
            if is_seen(parts, path, value, name, cluster):
                seen.add(kind)
    unseen = set(tries) - seen
    assert len(seen) > 250
    assert {kind for kind in unseen if not any(re.fullmatch(rule, kind) for rule in NO_DIFFERENCE)} == set()


@pytest.mark.parametrize("made", [20, pytest.param(1, marks=pytest.mark.thorough)], indirect=True)
def test_random_breaks_are_seen(made):
    """Any value changed at random makes a difference, but for what the rules leave out."""
    chance = random.Random(12)
    unseen = []
    for policy, name, parts, cluster in chance.choices(made, k=150):
        # What is taken away may have been Envoy's default.
        changes = [each for each in mutations(parts) if each[1] is not None]
        for path, value, kind in chance.choices(changes, k=4):
            if any(re.fullmatch(rule, kind) for rule in [*NO_DIFFERENCE, *SOMETIMES]):
                continue
            if not is_seen(parts, path, value, name, cluster):
                unseen.append((policy, name, path, value))
    assert unseen == []
