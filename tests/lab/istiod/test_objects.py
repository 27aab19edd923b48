"""What Istio's control plane is told of a cluster: the objects that an API server would hold."""

import pytest
import yaml
from quick_support import EXAMPLE, virtual_service
from support import documents

from meshdemo.lab.cluster.workloads import read_cluster
from meshdemo.lab.files.manifests import Loader
from meshdemo.lab.istiod.objects import control_plane_input

TLS = {"security.istio.io/tlsMode": "istio"}
PORTS = [
    {"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"},
    {"name": "other", "port": 81, "targetPort": 4040},
]


def told(tmp_path, *objects, example=True):
    """Return the request for the example and more objects."""
    path = tmp_path / "more.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    return control_plane_input(read_cluster(Loader([*([EXAMPLE] if example else []), path]).load()[0]))


def objects(request, kind):
    return {each["metadata"]["name"]: each for each in request["objects"] if each["kind"] == kind}


def deployment(name, labels, port=3030, **spec):
    """Return the example's proxy by another name and with more labels."""
    found = next(each for each in documents(EXAMPLE) if each["metadata"]["name"] == "proxy" and "template" in str(each))
    found["metadata"]["name"] = name
    found["spec"]["selector"]["matchLabels"] = {"app": name}
    found["spec"]["template"]["metadata"]["labels"] = {"app": name, **labels}
    found["spec"]["template"]["spec"] |= spec
    (container,) = found["spec"]["template"]["spec"]["containers"]
    container["args"][2] = str(port)
    container["ports"][0]["containerPort"] = port
    return found


def test_pods(tmp_path):
    """A pod has its labels, among them that it takes mutual TLS, its account, ports and address; it is ready."""
    request = told(tmp_path)
    pods = objects(request, "Pod")
    assert len(pods) == 7
    pod = pods["webserverv2-3"]
    assert pod["metadata"]["namespace"] == "default"
    assert pod["metadata"]["labels"] == {"app": "webserver", "version": "v2", **TLS}
    assert pod["spec"]["serviceAccountName"] == "webserver"
    ports = [{"name": "http", "containerPort": 3030, "protocol": "TCP"}]
    assert pod["spec"]["containers"] == [{"name": "webserver", "ports": ports}]
    assert pod["status"]["conditions"] == [{"type": "Ready", "status": "True"}]
    assert len({each["status"]["podIP"] for each in pods.values()}) == 7


def test_workloads(tmp_path):
    """Each pod of the mesh is a sidecar with the pod's address, account and labels; some call."""
    request = told(tmp_path)
    workloads = {each["name"]: each for each in request["workloads"]}
    assert workloads.keys() == objects(request, "Pod").keys()
    assert workloads["proxy-1"] == {
        "name": "proxy-1",
        "type": "sidecar",
        "ip": objects(request, "Pod")["proxy-1"]["status"]["podIP"],
        "namespace": "default",
        "serviceAccount": "proxy",
        "labels": {"app": "proxy", "version": "v1", **TLS},
        "calls": True,
    }
    assert [name for name, each in workloads.items() if each["calls"]] == ["proxy-1"]


def test_a_pod_outside_the_mesh(tmp_path):
    """A pod without a sidecar is a pod that takes no mutual TLS, and nothing is asked for it."""
    request = told(tmp_path, deployment("outsider", {"sidecar.istio.io/inject": "false"}))
    pod = objects(request, "Pod")["outsider-1"]
    assert pod["metadata"]["labels"] == {"app": "outsider", "sidecar.istio.io/inject": "false"}
    assert "outsider-1" not in {each["name"] for each in request["workloads"]}


@pytest.mark.parametrize("label", ["istio-locality", "topology.istio.io/locality"])
def test_where_a_pod_is(tmp_path, label):
    """A pod says where it is with dots, since a label has no slash, and its sidecar with slashes."""
    request = told(tmp_path, deployment("near", {label: "here.a.b", "version": "v1.2"}))
    assert objects(request, "Pod")["near-1"]["metadata"]["labels"][label] == "here.a.b"
    (labels,) = [each["labels"] for each in request["workloads"] if each["name"] == "near-1"]
    assert (labels[label], labels["version"]) == ("here/a/b", "v1.2")


def test_services(tmp_path):
    """A Service has its selector, its ports with their protocols, and an address of its own."""
    request = told(tmp_path)
    services = objects(request, "Service")
    assert services.keys() == {"proxy", "webserver", "webserverv1", "webserverv2"}
    assert services["webserver"]["spec"]["selector"] == {"app": "webserver"}
    ports = [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}]
    assert services["webserver"]["spec"]["ports"] == ports
    assert len({each["spec"]["clusterIP"] for each in services.values()}) == 4


def test_endpoints(tmp_path):
    """All pods of a Service stand in its EndpointSlice with the number that their port has."""
    request = told(tmp_path)
    endpoints = objects(request, "EndpointSlice")["webserver-1"]
    assert endpoints["metadata"]["labels"] == {"kubernetes.io/service-name": "webserver"}
    assert endpoints["ports"] == [{"name": "http", "port": 3030, "protocol": "TCP"}]
    pods = objects(request, "Pod")
    found = {each["targetRef"]["name"]: each["addresses"] for each in endpoints["endpoints"]}
    assert found == {name: [pod["status"]["podIP"]] for name, pod in pods.items() if name.startswith("webserver")}


