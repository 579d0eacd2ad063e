package deploytest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"whatisup/local/gateway/template"
)

// full is a deployment with all that can be switched on.
var full = map[string]any{
	"HostImageUri": "image", "Sandbox": "true", "EventsQueueRead": "true", "MonthlyBudget": 500,
	"DomainName": "api.example.com", "CertificateArn": "arn:aws:acm:eu-central-1:123456789012:certificate/1",
	"StreamDomainName": "events.example.com", "StreamCertificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/2",
	"ExtraEventQueueUrls": "https://sqs.eu-central-1.amazonaws.com/123456789012/theirs", "ExtraEventQueueArns": "arn:aws:sqs:eu-central-1:123456789012:theirs",
	"PepperReplicaRegion": "eu-west-1", "PermissionsBoundaryArn": "arn:aws:iam::123456789012:policy/boundary",
}

// TestRules holds that parameters which can only fail half-way are refused before
// anything is made, and that those of a real deployment are not.
func TestRules(t *testing.T) {
	t.Parallel()
	d := declared(t)
	for name, c := range map[string]struct {
		parameters map[string]any
		want       string
	}{
		"defaults":                  {nil, ""},
		"everything":                {full, ""},
		"own network":               {map[string]any{"VpcId": "vpc-1", "SubnetIds": "subnet-1,subnet-2"}, ""},
		"network without subnets":   {map[string]any{"VpcId": "vpc-1"}, "VpcId needs SubnetIds."},
		"subnets without network":   {map[string]any{"SubnetIds": "subnet-1"}, "SubnetIds needs VpcId."},
		"routes without network":    {map[string]any{"RouteTableIds": "rtb-1"}, "RouteTableIds needs VpcId."},
		"queues without ARNs":       {map[string]any{"ExtraEventQueueUrls": "https://q"}, "ExtraEventQueueUrls needs ExtraEventQueueArns."},
		"ARNs without queues":       {map[string]any{"ExtraEventQueueArns": "arn:q"}, "ExtraEventQueueArns needs ExtraEventQueueUrls."},
		"domain without cert":       {map[string]any{"DomainName": "a.example.com"}, "DomainName needs CertificateArn."},
		"stream without cert":       {map[string]any{"StreamDomainName": "a.example.com"}, "StreamDomainName needs StreamCertificateArn."},
		"quarter core, 4 GiB":       {map[string]any{"HostCpu": 256, "HostMemory": 4096}, "HostCpu 256 goes with HostMemory 512, 1024 or 2048."},
		"half a core":               {map[string]any{"HostCpu": 512, "HostMemory": 4096}, ""},
		"one core, 1 GiB":           {map[string]any{"HostCpu": 1024, "HostMemory": 1024}, "HostCpu 1024 goes with HostMemory 2048 to 8192, in steps of 1024."},
		"two cores, 2 GiB":          {map[string]any{"HostCpu": 2048, "HostMemory": 2048}, "HostCpu 2048 goes with HostMemory 4096 to 16384, in steps of 1024."},
		"four cores, odd memory":    {map[string]any{"HostCpu": 4096, "HostMemory": 9000}, "HostCpu 4096 goes with HostMemory 8192 to 30720, in steps of 1024."},
		"four cores, thirty of GiB": {map[string]any{"HostCpu": 4096, "HostMemory": 30720}, ""},
	} {
		got, err := d.Refusals(template.Values(c.parameters))
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
	// What CloudFormation knows in rules, and no more.
	for name, rule := range d.Rules {
		for _, m := range regexp.MustCompile(`Fn::\w+|Condition:`).FindAllString(fmt.Sprint(rule), -1) {
			if !slices.Contains([]string{"Fn::Equals", "Fn::Not", "Fn::Contains", "Fn::And", "Fn::Or"}, m) && m != "Condition:" {
				t.Errorf("rule %s uses %s, which rules don't have", name, m)
			}
		}
	}
}

// TestKept holds that what the tables need outlives the stack, but not a first
// deploy that failed; and that nobody edits the pepper's recipe, on which
// CloudFormation would make another pepper.
func TestKept(t *testing.T) {
	t.Parallel()
	d := declared(t)
	for _, name := range []string{"Pepper", "AuthKey", "DataKey"} {
		a := d.Resources[name].Attributes
		if a["DeletionPolicy"] != "RetainExceptOnCreate" || a["UpdateReplacePolicy"] != "Retain" {
			t.Errorf("%s goes with the stack: %v, %v", name, a["DeletionPolicy"], a["UpdateReplacePolicy"])
		}
	}
	const recipe = "map[ExcludePunctuation:true GenerateStringKey:1 IncludeSpace:false PasswordLength:44 SecretStringTemplate:{}]"
	p := resolve(t, d, d.Resources["Pepper"].Properties, values(t, d, full)).(map[string]any)
	if got := fmt.Sprint(p["GenerateSecretString"]); got != recipe {
		t.Errorf("the pepper's recipe changed: the next deploy would make every API key useless.\n got %s\nwant %s", got, recipe)
	}
	// A kept pepper must not be in the way of the next stack of that name.
	if got := p["Name"]; got != "whatisup/pepper/0b6f1c2e-1111-2222-3333-444455556666" {
		t.Errorf("the pepper is called %v", got)
	}
	if fmt.Sprint(p["ReplicaRegions"]) != "[map[Region:eu-west-1]]" {
		t.Errorf("replicas of the pepper: %v", p["ReplicaRegions"])
	}
}

// TestNothingReserved holds that the first deploy reserves no concurrency: an
// account whose quota is low can't give any.
func TestNothingReserved(t *testing.T) {
	t.Parallel()
	d := declared(t)
	for _, c := range []struct {
		parameters map[string]any
		want       map[string]any
	}{
		{nil, map[string]any{}},
		{map[string]any{"StreamConcurrency": 100, "QrConcurrency": 300, "SandboxConcurrency": 20}, map[string]any{"StreamFunction": 100, "QrFunction": 300, "SandboxFunction": 20}},
	} {
		got := make(map[string]any)
		for _, f := range d.OfType("AWS::Serverless::Function") {
			p := resolve(t, d, f.Properties["ReservedConcurrentExecutions"], values(t, d, c.parameters))
			if p != nil {
				got[f.Name] = p
			}
		}
		if !maps.Equal(got, c.want) {
			t.Errorf("%v: reserved %v, want %v", c.parameters, got, c.want)
		}
	}
}

// TestStreamApart holds that what streams serves nothing else, so that what is
// reserved for streams is theirs alone; and that alarms look at every function.
func TestStreamApart(t *testing.T) {
	t.Parallel()
	d := declared(t)
	streams := 0
	for _, f := range functions(t, d) {
		if f.Streams {
			streams++
			if len(f.Routes) > 0 || f.MemoryMB != 128 {
				t.Errorf("%s streams, has %d routes and %d MB", f.Name, len(f.Routes), f.MemoryMB)
			}
		}
		for _, alarms := range [][]string{{"FunctionErrorsAlarm", "WebhookErrorsAlarm"}, {"FunctionThrottlesAlarm", "WebhookThrottlesAlarm"}} {
			watched := false
			for _, alarm := range alarms { // an alarm looks at ten metrics at most
				references(d.Resources[alarm].Properties, func(name string) { watched = watched || name == f.Resource })
			}
			if !watched {
				t.Errorf("none of %v looks at %s", alarms, f.Name)
			}
		}
	}
	if streams != 1 {
		t.Errorf("%d functions stream, want one", streams)
	}
}

// TestPrincipalsExist holds that no key's policy names a role as a principal: KMS
// looks it up and refuses one that was made a moment ago.
func TestPrincipalsExist(t *testing.T) {
	t.Parallel()
	d := declared(t)
	for _, k := range d.OfType("AWS::KMS::Key") {
		p := resolve(t, d, k.Properties["KeyPolicy"], values(t, d, nil)).(map[string]any)
		for _, statement := range p["Statement"].([]any) {
			principal := statement.(map[string]any)["Principal"].(map[string]any)
			if principal["Service"] == "s3.amazonaws.com" {
				continue // a service is not looked up
			}
			for _, who := range texts(principal["AWS"]) {
				if who != "*" && who != "arn:aws:iam::123456789012:root" {
					t.Errorf("%s: %s is looked up by KMS", k.Name, who)
				}
			}
		}
	}
}

// TestHostsComeLast holds that hosts are made after, and deleted before, the way
// to the internet and their queues.
func TestHostsComeLast(t *testing.T) {
	t.Parallel()
	d := declared(t)
	for service, queues := range map[string]string{"LiveHosts": "CommandsLive", "SandboxHosts": "CommandsTest"} {
		a := d.Resources[service].Attributes
		after := texts(a["DependsOn"])
		for _, name := range after {
			// CloudFormation says nothing of what happens then.
			if c := d.Resources[name].Condition; c != "" {
				t.Errorf("%s depends on %s, which is made only if %s", service, name, c)
			}
		}
		references(a["Metadata"], func(name string) { after = append(after, name) })
		want := []string{"RouteOut", "RoutesOfA", "RoutesOfB", "DynamoDBEndpoint", "S3Endpoint", "EventsDead", map[string]string{"LiveHosts": "CommandsDead", "SandboxHosts": "SandboxCommandsDead"}[service]}
		for _, q := range d.OfType("AWS::SQS::Queue") {
			if strings.HasPrefix(q.Name, queues) {
				want = append(want, q.Name)
			}
		}
		for _, name := range want {
			if !slices.Contains(after, name) {
				t.Errorf("%s may run without %s", service, name)
			}
		}
	}
	if d.Resources["RouteOut"].Attributes["DependsOn"] != "GatewayAttachment" {
		t.Error("the route out may be made before its gateway is attached")
	}
}

// references calls found for every Ref within v.
func references(v any, found func(string)) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			references(e, found)
		}
	case map[string]any:
		for name, e := range v {
			if text, ok := e.(string); ok && name == "Ref" {
				found(text)
			}
			references(e, found)
		}
	}
}

