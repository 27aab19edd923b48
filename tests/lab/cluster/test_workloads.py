"""Reading Deployments, Services and gateways into a cluster."""

import pytest
from lab_support import EXAMPLE, K8S, manifest
from support import documents

from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.files.errors import ManifestError
from meshdemo.lab.files.manifests import Loader


def read(*found, networks=None):
    return read_cluster([manifest(each) for each in found], networks)


def example():
    return {(each["kind"], each["metadata"]["name"]): each for each in documents(EXAMPLE)}


def gateway(name, selector, *ports):
    servers = [{"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]} for port in ports]
    spec = {"selector": selector, "servers": servers}
    return {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": name}, "spec": spec}


def test_the_example():
    """The example is seven pods of three Deployments and four Services, and nothing about it is to be said."""
    cluster = read(*documents(EXAMPLE))
    assert [(each.name, each.replicas) for each in cluster.workloads] == [
        ("proxy", 1),
        ("webserverv1", 3),
        ("webserverv2", 3),
    ]
    assert [pod.name for pod in cluster.pods][:3] == ["proxy-1", "webserverv1-1", "webserverv1-2"]
    assert {service.name: service.is_public for service in cluster.services} == {
        "proxy": True,
        "webserver": False,
        "webserverv1": False,
        "webserverv2": False,
    }
    assert cluster.notes == ()
    assert cluster.policies == ()
    webserver = cluster.service("webserver.default.svc.cluster.local")
    assert len(cluster.endpoints(webserver, webserver.ports[0])) == 6
    assert cluster.pods[0].labels == {"app": "proxy", "version": "v1"}
    assert len({pod.address for pod in cluster.pods}) == 7


@pytest.mark.parametrize("folder", ["istio", "gateway-api"])
def test_every_lesson_is_read(folder):
    """Each lesson is read with the example, whichever engine applies it."""
    for path in sorted((K8S / folder).glob("*.yaml")):
        manifests, _ = Loader([EXAMPLE, path]).load()
        assert read_cluster(manifests).policies


def test_addresses_stay():
    """A Deployment keeps its addresses when others come and go, and no two have the same, however many come and go."""
    networks = {}
    objects = example()
    proxy, web = objects["Deployment", "proxy"], objects["Deployment", "webserverv1"]
    before = {pod.name: pod.address for pod in read(proxy, web, networks=networks).pods}
    for number in range(500):
        renamed = {**web, "metadata": {"name": f"web{number}"}}
        pods = read(renamed, proxy, networks=networks).pods
        assert len({pod.address for pod in pods}) == 4
        assert all(int(pod.address.split(".")[2]) < 200 for pod in pods)
        assert {pod.name: pod.address for pod in pods}["proxy-1"] == before["proxy-1"]


def test_no_replicas():
    """A Deployment may have no pods, and has one unless it says how many."""
    web = example()["Deployment", "webserverv1"]
    assert read({**web, "spec": {**web["spec"], "replicas": 0}}).pods == ()
    spec = {**web["spec"]}
    del spec["replicas"]
    assert len(read({**web, "spec": spec}).pods) == 1


def test_what_is_said_and_what_is_not():
    """What only a cluster knows is said; what makes no difference here is not."""
    objects = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}},
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "a"}},
        {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "metadata": {"name": "a"}},
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "a"}},
        {"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant", "metadata": {"name": "a"}},
        {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"}},
        {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "a"}},
        {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "b"}},
        *({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": f"c{each}"}} for each in range(3)),
    ]
    assert read(*documents(EXAMPLE), *objects).notes == (
        "not applied here, since only a cluster knows them: CronJob/a, Service.serving.knative.dev/b, 3 of kind Thing",
    )


def test_what_istio_has_no_more():
    """An old tutorial's kinds are told apart from those that a cluster of today would know."""
    objects = [
        {"apiVersion": "authentication.istio.io/v1alpha1", "kind": "Policy", "metadata": {"name": "a"}},
        {"apiVersion": "rbac.istio.io/v1alpha1", "kind": "ServiceRole", "metadata": {"name": "b"}},
        {"apiVersion": "config.istio.io/v1alpha2", "kind": "handler", "metadata": {"name": "c"}},
        {"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator", "metadata": {"name": "d"}},
    ]
    assert read(*documents(EXAMPLE), *objects).notes == (
        "not applied, since Istio has these kinds no more: Policy/a, ServiceRole/b, handler/c",
        "not applied here, since only a cluster knows them: IstioOperator/d",
    )


def workload(kind="Deployment", name="web", labels=None, ports=(), **spec):
    """Return what makes pods of another image."""
    labels = {"app": name, **(labels or {})}
    containers = [{"name": "main", "image": "other:1", "ports": [{"containerPort": port} for port in ports]}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    spec = {"selector": {"matchLabels": {"app": name}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def service(name, *ports, **spec):
    spec = {"selector": {"app": name}, "ports": list(ports), **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize(
    ("kind", "spec", "pods"),
    [
        ("Deployment", {"replicas": 2, "strategy": {"type": "Recreate"}, "paused": True}, ["web-1", "web-2"]),
        ("StatefulSet", {"replicas": 2, "serviceName": "web"}, ["web-0", "web-1"]),
        ("StatefulSet", {"ordinals": {"start": 3}}, ["web-3"]),
        ("DaemonSet", {}, ["web-1"]),
        ("ReplicaSet", {"replicas": 2}, ["web-1", "web-2"]),
    ],
)
def test_what_makes_pods(kind, spec, pods):
    """All kinds of workloads make pods, with the names that they would have, but for what is random in these."""
    cluster = read(workload(kind, **spec))
    assert [pod.name for pod in cluster.pods] == pods
    assert {(pod.workload, pod.containers[0].stands_in) for pod in cluster.pods} == {("web", True)}


def test_a_rollout():
    """A Rollout runs as a Deployment does, which is said; one that refers to a Deployment is refused."""
    rollout = {**workload(replicas=2, strategy={"canary": {"steps": []}}), "apiVersion": "argoproj.io/v1alpha1"}
    cluster = read({**rollout, "kind": "Rollout"})
    assert [pod.name for pod in cluster.pods] == ["web-1", "web-2"]
    assert cluster.notes == ("run like Deployments, without their steps: Rollout/web",)
    with pytest.raises(ManifestError, match=r"Rollout/web: spec\.workloadRef: is not supported here"):
        read({**rollout, "kind": "Rollout", "spec": {"workloadRef": {"kind": "Deployment", "name": "web"}}})


def test_hooks():
    """A pod that Helm runs as a test is not run, and named."""
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "a", "image": "b"}]}}
    pod["metadata"] = {"name": "web-test", "annotations": {"helm.sh/hook": "test"}}
    cluster = read(workload(), pod)
    assert [each.name for each in cluster.pods] == ["web-1"]
    assert cluster.notes == ("not run here, since they are hooks of a tool: Pod/web-test",)


def test_a_bare_pod():
    """A Pod runs by its own name."""
    template = workload()["spec"]["template"]
    metadata = {"name": "curl", "labels": {"app": "curl"}, "creationTimestamp": None}
    cluster = read({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    (pod,) = cluster.pods
    assert (pod.name, pod.workload, pod.labels) == ("curl", "curl", {"app": "curl"})
    assert pod.containers[0].ports == (("", 3030),)


def test_ports_of_a_stand_in():
    """A stand-in answers at the ports of its containers, and at those that Services name by number."""
    cluster = read(
        workload(ports=[8080]),
        service("web", {"name": "http", "port": 80, "targetPort": 8080}, {"name": "http-admin", "port": 9000}),
        service("other", {"name": "http", "port": 1}),
    )
    assert cluster.pods[0].containers[0].listens == (8080, 9000)
    (web, _) = cluster.services
    assert [cluster.endpoints(web, port)[0][1] for port in web.ports] == [8080, 9000]


def test_two_of_a_name():
    """No two pods have the same name."""
    with pytest.raises(ManifestError, match=r"StatefulSet/web: another workload has a pod of the name 'web-1'"):
        read(workload(), workload("StatefulSet", replicas=2))


@pytest.mark.parametrize(
    ("spec", "field"), [({"strategy": {"type": "Recreate"}}, "strategy.type"), ({"paused": True}, "paused")]
)
def test_what_this_program_would_do_otherwise(spec, field):
    """How a Deployment of this program is rolled over is as it says, or refused."""
    web = example()["Deployment", "webserverv1"]
    with pytest.raises(ManifestError, match=f"Deployment/webserverv1: spec.{field}: "):
        read({**web, "spec": {**web["spec"], **spec}})


@pytest.mark.parametrize(
    ("port", "protocol"),
    [
        ({"name": "http"}, "http"),
        ({"name": "http-web"}, "http"),
        ({"name": "web"}, "web"),
        ({"name": "web", "appProtocol": "HTTP"}, "http"),
        ({"name": "tcp", "appProtocol": "http2"}, "http2"),
        ({}, ""),
    ],
)
def test_protocols(port, protocol):
    """What a port speaks comes from appProtocol, else from the first part of its name."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}
    (found,) = read({**service, "spec": {"ports": [{"port": 80, **port}]}}).services
    assert found.ports[0].protocol == protocol
    assert found.ports[0].target == 80


@pytest.mark.parametrize(
    ("name", "port", "protocol"),
    [("", 27017, "tcp"), ("db", 3306, "tcp"), ("http", 3306, "http"), ("", 8080, ""), ("db", 8080, "db")],
)
def test_well_known_ports(name, port, protocol):
    """A port for a known database is for TCP unless something else is said, as to Istio."""
    (found,) = read(service("a", {"port": port, **({"name": name} if name else {})})).services
    assert found.ports[0].protocol == protocol


@pytest.mark.parametrize("target", [0, "", None])
def test_no_target_port(target):
    """Without a target port, or with 0, it is that of the Service, whose ports may have longer names than pods'."""
    (found,) = read(service("a", {"name": "a-name-of-twenty-or-more", "port": 80, "targetPort": target})).services
    assert (found.ports[0].name, found.ports[0].target) == ("a-name-of-twenty-or-more", 80)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("allocateLoadBalancerNodePorts", False),
        ("externalTrafficPolicy", "Local"),
        ("healthCheckNodePort", 30000),
        ("internalTrafficPolicy", "Cluster"),
        ("ipFamilies", ["IPv4"]),
        ("ipFamilyPolicy", "SingleStack"),
        ("loadBalancerClass", "a"),
        ("loadBalancerIP", "10.0.0.1"),
        ("loadBalancerSourceRanges", ["10.0.0.0/8"]),
        ("publishNotReadyAddresses", True),
        ("sessionAffinityConfig", {"clientIP": {"timeoutSeconds": 1}}),
    ],
)
def test_how_a_cluster_carries_a_service(field, value):
    """What a Service says about the network of a cluster is read and changes nothing here."""
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}
    plain = read({**service, "spec": {"ports": [{"port": 80}]}})
    said = read({**service, "spec": {"ports": [{"port": 80}], field: value}})
    assert (said.services, said.notes) == (plain.services, ())


