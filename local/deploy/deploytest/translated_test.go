package deploytest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// translate is what SAM's own translator does with the template, before
// CloudFormation sees it. The transform of AWS is the same code.
const translate = `
import json, os
os.environ["AWS_DEFAULT_REGION"] = "eu-central-1"
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse
class Policies:
    def load(self): return {}
template = yaml_parse(open("template.yaml").read())
for resource in template["Resources"].values():
    if "CodeUri" in resource.get("Properties", {}):
        resource["Properties"]["CodeUri"] = "s3://uploaded/by-the-cli"
print(json.dumps(transform(template, {}, Policies()), default=str))
`

type translated struct {
	Resources map[string]struct {
		Type       string
		DependsOn  any
		Properties map[string]any
		Metadata   any
	}
	Parameters map[string]any
	Rules      map[string]any
}

func translation(t *testing.T) translated {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed: the template was not translated")
	}
	if exec.CommandContext(t.Context(), python, "-c", "import samtranslator").Run() != nil {
		t.Skip("aws-sam-translator is not installed: the template was not translated")
	}
	cmd := exec.CommandContext(t.Context(), python, "-W", "ignore", "-c", translate)
	cmd.Dir = root
	var diagnosis strings.Builder
	cmd.Stderr = &diagnosis
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("SAM refuses the template: %v\n%s", err, &diagnosis)
	}
	var d translated
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

var substituted = regexp.MustCompile(`\$\{([A-Za-z0-9]+)(?:\.[^}]*)?\}`)

// needs lists the resources that a resource comes after.
func (d translated) needs(name string) []string {
	found := make(map[string]bool)
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for key, e := range v {
				switch {
				case key == "Ref":
					found[fmt.Sprint(e)] = true
				case key == "Fn::GetAtt":
					list, ok := e.([]any)
					if ok {
						found[fmt.Sprint(list[0])] = true
					} else {
						resource, _, _ := strings.Cut(fmt.Sprint(e), ".")
						found[resource] = true
					}
				case key == "Fn::Sub":
					for _, m := range substituted.FindAllStringSubmatch(fmt.Sprint(e), -1) {
						found[m[1]] = true
					}
				}
				walk(e)
			}
		}
	}
	r := d.Resources[name]
	walk(r.Properties)
	walk(r.Metadata)
	switch v := r.DependsOn.(type) {
	case string:
		found[v] = true
	case []any:
		for _, e := range v {
			found[fmt.Sprint(e)] = true
		}
	}
	return slices.Sorted(func(yield func(string) bool) {
		for n := range maps.Keys(found) {
			if _, ok := d.Resources[n]; ok && n != name && !yield(n) {
				return
			}
		}
	})
}

// TestTranslated holds what is only to be seen after SAM's transform: no circle,
// limits of the services, what hosts come after, and who may call the functions.
func TestTranslated(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("translates the whole template")
	}
	d := translation(t)
	if n := len(d.Resources); n > 500 {
		t.Errorf("%d resources, and a stack takes 500", n)
	}
	if n := len(d.Parameters); n > 200 {
		t.Errorf("%d parameters, and a stack takes 200", n)
	}
	if len(d.Rules) == 0 {
		t.Error("the transform drops the rules")
	}

	// All that each comes after, and no circle.
	before := make(map[string]map[string]bool)
	state := make(map[string]int)
	var visit func(string, []string)
	visit = func(name string, way []string) {
		switch state[name] {
		case 1:
			t.Fatalf("a circle: %v", append(way, name))
		case 2:
			return
		}
		state[name] = 1
		before[name] = make(map[string]bool)
		for _, n := range d.needs(name) {
			visit(n, append(way, name))
			before[name][n] = true
			maps.Copy(before[name], before[n])
		}
		state[name] = 2
	}
	for name := range d.Resources {
		visit(name, nil)
	}
	for _, name := range []string{"RouteOut", "GatewayAttachment", "RoutesOfA", "RoutesOfB", "DynamoDBEndpoint", "S3Endpoint", "CommandsLive00", "CommandsLive15", "CommandsDead", "EventsQueue", "LiveHostRole"} {
		if !before["LiveHosts"][name] {
			t.Errorf("live hosts may run before there is %s", name)
		}
	}
	// The key that roles are named in must not come after what the roles need of it.
	for _, name := range []string{"LiveHostRole", "SandboxHostRole"} {
		if before[name]["AuthKey"] || before[name]["SandboxAuthKey"] {
			t.Errorf("%s comes after its key", name)
		}
	}

	// Each permission is some 400 bytes of a function's policy, which has 20 KB.
	permissions, actions := make(map[string]int), make(map[string][]string)
	for _, r := range d.Resources {
		if r.Type == "AWS::Lambda::Permission" {
			function := fmt.Sprint(r.Properties["FunctionName"])
			permissions[function]++
			actions[function] = append(actions[function], fmt.Sprint(r.Properties["Action"]))
		}
	}
	for function, n := range permissions {
		if n*400 > 20000 {
			t.Errorf("%s: %d permissions are more than its policy holds", function, n)
		}
	}
	// A public function URL takes two.
	stream := actions["map[Ref:StreamFunction]"]
	slices.Sort(stream)
	if !slices.Equal(stream, []string{"lambda:InvokeFunction", "lambda:InvokeFunctionUrl"}) {
		t.Errorf("the stream's URL is called with %v", stream)
	}
	// The mapping of a domain names the stage by the name that SAM gives it.
	if _, ok := d.Resources["ApiApiGatewayDefaultStage"]; !ok {
		t.Error("the stage has another name than ApiDomainMapping says")
	}
}