// TestRolling holds that hosts change one after the other, and can change at all.
func TestRolling(t *testing.T) {
	t.Parallel()
	d := declared(t)
	for hosts := 1; hosts <= 16; hosts++ {
		p := resolve(t, d, d.Resources["LiveHosts"].Properties, values(t, d, map[string]any{"HostImageUri": "image", "HostCount": hosts})).(map[string]any)
		c := p["DeploymentConfiguration"].(map[string]any)
		// ECS rounds the floor up and the ceiling down.
		floor := (hosts*c["MinimumHealthyPercent"].(int) + 99) / 100
		ceiling := hosts * c["MaximumPercent"].(int) / 100
		if floor < hosts {
			t.Errorf("%d hosts: only %d run during a deploy", hosts, floor)
		}
		if ceiling <= floor {
			t.Errorf("%d hosts: there is no room for a new one", hosts)
		}
		if more := ceiling - hosts; more > (hosts+1)/2 {
			t.Errorf("%d hosts: %d change at once", hosts, more)
		}
		if p["AvailabilityZoneRebalancing"] != "DISABLED" {
			t.Error("ECS may move hosts unasked")
		}
	}
}

// TestSandboxWakesNobody holds that what a test key can cause reaches no alarm
// about live instances.
func TestSandboxWakesNobody(t *testing.T) {
	t.Parallel()
	d := declared(t)
	known := values(t, d, full)
	for _, c := range resolve(t, d, d.Resources["SandboxHostTask"].Properties["ContainerDefinitions"], known).([]any) {
		options := c.(map[string]any)["LogConfiguration"].(map[string]any)["Options"].(map[string]any)
		if options["awslogs-group"] != "SandboxHostLogs" {
			t.Errorf("%v logs to %v", c.(map[string]any)["Name"], options["awslogs-group"])
		}
	}
	for _, f := range d.OfType("AWS::Logs::MetricFilter") {
		// Functions serve both modes, and say for which one a line is.
		if group := resolve(t, d, f.Properties["LogGroupName"], known); group != "HostLogs" && !strings.Contains(fmt.Sprint(f.Properties["FilterPattern"]), `$.mode = "live"`) {
			t.Errorf("%s looks at %v, whatever the mode", f.Name, group)
		}
	}
	for _, a := range d.OfType("AWS::CloudWatch::Alarm") {
		p := resolve(t, d, a.Properties, known).(map[string]any)
		text := fmt.Sprint(p)
		test := strings.Contains(text, "Value:test") || strings.Contains(text, "-commands-test-") || strings.Contains(text, "-sandbox-commands-dead")
		if to := fmt.Sprint(p["AlarmActions"]); test != (to == "[SandboxTopic]") {
			t.Errorf("%s goes to %s", a.Name, to)
		}
	}
}

