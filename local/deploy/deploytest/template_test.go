package deploytest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	ddb "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"whatisup/local/gateway/sample"
	"whatisup/local/gateway/template"
	"whatisup/shared/dynamo"
	"whatisup/shared/httpapi"
	"whatisup/shared/queue"
	"whatisup/shared/whatisup"
)

// root is the repository.
const root = "../../.."

func declared(t *testing.T) *template.Template {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := template.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func functions(t *testing.T, d *template.Template) []template.Function {
	t.Helper()
	all, err := d.Functions()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// stack is the name under which the template declares what is named locally.
const stack = "whatisup"

// values are a deployment's, with names of the same form as on AWS. What a
// resource gives for Ref is its name or its URL, which is what the code is told.
func values(t *testing.T, d *template.Template, parameters map[string]any) template.Values {
	t.Helper()
	v := template.Values{
		"AWS::StackName": stack, "AWS::Region": "eu-central-1", "AWS::AccountId": "123456789012",
		"AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com",
		"AWS::StackId": "arn:aws:cloudformation:eu-central-1:123456789012:stack/whatisup/0b6f1c2e-1111-2222-3333-444455556666",
		"Api":          "api", "StreamFunctionUrl.FunctionUrl": "https://events.example.com/",
	}
	maps.Copy(v, parameters)
	for name, r := range d.Resources {
		switch r.Type {
		case "AWS::DynamoDB::Table":
			v[name] = resolve(t, d, r.Properties["TableName"], v)
			v[name+".Arn"] = fmt.Sprintf("arn:aws:dynamodb:eu-central-1:123456789012:table/%v", v[name])
		case "AWS::SQS::Queue":
			queue := resolve(t, d, r.Properties["QueueName"], v)
			v[name] = fmt.Sprintf("https://sqs.eu-central-1.amazonaws.com/123456789012/%v", queue)
			v[name+".Arn"] = fmt.Sprintf("arn:aws:sqs:eu-central-1:123456789012:%v", queue)
			v[name+".QueueName"] = queue
		case "AWS::Serverless::Function":
			v[name] = name
			v[name+".Arn"], v[name+"Role.Arn"] = "arn:of:"+name, "arn:of:"+name+"Role" // SAM makes the role
		default:
			v[name] = name
			v[name+".Arn"] = "arn:of:" + name
		}
	}
	return v
}

func resolve(t *testing.T, d *template.Template, v any, known template.Values) any {
	t.Helper()
	got, err := d.Resolve(v, known)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestFolders(t *testing.T) {
	t.Parallel()
	mains, err := filepath.Glob(filepath.Join(root, "functions", "*", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	var folders, declaredNames []string
	for _, m := range mains {
		folders = append(folders, filepath.Base(filepath.Dir(m)))
	}
	for _, f := range functions(t, declared(t)) {
		declaredNames = append(declaredNames, f.Name)
		if want := strings.ToUpper(f.Name[:1]) + f.Name[1:] + "Function"; f.Resource != want {
			t.Errorf("function %s is called %s, want %s", f.Name, f.Resource, want)
		}
	}
	if !slices.Equal(folders, declaredNames) {
		t.Errorf("folders %v, but the template declares %v", folders, declaredNames)
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	want := map[string]string{"$default": httpapi.FunctionInstances}
	for _, r := range httpapi.Routes {
		want[r.Method+" "+r.Path] = r.Function
		if r.HeadAllowed() {
			want["HEAD "+r.Path] = r.Function
		}
	}
	got := make(map[string]string)
	for _, f := range functions(t, declared(t)) {
		for _, r := range f.Routes {
			got[r.Key()] = r.Function
		}
	}
	compare(t, "route", got, want)
}

func compare[V comparable](t *testing.T, what string, got, want map[string]V) {
	t.Helper()
	for name, w := range want {
		if g, ok := got[name]; !ok {
			t.Errorf("%s %s is not in the template", what, name)
		} else if g != w {
			t.Errorf("%s %s: the template says %v, the code %v", what, name, g, w)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s %s is only in the template", what, name)
		}
	}
}

// TestSamples holds events/ and the template together: a sample for each route,
// each function URL and each queue that feeds a function, and no others. HEAD
// has none of its own.
func TestSamples(t *testing.T) {
	t.Parallel()
	want := make(map[string]bool)
	for _, f := range functions(t, declared(t)) {
		for _, r := range f.Routes {
			if r.Method != "HEAD" {
				want[r.Key()] = true
			}
		}
		if f.Streams {
			want["URL of "+f.Name] = true
		}
		for range f.Triggers {
			want["queue of "+f.Name] = true
		}
	}
	got := make(map[string]bool)
	for name, text := range samples(t) {
		kind, err := sample.KindOf(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		key := ""
		switch kind {
		case sample.Queued:
			var e events.SQSEvent
			strictly(t, name, text, &e)
			_, queue, _ := strings.Cut(e.Records[0].EventSourceARN, stack+"-")
			function, _, _ := strings.Cut(queue, "-")
			key = "queue of " + function
		case sample.URL:
			key = "URL of stream"
			fallthrough
		default:
			var e events.APIGatewayV2HTTPRequest
			strictly(t, name, text, &e)
			if e.Version != "2.0" || e.RouteKey != e.RequestContext.RouteKey || e.RawPath != e.RequestContext.HTTP.Path {
				t.Errorf("%s is not whole: %s, %s, %s", name, e.Version, e.RouteKey, e.RawPath)
			}
			if kind == sample.HTTP {
				key = e.RouteKey
			}
		}
		if got[key] {
			t.Errorf("%s is a second sample for %s", name, key)
		}
		got[key] = true
	}
	compare(t, "sample for", got, want)
}

// samples are the files of events/, which holds nothing else.
func samples(t *testing.T) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, "events"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]byte)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(root, "events", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			t.Errorf("events/%s is no JSON", e.Name())
		}
		all[name] = text
	}
	return all
}

// strictly decodes an event and fails on members that its type doesn't have.
func strictly(t *testing.T, name string, text []byte, into any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// indexText is an index as both sides write it: an index that holds all or only
// keys names no attributes.
func indexText(kind string, name any, keys string, projection, attributes any) string {
	if projection := fmt.Sprint(projection); projection != "INCLUDE" {
		attributes = nil
	}
	return fmt.Sprintf("%s %v: %s %v %v; ", kind, name, keys, projection, attributes)
}

// table is what template and code must agree on.
type table struct {
	name, keys, ttl, indexes string
}

func TestTables(t *testing.T) {
	t.Parallel()
	d := declared(t)
	known := values(t, d, nil)
	got, want := make(map[string]table), make(map[string]table)
	for _, r := range d.OfType("AWS::DynamoDB::Table") {
		p := resolve(t, d, r.Properties, known).(map[string]any)
		types := make(map[string]any)
		for _, a := range p["AttributeDefinitions"].([]any) {
			types[a.(map[string]any)["AttributeName"].(string)] = a.(map[string]any)["AttributeType"]
		}
		keys := func(schema any) string {
			var b strings.Builder
			for _, k := range schema.([]any) {
				name := k.(map[string]any)["AttributeName"].(string)
				fmt.Fprintf(&b, "%v %v %v, ", k.(map[string]any)["KeyType"], name, types[name])
			}
			return b.String()
		}
		name := p["TableName"].(string)
		made := table{name: name, keys: keys(p["KeySchema"])}
		if ttl, ok := p["TimeToLiveSpecification"].(map[string]any); ok && ttl["Enabled"] == true {
			made.ttl = ttl["AttributeName"].(string)
		}
		for _, kind := range []string{"GlobalSecondaryIndexes", "LocalSecondaryIndexes"} {
			indexes, _ := p[kind].([]any)
			for _, i := range indexes {
				index := i.(map[string]any)
				projection := index["Projection"].(map[string]any)
				made.indexes += indexText(kind, index["IndexName"], keys(index["KeySchema"]), projection["ProjectionType"], projection["NonKeyAttributes"])
			}
		}
		got[name] = made
		if p["BillingMode"] != "PAY_PER_REQUEST" {
			t.Errorf("%s is not on demand", name)
		}
	}
	for _, def := range dynamo.Local().Definitions() {
		made := table{name: def.Name, keys: "HASH pk S, "}
		if def.SortKey {
			made.keys += "RANGE sk S, "
		}
		if def.TTL {
			made.ttl = "ttl"
		}
		keys := func(schema []ddb.KeySchemaElement) (text string) {
			for _, k := range schema {
				text += fmt.Sprintf("%v %s S, ", k.KeyType, *k.AttributeName)
			}
			return text
		}
		for _, i := range def.Indexes {
			made.indexes += indexText("GlobalSecondaryIndexes", *i.IndexName, keys(i.KeySchema), i.Projection.ProjectionType, i.Projection.NonKeyAttributes)
		}
		for _, i := range def.LocalIndexes {
			made.indexes += indexText("LocalSecondaryIndexes", *i.IndexName, keys(i.KeySchema), i.Projection.ProjectionType, i.Projection.NonKeyAttributes)
		}
		want[def.Name] = made
	}
	// The sandbox's devices are kept apart, in a table of the same kind.
	const sandbox = "whatisup-sandbox-devices"
	devices := want[dynamo.Local().Devices]
	devices.name = sandbox
	want[sandbox] = devices
	compare(t, "table", got, want)
}

// TestTableCare holds that what can't be made again can't be deleted by mistake
// once there are hosts, and can be restored; that a first deploy, which may have
// to be undone, protects nothing; that what was wiped stays wiped; and that what
// customers wrote is under the deployment's own key.
func TestTableCare(t *testing.T) {
	t.Parallel()
	d := declared(t)
	all := map[string]struct{ protected, restorable, own bool }{
		"AccessTable":    {true, true, true},
		"MediaTable":     {true, true, true},
		"InstancesTable": {true, true, true},
		"EventsTable":    {true, true, true},
		"MessagesTable":  {true, true, true},
		"WebhooksTable":  {true, true, true},
		"DevicesTable":   {true, false, true},
		// Worth nothing without the simulated phones.
		"SandboxDevicesTable": {false, false, true},
		"CallsTable":          {false, false, true},
		"FleetTable":          {false, false, false},
	}
	for _, r := range d.OfType("AWS::DynamoDB::Table") {
		if _, ok := all[r.Name]; !ok {
			t.Errorf("%s: what care does it need?", r.Name)
		}
	}
	for name, want := range all {
		if first := resolve(t, d, d.Resources[name].Properties, values(t, d, nil)).(map[string]any); first["DeletionProtectionEnabled"] == true {
			t.Errorf("%s: a first deploy that fails can't delete it", name)
		}
		p := resolve(t, d, d.Resources[name].Properties, values(t, d, map[string]any{"HostImageUri": "image"})).(map[string]any)
		pitr, _ := p["PointInTimeRecoverySpecification"].(map[string]any)
		sse, _ := p["SSESpecification"].(map[string]any)
		if got := p["DeletionProtectionEnabled"] == true; got != want.protected {
			t.Errorf("%s: deletion protection %v, want %v", name, got, want.protected)
		}
		if got := pitr["PointInTimeRecoveryEnabled"] == true; got != want.restorable {
			t.Errorf("%s: point-in-time recovery %v, want %v", name, got, want.restorable)
		}
		if got := sse["KMSMasterKeyId"] == "DataKey"; got != want.own {
			t.Errorf("%s: own key %v, want %v", name, got, want.own)
		}
	}
}

// queueOf is what template and code must agree on.
type queueOf struct {
	fifo             bool
	visibility, kept int
	dead             string
	receives         int
	size, wait       int
}

func TestQueues(t *testing.T) {
	t.Parallel()
	d := declared(t)
	known := values(t, d, nil)
	got, want := make(map[string]queueOf), make(map[string]queueOf)
	for _, r := range d.OfType("AWS::SQS::Queue") {
		p := resolve(t, d, r.Properties, known).(map[string]any)
		name := p["QueueName"].(string)
		number := func(property string) int { n, _ := p[property].(int); return n }
		q := queueOf{
			fifo: p["FifoQueue"] == true, visibility: number("VisibilityTimeout"), kept: number("MessageRetentionPeriod"),
			size: number("MaximumMessageSize"), wait: number("ReceiveMessageWaitTimeSeconds"),
		}
		if redrive, ok := p["RedrivePolicy"].(map[string]any); ok {
			q.dead = redrive["deadLetterTargetArn"].(string)
			q.receives, _ = redrive["maxReceiveCount"].(int)
		}
		got[name] = q
		if q.fifo != strings.HasSuffix(name, ".fifo") {
			t.Errorf("%s: a FIFO queue's name ends in .fifo, and no other's", name)
		}
		if q.fifo && (p["DeduplicationScope"] != "messageGroup" || p["FifoThroughputLimit"] != "perMessageGroupId") {
			t.Errorf("%s: not in high throughput mode", name)
		}
		if p["KmsMasterKeyId"] != "DataKey" {
			t.Errorf("%s is not under the deployment's key", name)
		}
	}
	for _, def := range queue.Local().Definitions(whatisup.DefaultShardCount) {
		q := queueOf{
			fifo: def.FIFO, visibility: int(def.Visibility / time.Second), kept: int(def.Kept / time.Second),
			size: queue.MaxMessage, wait: 20,
		}
		if def.Dead != "" {
			q.dead, q.receives = "arn:aws:sqs:eu-central-1:123456789012:"+def.Dead, queue.MaxReceives
		}
		want[def.Name] = q
	}
	compare(t, "queue", got, want)
	for name, q := range got {
		if q.dead == "" {
			continue
		}
		_, dead, _ := strings.Cut(q.dead, "123456789012:")
		if got[dead].fifo != q.fifo {
			t.Errorf("%s: a FIFO queue's dead letters need a FIFO queue, and others' don't", name)
		}
		if got[dead].kept <= q.kept {
			t.Errorf("%s: dead letters are kept no longer than the living", name)
		}
	}
}

// TestTriggers holds that a message is not seen again while a function may still
// be working on it: Lambda asks for six times the function's timeout.
func TestTriggers(t *testing.T) {
	t.Parallel()
	d := declared(t)
	known := values(t, d, nil)
	found := 0
	for _, f := range functions(t, d) {
		for _, trigger := range f.Triggers {
			found++
			arn := resolve(t, d, trigger.Queue, known)
			for _, r := range d.OfType("AWS::SQS::Queue") {
				if known[r.Name+".Arn"] != arn {
					continue
				}
				visible := time.Duration(r.Properties["VisibilityTimeout"].(int)) * time.Second
				want := 6 * f.Timeout
				if r.Properties["FifoQueue"] == true && trigger.BatchSize == 1 {
					// One message, which Lambda doesn't hold while it is throttled. A group
					// stands still for as long when the function died.
					want = f.Timeout + 30*time.Second
				}
				if visible < want {
					t.Errorf("%s: visibility %v, want at least %v", r.Name, visible, want)
				}
				if r.Properties["RedrivePolicy"] == nil && !strings.HasSuffix(r.Name, "Dead") {
					t.Errorf("%s has no dead-letter queue", r.Name)
				}
			}
			if !trigger.ItemFailure {
				t.Errorf("%s: one bad message would repeat its whole batch", f.Name)
			}
		}
	}
	if found == 0 {
		t.Error("no function is fed from a queue")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	d := declared(t)
	count := fmt.Sprint(whatisup.DefaultShardCount)
	for _, f := range functions(t, d) {
		if n, ok := f.Env["SHARD_COUNT"]; ok && fmt.Sprint(n) != count {
			t.Errorf("%s: SHARD_COUNT is %v, want %s", f.Name, n, count)
		}
	}
	known := values(t, d, nil)
	prefix := resolve(t, d, functionNamed(t, d, "qr").Env["COMMAND_QUEUE_PREFIX"], known)
	if want := "https://sqs.eu-central-1.amazonaws.com/123456789012/" + queue.Local().CommandPrefix; prefix != want {
		t.Errorf("COMMAND_QUEUE_PREFIX is %v, want %s", prefix, want)
	}
}

func functionNamed(t *testing.T, d *template.Template, name string) template.Function {
	t.Helper()
	for _, f := range functions(t, d) {
		if f.Name == name {
			return f
		}
	}
	t.Fatalf("no function %s", name)
	return template.Function{}
}

// TestPepper holds that both forms of PEPPER are what the functions can read,
// with the newer version last.
func TestPepper(t *testing.T) {
	t.Parallel()
	d := declared(t)
	written := functionNamed(t, d, "keys").Env["PEPPER"]
	for _, c := range []struct {
		parameters map[string]any
		want       []string
	}{
		{nil, []string{"1"}},
		{map[string]any{"PepperVersion": 3, "PreviousPepperVersion": 2}, []string{"2", "3"}},
	} {
		text := fmt.Sprint(resolve(t, d, written, values(t, d, c.parameters)))
		for _, version := range c.want {
			reference := "{{resolve:secretsmanager:Pepper:SecretString:" + version + "}}"
			if !strings.Contains(text, version+":"+reference) {
				t.Errorf("PEPPER is %s, want %s in it", text, reference)
			}
			text = strings.Replace(text, reference, strings.Repeat("Ab12", 11), 1)
		}
		if _, err := whatisup.ParsePeppers(text); err != nil {
			t.Errorf("%s can't be read: %v", text, err)
		}
	}
}

// TestBrowserReachesTheBucket: the dashboard may speak to the bucket where the code's
// upload forms and URLs lead (package bucket has a test of that address), and the bucket
// takes what comes from a page of another origin.
func TestBrowserReachesTheBucket(t *testing.T) {
	t.Parallel()
	d := declared(t)
	known := values(t, d, nil)
	known["MediaBucket"] = "acme-media"
	told := map[string]any{}
	for _, r := range d.OfType("AWS::Serverless::Function") {
		p := resolve(t, d, r.Properties, known).(map[string]any)
		if env, ok := p["Environment"].(map[string]any); ok {
			if url := env["Variables"].(map[string]any)["BUCKET_URL"]; url != nil {
				told[p["FunctionName"].(string)] = url
			}
		}
	}
	if want := map[string]any{stack + "-instances": "https://acme-media.s3.eu-central-1.amazonaws.com"}; !maps.Equal(told, want) {
		t.Errorf("BUCKET_URL is %v, want %v", told, want)
	}
	cors := resolve(t, d, d.Resources["MediaBucket"].Properties, known).(map[string]any)["CorsConfiguration"].(map[string]any)["CorsRules"].([]any)
	if len(cors) != 1 {
		t.Fatalf("%d CORS rules", len(cors))
	}
	rule := cors[0].(map[string]any)
	for name, want := range map[string][]any{"AllowedMethods": {"GET", "HEAD", "POST"}, "AllowedOrigins": {"*"}, "AllowedHeaders": {"*"}} {
		if got, _ := rule[name].([]any); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
