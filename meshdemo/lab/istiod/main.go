// Istio's own control plane as a function: the objects of a cluster in, the Envoy configuration of each workload out.
//
//	istiod CRD-FILE...
//
// Each line of standard input is a request, answered by a line of standard output before the next one is read:
//
//	{"objects": [...], "policies": [...], "workloads": [{"name", "type", "ip", "namespace", "serviceAccount", "labels"}],
//	 "files": {name: text}}
//	{"workloads": {name: {"listeners", "routes", "clusters", "endpoints"}}, "messages": [...]}
//
// `objects` are those of Kubernetes itself, `policies` those of Istio and of the Gateway API, as an API server would get
// them; `type` is "sidecar" or "router". Each part of a workload is a list in Envoy's JSON. `messages` is Istio's analysis
// of `files`. A policy that an API server or Istio refuses is answered by {"error": reason, "policy": its index}.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/networking/util"
	"istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/analysis/analyzers"
	"istio.io/istio/pkg/config/analysis/local"
	validation "istio.io/istio/pkg/config/crd"
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
}

type request struct {
	Objects   []map[string]any
	Policies  []json.RawMessage
	Workloads []workload
	Files     map[string]string
}

// refusal is what is wrong with one policy.
type refusal struct {
	policy int
	reason string
}

func (r refusal) Error() string { return r.reason }

// admit does what an API server and Istio's webhook do: it fills in defaults and refuses what cannot be. Istio's own
// objects are returned parsed, those of the Gateway API as they are.
func admit(validator *validation.Validator, policies []json.RawMessage) ([]config.Config, []map[string]any, error) {
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
		if err := validator.ValidateCustomResource(object); err != nil {
			return nil, nil, refusal{i, err.Error()}
		}
		if !strings.HasSuffix(object.GroupVersionKind().Group, "istio.io") {
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

func documents(objects []map[string]any) (string, error) {
	texts := []string{}
	for _, object := range objects {
		text, err := json.Marshal(object)
		if err != nil {
			return "", err
		}
		texts = append(texts, string(text))
	}
	return strings.Join(texts, "\n---\n"), nil
}

func asJSON[T proto.Message](t test.Failer, messages []T) []json.RawMessage {
	out := []json.RawMessage{}
	for _, message := range messages {
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, text)
	}
	return out
}

func generate(t test.Failer, objects string, configs []config.Config, workloads []workload) map[string]any {
	server := xds.NewFakeDiscoveryServer(t, xds.FakeOptions{KubernetesObjectString: objects, Configs: configs})
	// Objects of the Gateway API are translated in the background: push again once they are.
	for range 3 {
		time.Sleep(100 * time.Millisecond)
		server.Discovery.ConfigUpdate(&model.PushRequest{Forced: true})
		server.EnsureSynced(t)
	}
	out := map[string]any{}
	for _, each := range workloads {
		proxy := server.SetupProxy(&model.Proxy{
			Type: model.NodeType(each.Type), ID: each.Name + "." + each.Namespace, IPAddresses: []string{each.IP},
			ConfigNamespace: each.Namespace, Labels: each.Labels,
			Locality: util.ConvertLocality(pkgmodel.GetLocalityLabel(each.Labels)),
			Metadata: &model.NodeMetadata{
				IstioVersion: version, Namespace: each.Namespace, Labels: each.Labels, ServiceAccount: each.ServiceAccount,
			},
		})
		out[each.Name] = map[string]any{
			"listeners": asJSON(t, server.Listeners(proxy)),
			"routes":    asJSON(t, server.Routes(proxy)),
			"clusters":  asJSON(t, server.Clusters(proxy)),
			"endpoints": asJSON(t, server.Endpoints(proxy)),
		}
	}
	return out
}

// analyze returns what `istioctl analyze` says of the files.
func analyze(files map[string]string) ([]map[string]any, error) {
	analyzer := local.NewIstiodAnalyzer(analyzers.AllCombined(), "default", "istio-system", nil)
	if err := analyzer.AddDefaultResources(); err != nil {
		return nil, err
	}
	sources := []local.ReaderSource{}
	for name, text := range files {
		sources = append(sources, local.ReaderSource{Name: name, Reader: strings.NewReader(text)})
	}
	if err := analyzer.AddReaderKubeSource(sources); err != nil {
		return nil, err
	}
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

func answer(validator *validation.Validator, in request) (map[string]any, error) {
	configs, gateway, err := admit(validator, in.Policies)
	if err != nil {
		return nil, err
	}
	objects, err := documents(append(in.Objects, gateway...))
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	if err := test.Wrap(func(t test.Failer) { out["workloads"] = generate(t, objects, configs, in.Workloads) }); err != nil {
		return nil, err
	}
	out["messages"], err = analyze(in.Files)
	return out, err
}

func main() {
	for _, scope := range istiolog.Scopes() {
		scope.SetOutputLevel(istiolog.NoneLevel)
	}
	validator, err := validation.NewValidatorFromFiles(os.Args[1:]...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	decoder, encoder := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var in request
		if err := decoder.Decode(&in); err == io.EOF {
			return
		} else if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		out, err := answer(validator, in)
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