def test_callers_are_not_kept_at_a_pod():
    """A Service that asks for it is read, and what Istio makes of that is said."""
    found = read(service("a", {"port": 80}, sessionAffinity="ClientIP"), service("b", {"port": 80}))
    assert [each.name for each in found.services] == ["a", "b"]
    assert found.notes == ("without effect, as between sidecars: sessionAffinity of Service/a",)


def test_gateways():
    """Gateways of Istio share a pod where they select the same one; each of the Gateway API has its own."""
    api = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "g"},
        "spec": {"gatewayClassName": "istio", "listeners": [{"name": "http", "port": 8080, "protocol": "HTTP"}]},
    }
    found = read(
        gateway("a", {"istio": "ingressgateway"}, 80),
        gateway("b", {"istio": "ingressgateway", "app": "x"}, 80, 81),
        gateway("c", {"app": "mine"}, 90),
        api,
    ).gateways
    assert [(each.name, each.namespace, each.ports) for each in found] == [
        ("istio-ingressgateway", "istio-system", (80, 81)),
        ("mine", "istio-system", (90,)),
        ("g-istio", "default", (8080,)),
    ]
    assert [each.name for each in found[0].manifests] == ["a", "b"]
    assert found[0].labels == {"istio": "ingressgateway", "app": "x"}
    assert len({each.address for each in found}) == 3