// TestContainers holds what a container can't do.
func TestContainers(t *testing.T) {
	t.Parallel()
	d := declared(t)
	for _, task := range d.OfType("AWS::ECS::TaskDefinition") {
		for _, container := range resolve(t, d, task.Properties["ContainerDefinitions"], values(t, d, full)).([]any) {
			c := container.(map[string]any)
			if c["ReadonlyRootFilesystem"] != true || c["User"] != "65532:65532" || fmt.Sprint(c["LinuxParameters"]) != "map[Capabilities:map[Drop:[ALL]]]" {
				t.Errorf("%s: %v may more than it needs", task.Name, c["Name"])
			}
		}
	}
}

// TestBoundary holds that every role takes the permissions boundary.
func TestBoundary(t *testing.T) {
	t.Parallel()
	d := declared(t)
	text := read(t, "template.yaml")
	const boundary = "PermissionsBoundary: !If [HasBoundary, !Ref PermissionsBoundaryArn, !Ref AWS::NoValue]"
	// Once for all functions, and once for each role that stands here.
	if got, want := strings.Count(text, boundary), 1+len(d.OfType("AWS::IAM::Role")); got != want {
		t.Errorf("%d roles take the boundary, want %d", got, want)
	}
}

// TestKeylessRoutes holds that routes without a key have brakes of their own,
// which leave most of the deployment's to the others.
func TestKeylessRoutes(t *testing.T) {
	t.Parallel()
	d := declared(t)
	p := d.Resources["Api"].Properties
	all := p["DefaultRouteSettings"].(map[string]any)["ThrottlingRateLimit"].(int)
	settings := p["RouteSettings"].(map[string]any)
	sum := 0
	for _, route := range []string{"$default", "GET /v1", "HEAD /v1", "GET /openapi.json", "HEAD /openapi.json", "GET /docs", "HEAD /docs"} {
		s, ok := settings[route].(map[string]any)
		if !ok {
			t.Errorf("%s has no brake of its own", route)
			continue
		}
		sum += s["ThrottlingRateLimit"].(int)
	}
	if sum > all/2 {
		t.Errorf("routes without a key may take %d of %d requests a second", sum, all)
	}
	routes := make(map[string]bool)
	for _, f := range functions(t, d) {
		for _, r := range f.Routes {
			routes[r.Key()] = true
		}
	}
	for name := range settings {
		// The stage can't be made with settings of a route that is not there.
		if !routes[name] {
			t.Errorf("there is no route %s", name)
		}
	}
}

