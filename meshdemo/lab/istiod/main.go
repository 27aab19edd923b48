// Istio's own control plane as a function: the objects of a cluster in, the Envoy configuration of each workload out.
//
//	istiod CRD-FILE...
//
// Each line of standard input is a request, answered by a line of standard output before the next one is read:
//
//	{"objects": [...], "policies": [...], "files": {name: text}, "namespace",
//	 "workloads": [{"name", "type", "ip", "namespace", "serviceAccount", "labels", "calls"}]}
//	{"workloads": {name: {"listeners", "routes", "clusters", "endpoints"}}, "messages": [...],
//	 "statuses": [{"kind", "namespace", "name", "status"}]}
//
// `objects` are those of Kubernetes itself, `policies` those of Istio and of the Gateway API, as an API server would get
// them; `type` is "sidecar" or "router". Each part of a workload is a list in Envoy's JSON; a part that is the same as in
// the last answer is left out, and so is what only calls of a workload would use that never `calls`. `messages` is
// Istio's analysis of `files`, whose objects without a namespace are in `namespace`, `statuses` what Istio would write into
// objects of the Gateway API. A policy that an API server or Istio refuses is answered by {"error": reason, "policy": its
// index}.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"istio.io/istio/pilot/pkg/config/file"
	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/config/kube/gateway"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/networking/core"
	"istio.io/istio/pilot/pkg/networking/util"
	"istio.io/istio/pilot/pkg/status"
	"istio.io/istio/pilot/pkg/util/protoconv"
	"istio.io/istio/pilot/pkg/xds/endpoints"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/analysis/analyzers"
	"istio.io/istio/pkg/config/analysis/legacy/util/kuberesource"
	"istio.io/istio/pkg/config/analysis/local"
	validation "istio.io/istio/pkg/config/crd"
	"istio.io/istio/pkg/config/resource"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/gatewayapi"
	"istio.io/istio/pkg/config/schema/gvr"
	"istio.io/istio/pkg/kube"
	"istio.io/istio/pkg/kube/kclient/clienttest"
	istiolog "istio.io/istio/pkg/log"
	pkgmodel "istio.io/istio/pkg/model"
	"istio.io/istio/pkg/test"
)

const domain = "cluster.local"

// The version that sidecars say they have: some of what they get depends on it. The build sets it.
var version string

type workload struct {
	Name, Type, IP, Namespace, ServiceAccount string
	Labels                                    map[string]string
	Calls                                     bool
}

type request struct {
	Objects   []map[string]any
	Policies  []json.RawMessage
	Workloads []workload
	Files     map[string]string
	Namespace string
}

// refusal is what is wrong with one policy.
type refusal struct {
	policy int
	reason string
}

func (r refusal) Error() string { return r.reason }

// definitions are those of Istio's and the Gateway API's objects, as text, and what judges objects by them: that takes
// long to make, so that it is made for the kinds that there are.
type definitions struct {
	texts      []string
	validators map[schema.GroupKind]*validation.Validator
}

func readDefinitions(files []string) (*definitions, error) {
	out := &definitions{validators: map[schema.GroupKind]*validation.Validator{}}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		out.texts = append(out.texts, strings.Split(string(text), "\n---\n")...)
	}
	return out, nil
}

func (d *definitions) validator(kind schema.GroupKind) (*validation.Validator, error) {
	if found, is := d.validators[kind]; is {
		return found, nil
	}
	parsed := []apiextensions.CustomResourceDefinition{}
	for _, text := range d.texts {
		if !strings.Contains(text, "\n  group: "+kind.Group+"\n") || !strings.Contains(text, "\n    kind: "+kind.Kind+"\n") {
			continue
		}
		var served apiextensionsv1.CustomResourceDefinition
		var definition apiextensions.CustomResourceDefinition
		if err := yaml.Unmarshal([]byte(text), &served); err != nil {
			return nil, err
		}
		err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&served, &definition, nil)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, definition)
	}
	found, err := validation.NewValidatorFromCRDsWithOptions(parsed, validation.WithoutCRDValidation())
	d.validators[kind] = found
	return found, err
}