def test_labels_of_an_installation():
    """An installed gateway has both labels that charts give it, whichever of them is selected."""
    asking = [gateway("a", {"istio": "ingressgateway"}, 80), gateway("b", {"app": "istio-ingressgateway"}, 81)]
    for chosen in (asking, asking[:1], asking[1:]):
        (found,) = read(*chosen).gateways
        assert (found.name, found.namespace) == ("istio-ingressgateway", "istio-system")
        assert found.labels == {"istio": "ingressgateway", "app": "istio-ingressgateway"}


def installed(namespace="edge", name="edge-gateway", **labels):
    """Return the Deployment of a gateway that an injector makes one."""
    template = {
        "metadata": {"labels": labels, "annotations": {"inject.istio.io/templates": "gateway"}},
        "spec": {"serviceAccountName": "at-the-edge", "containers": [{"name": "istio-proxy", "image": "auto"}]},
    }
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return within(namespace, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec})


def test_an_installed_gateway_in_the_files():
    """It stands in its own namespace, with its labels, its identity, and the name of its Service."""
    own = installed(istio="ingressgateway", tier="edge")
    in_front = within("edge", service("front", {"port": 80}, selector={"istio": "ingressgateway"}))
    asking = [gateway("a", {"istio": "ingressgateway"}, 80), gateway("b", {"tier": "edge"}, 443)]
    for objects, name in (([own, in_front], "front"), ([own], "edge-gateway")):
        (found,) = read(*objects, *asking).gateways
        assert (found.name, found.namespace, found.account) == (f"{name}.edge", "edge", "at-the-edge")
        assert (found.ports, found.labels) == ((80, 443), {"istio": "ingressgateway", "tier": "edge"})
    assert read(own, in_front).services == ()