// TestThrottlesWatched holds that an alarm looks at each table and at each index:
// what is counted for a table leaves its indexes out.
func TestThrottlesWatched(t *testing.T) {
	t.Parallel()
	d := declared(t)
	known := values(t, d, full)
	watched := make(map[string]bool)
	for _, a := range d.OfType("AWS::CloudWatch::Alarm") {
		metrics, _ := resolve(t, d, a.Properties["Metrics"], known).([]any)
		if len(metrics) > 11 {
			t.Errorf("%s looks at %d metrics, and ten are allowed", a.Name, len(metrics)-1)
		}
		for _, m := range metrics {
			stat, ok := m.(map[string]any)["MetricStat"].(map[string]any)
			if !ok {
				continue
			}
			metric := stat["Metric"].(map[string]any)
			key := fmt.Sprint(metric["MetricName"])
			for _, dimension := range metric["Dimensions"].([]any) {
				key += fmt.Sprint(" ", dimension.(map[string]any)["Value"])
			}
			watched[key] = true
		}
	}
	for _, r := range d.OfType("AWS::DynamoDB::Table") {
		if r.Name == "SandboxDevicesTable" {
			continue // it wakes nobody
		}
		names := []string{fmt.Sprint(known[r.Name])}
		indexes, _ := r.Properties["GlobalSecondaryIndexes"].([]any)
		for _, i := range indexes {
			names = append(names, fmt.Sprint(known[r.Name], " ", i.(map[string]any)["IndexName"]))
		}
		for _, name := range names {
			for _, metric := range []string{"ReadThrottleEvents ", "WriteThrottleEvents "} {
				if !watched[metric+name] {
					t.Errorf("no alarm looks at %s%s", metric, name)
				}
			}
		}
	}
}