def test_endpoints_with_several_numbers(tmp_path):
    """Pods whose ports have other numbers stand in a slice of their own, as Kubernetes makes them."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "both"},
        "spec": {"selector": {"team": "x"}, "ports": PORTS},
    }
    more = [deployment("one", {"team": "x"}), deployment("two", {"team": "x"}, port=4040)]
    request = told(tmp_path, service, *more)
    slices = [each for name, each in objects(request, "EndpointSlice").items() if name.startswith("both-")]
    found = {
        each["endpoints"][0]["targetRef"]["name"]: {port["name"]: port["port"] for port in each["ports"]}
        for each in slices
    }
    assert found == {"one-1": {"http": 3030, "other": 4040}, "two-1": {"http": 4040, "other": 4040}}


def test_a_gateway_of_istio(tmp_path):
    """A Gateway of Istio's has the pod and the Service that an installation brings, with the labels it selects."""
    spec = {
        "selector": {"istio": "ingressgateway"},
        "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
    }
    gateway = {"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "g"}, "spec": spec}
    request = told(tmp_path, gateway)
    (workload,) = [each for each in request["workloads"] if each["type"] == "router"]
    pod = objects(request, "Pod")[workload["name"]]
    service = objects(request, "Service")["istio-ingressgateway"]
    assert workload["namespace"] == pod["metadata"]["namespace"] == service["metadata"]["namespace"] == "istio-system"
    assert workload["labels"]["istio"] == pod["metadata"]["labels"]["istio"] == "ingressgateway"
    assert workload["ip"] == pod["status"]["podIP"]
    assert [port["port"] for port in service["spec"]["ports"]] == [80]
    assert objects(request, "EndpointSlice")["istio-ingressgateway-1"]["ports"][0]["port"] == 80


def test_a_gateway_of_the_gateway_api(tmp_path):
    """A Gateway of the Gateway API's has the pod and the Service that Istio starts for it, and there is its class."""
    spec = {"gatewayClassName": "istio", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "web"},
        "spec": spec,
    }
    request = told(tmp_path, gateway)
    (workload,) = [each for each in request["workloads"] if each["type"] == "router"]
    assert (workload["name"], workload["namespace"]) == ("web-istio", "default")
    assert workload["labels"]["gateway.networking.k8s.io/gateway-name"] == "web"
    assert "web-istio" in objects(request, "Service")
    assert objects(request, "GatewayClass")["istio"]["spec"] == {"controllerName": "istio.io/gateway-controller"}


def test_policies_and_others(tmp_path):
    """Policies, Secrets and ConfigMaps go as an API server holds them; other objects than these do not go."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}
    mapping = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}
    policy = virtual_service({"directResponse": {"status": 418}}).document
    request = told(tmp_path, secret, mapping, policy)
    assert request["policies"] == [policy]
    secret["metadata"]["namespace"] = mapping["metadata"]["namespace"] = "default"
    assert objects(request, "Secret") == {"s": {**secret, "stringData": None, "data": {"a": "Yg=="}}}
    assert objects(request, "ConfigMap") == {"c": mapping}
    assert not {"Deployment", "ServiceAccount", "VirtualService"} & {each["kind"] for each in request["objects"]}
    assert objects(request, "Namespace").keys() == {"default", "istio-system"}


def test_namespaces(tmp_path):
    """Each namespace that something is in is told with its labels, and pods by the name that they have within it."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "x"}}}
    web = deployment("web", {})
    web["metadata"]["namespace"] = "shop"
    request = told(tmp_path, namespace, web)
    labels = {name: each["metadata"]["labels"] for name, each in objects(request, "Namespace").items()}
    assert labels == {
        "default": {"kubernetes.io/metadata.name": "default"},
        "istio-system": {"kubernetes.io/metadata.name": "istio-system"},
        "shop": {"kubernetes.io/metadata.name": "shop", "team": "x"},
    }
    assert objects(request, "Pod")["web-1"]["metadata"]["namespace"] == "shop"
    assert {"web-1.shop", "proxy-1"} <= {each["name"] for each in request["workloads"]}


def test_services_without_an_address(tmp_path):
    """A headless Service says so, an alias which name it means; endpoints of its own are passed on."""
    head = {"apiVersion": "v1", "kind": "Service"}
    subset = {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"name": "http", "port": 80}]}
    request = told(
        tmp_path,
        head | {"metadata": {"name": "none"}, "spec": {"clusterIP": "None", "ports": PORTS}},
        head | {"metadata": {"name": "alias"}, "spec": {"type": "ExternalName", "externalName": "a.example"}},
        head | {"metadata": {"name": "own"}, "spec": {"ports": PORTS}},
        {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "own"}, "subsets": [subset]},
        {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "webserver"}, "subsets": [subset]},
    )
    services = objects(request, "Service")
    assert services["none"]["spec"]["clusterIP"] == "None"
    assert services["alias"]["spec"] == {"type": "ExternalName", "externalName": "a.example", "ports": []}
    slices = objects(request, "EndpointSlice")
    assert slices["own-0"]["endpoints"] == [{"addresses": ["192.0.2.1"], "conditions": {"ready": True}}]
    assert "webserver-0" not in slices