def test_a_gateway_that_two_installations_serve():
    """Each pod whose labels a Gateway selects has its listeners, wherever it stands."""
    both = [installed(each, istio="ingressgateway") for each in ("east", "west")]
    found = read(*both, gateway("a", {"istio": "ingressgateway"}, 80)).gateways
    assert [(each.name, each.ports) for each in found] == [("edge-gateway.east", (80,)), ("edge-gateway.west", (80,))]


def test_who_a_gateway_is():
    """That of an installation is who istioctl makes it, one of the Gateway API who Istio makes it."""
    api = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g"}, "spec": {}}
    found = read(gateway("a", {"istio": "ingressgateway"}, 80), gateway("c", {"app": "mine"}, 90), api).gateways
    assert [each.account for each in found] == ["istio-ingressgateway-service-account", "mine", "g-istio"]


def test_a_service_of_a_gateway_alone():
    """A Service that stands for an installed gateway is the gateway's own, whether its Deployment is there or not."""
    alone = within("istio-system", service("istio-ingressgateway", {"port": 80}, selector={"istio": "ingressgateway"}))
    found = read(alone, service("web", {"port": 80}), gateway("a", {"istio": "ingressgateway"}, 80))
    assert [each.name for each in found.services] == ["web"]
    assert [each.name for each in read(alone).services] == ["istio-ingressgateway"]


@pytest.mark.parametrize("selector", ["../x", "a/b", "a" * 64, "a:b", ""])
def test_selectors_of_gateways(selector):
    """What a gateway selects is a label's value, so that nothing is named after anything else."""
    if selector:
        with pytest.raises(ManifestError, match=r"Gateway/g: spec.selector.istio: .* is not the value of a label"):
            read(gateway("g", {"istio": selector}, 80))
    else:
        assert read(gateway("g", {"istio": selector}, 80)).gateways[0].name == "g"


def test_a_gateway_that_is_named_like_a_pod():
    """A gateway's pod has a name of its own."""
    with pytest.raises(ManifestError, match="'proxy-1' is the name of a pod"):
        read(*documents(EXAMPLE), gateway("g", {"app": "proxy-1"}, 80))


def within(namespace, document):
    return {**document, "metadata": {**document["metadata"], "namespace": namespace}}