// admit does what an API server and Istio's webhook do: it fills in defaults and refuses what cannot be. Istio's own
// objects are returned parsed, those of the Gateway API as they are.
func admit(definitions *definitions, policies []json.RawMessage) ([]config.Config, []map[string]any, error) {
	configs, gateway := []config.Config{}, []map[string]any{}
	// All were made in the same second, so that names decide their order.
	now := time.Now()
	for i, policy := range policies {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(policy); err != nil {
			return nil, nil, refusal{i, err.Error()}
		}
		if object.GetNamespace() == "" {
			object.SetNamespace("default")
		}
		validator, err := definitions.validator(object.GroupVersionKind().GroupKind())
		if err != nil {
			return nil, nil, err
		}
		if err := validator.ValidateCustomResource(object); err != nil {
			return nil, nil, refusal{i, err.Error()}
		}
		if !strings.HasSuffix(object.GroupVersionKind().Group, "istio.io") {
			// An API server hands each kind out in the version that is asked for.
			kind := config.FromKubernetesGVK(object.GroupVersionKind())
			if known, is := collections.PilotGatewayAPI().FindByGroupKind(kind); is {
				object.SetAPIVersion(known.APIVersion())
			}
			gateway = append(gateway, object.Object)
			continue
		}
		text, err := json.Marshal(object.Object)
		if err != nil {
			return nil, nil, refusal{i, err.Error()}
		}
		parsed, _, err := crd.ParseInputs(string(text))
		if err != nil {
			return nil, nil, refusal{i, err.Error()}
		}
		for _, each := range parsed {
			each.Domain, each.CreationTimestamp = domain, now
			configs = append(configs, each)
		}
	}
	return configs, gateway, nil
}

// decode returns objects as an API server would hold them.
func decode(objects []map[string]any) ([]runtime.Object, error) {
	out := []runtime.Object{}
	for _, object := range objects {
		text, err := json.Marshal(object)
		if err != nil {
			return nil, err
		}
		decoded, _, err := kube.IstioCodec.UniversalDeserializer().Decode(text, nil, nil)
		if err != nil {
			return nil, err
		}
		out = append(out, decoded)
	}
	return out, nil
}

// printer makes Envoy's JSON of resources; what it has made already it remembers.
type printer struct{ former, now map[string]json.RawMessage }