// TestKeysWatched holds that somebody is told when a key is taken away or opened,
// and that the topic takes what is sent to it.
func TestKeysWatched(t *testing.T) {
	t.Parallel()
	d := declared(t)
	known := values(t, d, full)
	rule := resolve(t, d, d.Resources["KeyRule"].Properties, known).(map[string]any)
	text := fmt.Sprint(rule)
	for _, want := range []string{"ScheduleKeyDeletion", "DisableKey", "PutKeyPolicy", "arn:of:DataKey", "arn:of:AuthKey", "Arn:AlarmTopic"} {
		if !strings.Contains(text, want) {
			t.Errorf("the rule does not look for %s: %s", want, text)
		}
	}
	policy := fmt.Sprint(resolve(t, d, d.Resources["AlarmTopicPolicy"].Properties, known))
	for _, service := range []string{"cloudwatch", "events", "budgets"} {
		if !strings.Contains(policy, service+".amazonaws.com") {
			t.Errorf("%s may not publish alarms", service)
		}
	}
	if d.Resources["AlarmTopic"].Properties["KmsMasterKeyId"] != nil {
		t.Error("an alarm about a key needs a key")
	}
}

// TestHostsCounted holds that hosts are counted by their own lines, one a minute,
// and are not missed when none should run.
func TestHostsCounted(t *testing.T) {
	t.Parallel()
	d := declared(t)
	for name, condition := range map[string]string{"HostsMissingAlarm": "RunsLive", "ShardsOwnedAlarm": "RunsLive", "SandboxMissingAlarm": "HasSandbox"} {
		a := d.Resources[name]
		if text := fmt.Sprint(a.Properties); a.Condition != condition || !strings.Contains(text, "MetricName:Shards") || a.Properties["TreatMissingData"] != "breaching" {
			t.Errorf("%s: %s, %s", name, a.Condition, text)
		}
	}
	for hosts, want := range map[int]bool{0: false, 1: true, 2: true} {
		got, err := d.Holds("RunsLive", values(t, d, map[string]any{"HostImageUri": "image", "HostCount": hosts}))
		if err != nil || got != want {
			t.Errorf("%d hosts are missed: %v, %v", hosts, got, err)
		}
	}
}

// TestIntegrationSenders holds that the right to send commands can be narrowed,
// and that the queues take nothing in clear.
func TestIntegrationSenders(t *testing.T) {
	t.Parallel()
	d := declared(t)
	for _, name := range []string{"IntegrationCommandsPolicy", "EventsQueuePolicy"} {
		text := fmt.Sprint(resolve(t, d, d.Resources[name].Properties, values(t, d, nil)))
		if !strings.Contains(text, "Bool:map[aws:SecureTransport:false]") || strings.Contains(text, "ArnNotLike") {
			t.Errorf("%s: %s", name, text)
		}
	}
	const role = "arn:aws:iam::123456789012:role/integrator"
	text := fmt.Sprint(resolve(t, d, d.Resources["IntegrationCommandsPolicy"].Properties, values(t, d, map[string]any{"IntegrationSenderArns": role})))
	if !strings.Contains(text, "Condition:map[ArnNotLike:map[aws:PrincipalArn:["+role+" arn:of:IntegrationFunctionRole]]]") && !strings.Contains(text, "Condition:map[ArnNotLike:map[aws:PrincipalArn:["+role+"]]]") {
		t.Errorf("others may send: %s", text)
	}
}

// TestGatewayQuotas holds that the routes fit into what AWS takes: 300 of an API, and
// 20 KB of policy for a function, of which SAM's permission for a route takes up to
// 400 bytes. The function that has $default needs one permission for all.
func TestGatewayQuotas(t *testing.T) {
	t.Parallel()
	d := declared(t)
	all := 0
	for _, f := range functions(t, d) {
		whole := slices.ContainsFunc(f.Routes, func(r template.Route) bool { return r.Key() == "$default" })
		all += len(f.Routes)
		if n := 400 * len(f.Routes); !whole && n > 20<<10 {
			t.Errorf("the permissions of %s for %d routes take up to %d bytes", f.Name, len(f.Routes), n)
		}
	}
	if all < 50 || all > 300 {
		t.Errorf("%d routes", all)
	}
}

// TestForeignPorts holds that only functions outside any network of ours call foreign
// addresses, so that no security group stands before port 8443.
func TestForeignPorts(t *testing.T) {
	t.Parallel()
	d := declared(t)
	for _, f := range functions(t, d) {
		if vpc := d.Resources[f.Resource].Properties["VpcConfig"]; vpc != nil {
			t.Errorf("%s runs inside %v", f.Name, vpc)
		}
	}
}