def test_namespaces():
    """Workloads and Services of the same name in two namespaces are two, with pods and addresses of their own."""
    cluster = read(
        workload(ports=[8080]),
        service("web", {"port": 80, "targetPort": 8080}),
        within("shop", workload(ports=[8080])),
        within("shop", service("web", {"port": 80, "targetPort": 8080})),
    )
    assert [(pod.name, pod.hostname, pod.namespace, pod.workload) for pod in cluster.pods] == [
        ("web-1", "web-1", "default", "web"),
        ("web-1.shop", "web-1", "shop", "web.shop"),
    ]
    assert len({pod.address for pod in cluster.pods}) == 2
    assert [cluster.endpoints(each, each.ports[0])[0][0].name for each in cluster.services] == ["web-1", "web-1.shop"]
    assert cluster.services[1].names_from("shop")[:2] == ("web", "web.shop")
    assert cluster.services[1].names_from("default")[0] == "web.shop"
    assert cluster.namespaces.keys() == {"default", "istio-system", "shop"}


@pytest.mark.parametrize(
    ("metadata", "spec", "labels", "in_mesh"),
    [
        ({}, {}, {}, True),
        ({}, {}, {"istio-injection": "enabled"}, True),
        ({}, {}, {"istio-injection": "disabled"}, False),
        ({"labels": {"app": "web", "sidecar.istio.io/inject": "false"}}, {}, {"istio-injection": "enabled"}, False),
        ({"labels": {"app": "web", "sidecar.istio.io/inject": "true"}}, {}, {"istio-injection": "disabled"}, False),
        ({"labels": {"app": "web"}, "annotations": {"sidecar.istio.io/inject": "false"}}, {}, {}, False),
        ({}, {"hostNetwork": True}, {}, False),
    ],
)
def test_who_has_a_sidecar(metadata, spec, labels, in_mesh):
    """A pod has a sidecar unless it, its namespace or its network says otherwise."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "labels": labels}}
    web = workload()
    template = web["spec"]["template"]
    template["metadata"] |= metadata
    template["spec"] |= spec
    assert read(namespace, web).pods[0].in_mesh == in_mesh


def test_services_of_all_types():
    """A Service may be headless, stand for another name, be reached from outside, and have ports that are not TCP."""
    ports = {"name": "http", "port": 80}, {"name": "dns", "port": 80, "protocol": "UDP"}
    cluster = read(
        workload("StatefulSet", ports=[80], replicas=2),
        service("web", *ports, clusterIP="None"),
        service("dumped", *ports, clusterIP="10.0.0.9", clusterIPs=["10.0.0.9"], selector={"app": "web"}),
        service("alias", type="ExternalName", externalName="web.shop.svc.cluster.local"),
        service("open", *ports, type="NodePort"),
    )
    web, dumped, alias, node_port = cluster.services
    assert (web.is_headless, web.address, [port.number for port in web.ports]) == (True, "", [80])
    assert (dumped.is_headless, dumped.address) == (False, "10.96.0.3")
    assert (alias.is_headless, alias.alias_of) == (False, "web.shop.svc.cluster.local")
    assert node_port.is_public
    names = cluster.names_from("default")
    assert names[dumped.address][0] == "dumped"
    first, second = (names[pod.address] for pod in cluster.pods)
    assert "web" in first
    assert "web-0.web.default.svc.cluster.local" in first
    assert "web" not in second
    assert "web-1.web" in second


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (service("web", type="ExternalName"), "Service/web: spec.externalName: is missing"),
        (service("web"), "Service/web: spec.ports: is missing"),
        (
            {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "web"}, "subsets": [{"addresses": [{}]}]},
            r"Endpoints/web: subsets\[0\].addresses\[0\].ip: is missing",
        ),
    ],
)
def test_services_that_are_none(document, problem):
    """What an API server refuses is refused."""
    with pytest.raises(ManifestError, match=problem):
        read(document)


def test_the_pods_of_a_gateway_that_runs_elsewhere():
    """The Deployment and the Service of a gateway, as they come out of a cluster, give way to the lab's own."""
    ingress = workload(name="istio-ingressgateway", labels={"istio": "ingressgateway"})
    ingress["spec"]["template"]["spec"]["containers"][0] |= {"name": "istio-proxy", "image": "auto"}
    cluster = read(
        within("istio-system", ingress),
        within("istio-system", service("istio-ingressgateway", {"port": 80}, type="LoadBalancer")),
        workload(),
        service("web", {"port": 80}),
        gateway("g", {"istio": "ingressgateway"}, 80),
    )
    assert [each.name for each in cluster.services] == ["web"]
    assert [each.name for each in cluster.workloads] == ["web"]
    assert [each.name for each in cluster.gateways] == ["istio-ingressgateway"]