func (p *printer) print(t test.Failer, resources []*anypb.Any) []json.RawMessage {
	out := []json.RawMessage{}
	for _, resource := range resources {
		key := resource.TypeUrl + string(resource.Value)
		text, is := p.now[key]
		if !is {
			if text, is = p.former[key]; !is {
				message, err := resource.UnmarshalNew()
				if err == nil {
					text, err = protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			p.now[key] = text
		}
		out = append(out, text)
	}
	return out
}

func unwrap(resources []*discovery.Resource) []*anypb.Any {
	out := []*anypb.Any{}
	for _, each := range resources {
		out = append(out, each.Resource)
	}
	return out
}

func pack[T proto.Message](messages []T) []*anypb.Any {
	out := []*anypb.Any{}
	for _, message := range messages {
		out = append(out, protoconv.MessageToAny(message))
	}
	return out
}

// statuses takes what Istio would write into the status of objects, the last one of each counts. It stands where Istio
// has the API server.
type statuses struct {
	model.ConfigStore
	mutex sync.Mutex
	last  map[string]map[string]any
}

func (s *statuses) Get(kind config.GroupVersionKind, name, namespace string) *config.Config {
	return &config.Config{Meta: config.Meta{GroupVersionKind: kind, Name: name, Namespace: namespace}}
}

func (s *statuses) UpdateStatus(of config.Config) (string, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	kind := of.GroupVersionKind.Kind
	s.last[kind+"/"+of.Namespace+"/"+of.Name] = map[string]any{
		"kind": kind, "namespace": of.Namespace, "name": of.Name, "status": of.Status,
	}
	return "", nil
}

var times = regexp.MustCompile(`"lastTransitionTime":"[^"]*",`)

// list returns them as JSON, which is the same as long as they say the same.
func (s *statuses) list(t test.Failer) string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	out := []any{}
	for _, key := range slices.Sorted(maps.Keys(s.last)) {
		out = append(out, s.last[key])
	}
	text, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return times.ReplaceAllString(string(text), "")
}

// parts are the resources of each workload, by the name of the workload and of the kind of resource.
type parts map[string]map[string][]json.RawMessage

// changed returns what is not as it was.
func (p parts) changed(former parts) parts {
	out := parts{}
	for name, kinds := range p {
		out[name] = map[string][]json.RawMessage{}
		for kind, resources := range kinds {
			before, is := former[name][kind]
			if !is || !slices.EqualFunc(resources, before, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
				out[name][kind] = resources
			}
		}
	}
	return out
}

// generate returns the resources of each workload, and what Istio would write into the status of objects.
func generate(
	t test.Failer, objects, routes []runtime.Object, configs []config.Config, workloads []workload,
	printer *printer,
) (parts, json.RawMessage) {
	others := slices.DeleteFunc(slices.Clone(objects), isKubernetes)
	server := xds.NewFakeDiscoveryServer(t, xds.FakeOptions{
		KubernetesObjects: append(others, routes...), Configs: configs, KubeClientModifier: func(client kube.Client) {
			clienttest.MakeCRD(t, client, gvr.BackendTLSPolicy)
			tracker := client.Kube().(*fake.Clientset).Tracker()
			for _, object := range objects {
				if isKubernetes(object) {
					if err := tracker.Add(object); err != nil {
						t.Fatal(err)
					}
				}
			}
		},
	})
	// Much is the same for all workloads.
	server.ConfigGen = core.NewConfigGenerator(server.Discovery.Cache)
	written := &statuses{last: map[string]map[string]any{}}
	server.Discovery.Env.GatewayAPIController.(*gateway.Controller).SetStatusWrite(true, status.NewManager(written))
	// Objects of the Gateway API are translated in the background: push again until nothing more comes of it.
	for round, before := 0, ""; len(routes) > 0 && round < 20 && (round < 3 || written.list(t) != before); round++ {
		before = written.list(t)
		time.Sleep(100 * time.Millisecond)
		server.Discovery.ConfigUpdate(&model.PushRequest{Forced: true})
		server.EnsureSynced(t)
	}
	push := &model.PushRequest{Push: server.PushContext(), Start: time.Now()}
	out := parts{}
	for _, each := range workloads {
		proxy := server.SetupProxy(&model.Proxy{
			Type: model.NodeType(each.Type), IPAddresses: []string{each.IP},
			// Names of workloads in other namespaces than default end with these.
			ID:              strings.TrimSuffix(each.Name, "."+each.Namespace) + "." + each.Namespace,
			ConfigNamespace: each.Namespace, Labels: each.Labels,
			Locality: util.ConvertLocality(pkgmodel.GetLocalityLabel(each.Labels)),
			Metadata: &model.NodeMetadata{
				IstioVersion: version, Namespace: each.Namespace, Labels: each.Labels, ServiceAccount: each.ServiceAccount,
			},
		})
		listeners := server.Listeners(proxy)
		if !each.Calls {
			listeners = slices.DeleteFunc(listeners, func(each *listener.Listener) bool {
				return !strings.HasPrefix(each.Name, model.VirtualInboundListenerName)
			})
		}
		built, _ := server.ConfigGen.BuildClusters(proxy, push)
		routes, _ := server.ConfigGen.BuildHTTPRoutes(proxy, push, core.ExtractRoutesFromListeners(listeners))
		packed := pack(listeners)
		clusters, assignments := []*anypb.Any{}, []*endpoint.ClusterLoadAssignment{}
		for _, resource := range built {
			if !each.Calls && strings.HasPrefix(resource.Name, "outbound|") && !names(packed, resource.Name) {
				continue
			}
			clusters = append(clusters, resource.Resource)
			message := &cluster.Cluster{}
			if err := resource.Resource.UnmarshalTo(message); err != nil {
				t.Fatal(err)
			}
			if message.GetType() == cluster.Cluster_EDS {
				builder := endpoints.NewEndpointBuilder(message.Name, proxy, push.Push)
				assignments = append(assignments, builder.BuildClusterLoadAssignment(server.Discovery.Env.EndpointIndex))
			}
		}
		out[each.Name] = map[string][]json.RawMessage{
			"listeners": printer.print(t, packed),
			"routes":    printer.print(t, unwrap(routes)),
			"clusters":  printer.print(t, clusters),
			"endpoints": printer.print(t, pack(assignments)),
		}
	}
	return out, json.RawMessage(written.list(t))
}

// isKubernetes returns whether an object is of a kind that Kubernetes itself has. As one of these it can be added without
// a record of who has set its fields, which takes most of the time.
func isKubernetes(object runtime.Object) bool {
	return scheme.Scheme.Recognizes(object.GetObjectKind().GroupVersionKind())
}

// names returns whether any of the messages names a cluster.
func names(messages []*anypb.Any, cluster string) bool {
	return slices.ContainsFunc(messages, func(each *anypb.Any) bool { return bytes.Contains(each.Value, []byte(cluster)) })
}

// analyze returns what `istioctl analyze --all-namespaces` says of the files. What it cannot read of them is left out:
// whether that can be an object is judged elsewhere.
func analyze(files map[string]string, namespace string) ([]map[string]any, error) {
	all := analyzers.AllCombined()
	analyzer := local.NewIstiodAnalyzer(all, "", "istio-system", nil)
	if err := analyzer.AddDefaultResources(); err != nil {
		return nil, err
	}
	kinds := kuberesource.ConvertInputsToSchemas(all.Metadata().Inputs)
	source := file.NewKubeSource(kinds.Remove(kuberesource.DefaultExcludedSchemas().All()...))
	source.SetDefaultNamespace(resource.Namespace(namespace))
	for _, name := range slices.Sorted(maps.Keys(files)) {
		_ = source.ApplyContent(name, files[name])
	}
	analyzer.AddSource(source)
	result, err := analyzer.Analyze(make(chan struct{}))
	if err != nil {
		return nil, err
	}
	messages := []map[string]any{}
	for _, each := range result.Messages {
		messages = append(messages, each.Unstructured(true))
	}
	return messages, nil
}

// memory is what answers depend on that went before.
type memory struct {
	sent    parts
	printed map[string]json.RawMessage
}

func (m *memory) answer(definitions *definitions, in request) (map[string]any, error) {
	configs, gateway, err := admit(definitions, in.Policies)
	if err != nil {
		return nil, err
	}
	objects, err := decode(in.Objects)
	if err != nil {
		return nil, err
	}
	routes, err := decode(gateway)
	if err != nil {
		return nil, err
	}
	messages, err := analyze(in.Files, in.Namespace)
	if err != nil {
		return nil, err
	}
	printer := &printer{former: m.printed, now: map[string]json.RawMessage{}}
	var all parts
	var statuses json.RawMessage
	err = test.Wrap(func(t test.Failer) { all, statuses = generate(t, objects, routes, configs, in.Workloads, printer) })
	if err != nil {
		return nil, err
	}
	out := map[string]any{"workloads": all.changed(m.sent), "messages": messages, "statuses": statuses}
	m.sent, m.printed = all, printer.now
	return out, nil
}

func main() {
	for _, scope := range istiolog.Scopes() {
		scope.SetOutputLevel(istiolog.NoneLevel)
	}
	definitions, err := readDefinitions(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	// The definitions that Istio comes with are as new as it wants them.
	clear(gatewayapi.MinimumCRDVersions)
	decoder, encoder := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	memory := &memory{}
	for {
		var in request
		if err := decoder.Decode(&in); err == io.EOF {
			return
		} else if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		out, err := memory.answer(definitions, in)
		if err != nil {
			out = map[string]any{"error": err.Error()}
			if refused, is := err.(refusal); is {
				out["policy"] = refused.policy
			}
		}
		if err := encoder.Encode(out); err != nil {
			os.Exit(2)
		}
	}
}
