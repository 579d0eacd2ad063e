package deploytest

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"whatisup/local/gateway/template"
	"whatisup/sessionhost/fleet"
)

// unused are permissions that a recorded run can't be relied on to use, with the
// reason for giving them all the same.
var unused = map[string]map[string]string{
	"sessionhost": {
		"dynamodb:PartiQLInsert on table/whatisup-messages":                  "rows share a request only while several sessions put some at once",
		"dynamodb:PartiQLInsert on table/whatisup-events":                    "the same",
		"dynamodb:PartiQLInsert on table/whatisup-sandbox-devices":           "the same",
		"s3:GetObject on bucket/whatisup-media/d30/test/*":                   "only what is kept for longer than a week is there",
		"s3:PutObject on bucket/whatisup-media/d30/test/*":                   "no received file is kept for longer than a week",
		"s3:DeleteObject on bucket/whatisup-media/d30/test/*":                "no received file is kept for longer than a week",
		"s3:AbortMultipartUpload on bucket/whatisup-media/d30/test/*":        "no received file is kept for longer than a week",
		"s3:AbortMultipartUpload on bucket/whatisup-media/d8/test/*":         "only what breaks off after its first part is taken back",
		"sqs:SendMessage on queue/whatisup-fanout-events.fifo":               "no endpoint takes what the run's sessions tell",
		"dynamodb:GetItem on table/whatisup-fleet":                           "a lease is read when another connection took a link, and before one of its own name is taken over",
		"sqs:ChangeMessageVisibility on queue/whatisup-commands-test-*.fifo": "only a message that is held when a host drains is given back, or one that takes long",
		"dynamodb:Query on table/whatisup-messages/index/listed":             "only after a host that died with steps that were not told",
	},
	"qr": {
		"dynamodb:Query on table/whatisup-access": "a customer's places are looked through when one of their rows is full",
	},
	"events": {
		"dynamodb:Query on table/whatisup-access": "a stream gives its place back when it ends, which may be after the run",
	},
	"stream": {
		"dynamodb:Query on table/whatisup-access": "a stream gives its place back when it ends, which may be after the run",
	},
	"fanout": {
		"dynamodb:BatchWriteItem on table/whatisup-webhooks":          "a death, a full queue or a failing endpoint needs it, and none of them is in the run",
		"dynamodb:PutItem on table/whatisup-webhooks":                 "a delivery is held while its endpoint is disabled",
		"sqs:SendMessage on queue/whatisup-fanout-wakes":              "an endpoint is not due yet when it is pumped",
		"sqs:SendMessage on queue/whatisup-fanout-events.fifo":        "tells of an endpoint whose instance was deleted, if another endpoint takes that",
		"sqs:GetQueueAttributes on queue/whatisup-fanout-events.fifo": "Lambda looks at the queue with the function's role",
		"sqs:GetQueueAttributes on queue/whatisup-fanout-wakes":       "Lambda looks at the queue with the function's role",
	},
	"deliver": {
		"dynamodb:BatchWriteItem on table/whatisup-webhooks":             "a death, a full queue or a failing endpoint needs it, and none of them is in the run",
		"sqs:SendMessage on queue/whatisup-deliver-attempts.fifo":        "an endpoint that was behind gets more as it answers",
		"dynamodb:GetItem on table/whatisup-webhooks":                    "what it was owed is read then",
		"sqs:GetQueueAttributes on queue/whatisup-deliver-attempts.fifo": "Lambda looks at the queue with the function's role",
		"dynamodb:PutItem on table/whatisup-events":                      "an endpoint is disabled after a 410 or five days",
		"sqs:SendMessage on queue/whatisup-events":                       "an endpoint is disabled after a 410 or five days",
		"sqs:SendMessage on queue/whatisup-fanout-events.fifo":           "an endpoint is disabled after a 410 or five days",
		"dynamodb:DeleteItem on table/whatisup-webhooks":                 "a death, a full queue or a failing endpoint needs it, and none of them is in the run",
		"dynamodb:Query on table/whatisup-webhooks":                      "a death, a full queue or a failing endpoint needs it, and none of them is in the run",
	},
	"sweep": {
		"dynamodb:BatchWriteItem on table/whatisup-webhooks":               "a death, a full queue or a failing endpoint needs it, and none of them is in the run",
		"dynamodb:PutItem on table/whatisup-events":                        "the run's host lives, so no message expires without it",
		"dynamodb:ConditionCheckItem on table/whatisup-fleet":              "the run's host lives, so no message expires without it",
		"dynamodb:Query on table/whatisup-instances":                       "the run's host lives, so no message expires without it",
		"dynamodb:UpdateItem on table/whatisup-messages":                   "the run's host lives, so no message expires without it",
		"dynamodb:Query on table/whatisup-messages/index/line":             "the run's host lives, so no message expires without it",
		"dynamodb:Query on table/whatisup-messages/index/waiting":          "the run's host lives, so no message expires without it",
		"sqs:SendMessage on queue/whatisup-events":                         "the run's host lives, so no message expires without it",
		"sqs:SendMessage on queue/whatisup-fanout-events.fifo":             "the run's host lives, so no message expires without it",
		"dynamodb:UpdateItem on table/whatisup-webhooks":                   "nothing is due and unseen in the run",
		"sqs:GetQueueAttributes on queue/whatisup-sweep-fanout-dead.fifo":  "Lambda looks at the queue with the function's role",
		"sqs:GetQueueAttributes on queue/whatisup-sweep-deliver-dead.fifo": "Lambda looks at the queue with the function's role",
		"sqs:DeleteMessage on queue/whatisup-sweep-fanout-dead.fifo":       "nothing is given up in the run",
		"sqs:DeleteMessage on queue/whatisup-sweep-deliver-dead.fifo":      "nothing is given up in the run",
		"sqs:SendMessage on queue/whatisup-deliver-attempts.fifo":          "a death, a full queue or a failing endpoint needs it, and none of them is in the run",
		"sqs:SendMessage on queue/whatisup-fanout-wakes":                   "a death, a full queue or a failing endpoint needs it, and none of them is in the run",
		"dynamodb:Query on table/whatisup-events":                          "goes on with a replay whose wake-up was lost",
		"dynamodb:DeleteItem on table/whatisup-webhooks":                   "a death, a full queue or a failing endpoint needs it, and none of them is in the run",
		"dynamodb:PutItem on table/whatisup-webhooks":                      "a death, a full queue or a failing endpoint needs it, and none of them is in the run",
		"dynamodb:Query on table/whatisup-webhooks":                        "a death, a full queue or a failing endpoint needs it, and none of them is in the run",
		"dynamodb:BatchGetItem on table/whatisup-webhooks":                 "a death, a full queue or a failing endpoint needs it, and none of them is in the run",
	},
	"media": {
		"dynamodb:Query on table/whatisup-instances":           "only a received file dies with its instance",
		"sqs:SendMessage on queue/whatisup-fanout-events.fifo": "no endpoint takes what becomes of the run's files",
		"s3:ListBucket on bucket/whatisup-media":               "without it S3 answers 403 for an object that is not there",
		"s3:PutObject on bucket/whatisup-media/*":              "who fills an upload form acts with the function's right",
		"dynamodb:UpdateItem on table/whatisup-calls":          "a bucket of tokens is begun with its first use",
		"sqs:SendMessage on queue/whatisup-commands-*.fifo":    "a session is woken for a file that is fetched on demand",
	},
	"fetch": {
		"s3:GetObject on bucket/whatisup-media/*":              "nothing tells of the run's uploads, which are found when they are looked at",
		"s3:PutObject on bucket/whatisup-media/*":              "nothing tells of the run's uploads, and it has no foreign address to fetch from",
		"s3:DeleteObject on bucket/whatisup-media/*":           "nothing tells of the run's uploads, which are found when they are looked at",
		"sqs:SendMessage on queue/whatisup-fanout-events.fifo": "no endpoint takes what becomes of the run's files",
		"s3:ListBucket on bucket/whatisup-media":               "without it S3 answers 403 for an object that is not there",
		"sqs:GetQueueAttributes on queue/whatisup-fetch-media": "Lambda looks at the queue with the function's role",
	},
	"messages": {
		"sqs:SendMessage on queue/whatisup-fetch-media": "only a media_url is fetched, and the run has no foreign address",
		"s3:GetObject on bucket/whatisup-media/d8/*":    "only what is kept for longer than a week is copied",
		"s3:GetObject on bucket/whatisup-media/d30/*":   "goes with the right to write there",
		"s3:PutObject on bucket/whatisup-media/d30/*":   "only what is kept for longer than a week is copied",
	},
	"integration": {
		"sqs:SendMessage on queue/whatisup-fanout-events.fifo":          "no endpoint takes what the run's commands cause",
		"sqs:GetQueueAttributes on queue/whatisup-integration-commands": "Lambda looks at the queue with the function's role",
	},
}

// grant is a statement of a policy: what it allows, in the recorder's words.
// Resources may hold stars.
type grant struct {
	actions, resources []string
	leading            []string // partitions, or prefixes of a list of keys; none: all
}

func (g grant) allows(c call) bool {
	if len(g.leading) > 0 && !slices.ContainsFunc(g.leading, func(pattern string) bool { return glob(pattern, c.partition) }) {
		return false
	}
	return slices.Contains(g.actions, c.action) && slices.ContainsFunc(g.resources, func(pattern string) bool {
		if strings.HasPrefix(pattern, "bucket/") { // a star in IAM also crosses slashes
			prefix, star := strings.CutSuffix(pattern, "*")
			return c.resource == pattern || star && strings.HasPrefix(c.resource, prefix)
		}
		ok, err := path.Match(pattern, c.resource)
		return err == nil && ok
	})
}

// checkPermissions holds what each program did against what its role allows:
// everything that it did is allowed, and everything that is allowed was done.
func checkPermissions(t *testing.T, s *system) {
	roles := make(map[string][]grant)
	for _, f := range functions(t, s.template) {
		roles[f.Name] = policies(t, s, s.template.Resources[f.Resource].Properties["Policies"], "")
		roles[f.Name] = append(roles[f.Name], keyGrants(t, s, f.Resource+"Role")...)
	}
	roles["sessionhost"] = append(policies(t, s, s.template.Resources["SandboxHostRole"].Properties["Policies"], "PolicyDocument"), keyGrants(t, s, "SandboxHostRole")...)
	for program, grants := range roles {
		did := s.recorder.of(program)
		if len(did) == 0 {
			t.Errorf("%s did nothing", program)
		}
		for _, c := range did {
			if !slices.ContainsFunc(grants, func(g grant) bool { return g.allows(c) }) {
				t.Errorf("%s does %s in %q, and may not", program, c, c.partition)
			}
		}
		for _, g := range grants {
			for _, action := range g.actions {
				for _, resource := range g.resources {
					one := grant{actions: []string{action}, resources: []string{resource}}
					_, excused := unused[program][call{action: action, resource: resource}.String()]
					used := slices.ContainsFunc(did, one.allows)
					if !used && !excused {
						t.Errorf("%s may do %s, and never does", program, call{action: action, resource: resource})
					}
				}
			}
		}
	}
}

// policies reads inline policies; document names the member that holds the
// document, empty if each policy is one.
func policies(t *testing.T, s *system, written any, document string) []grant {
	t.Helper()
	var grants []grant
	for _, p := range resolve(t, s.template, written, s.known).([]any) {
		policy := p.(map[string]any)
		if document != "" {
			policy = policy[document].(map[string]any)
		}
		for _, statement := range policy["Statement"].([]any) {
			st := statement.(map[string]any)
			if readsVariables(st) {
				continue
			}
			if st["Effect"] != "Allow" {
				t.Errorf("a statement that does not allow: %v", st)
			}
			g := grant{actions: texts(st["Action"]), leading: leading(t, st)}
			for _, arn := range texts(st["Resource"]) {
				g.resources = append(g.resources, resourceOf(t, arn))
			}
			grants = append(grants, g)
		}
	}
	return grants
}

// leading are the partitions, or the prefixes of keys, that a statement is for.
func leading(t *testing.T, statement map[string]any) []string {
	t.Helper()
	condition, ok := statement["Condition"]
	if !ok {
		return nil
	}
	of, _ := condition.(map[string]any)["ForAllValues:StringLike"].(map[string]any)
	keys, ok := of["dynamodb:LeadingKeys"]
	if !ok {
		of, _ = condition.(map[string]any)["StringLike"].(map[string]any)
		keys, ok = of["s3:prefix"]
	}
	if !ok {
		t.Errorf("a condition that is not known: %v", condition)
	}
	return texts(keys)
}

// readsVariables says whether a statement lets Lambda read the function's own
// variables, which no program does by a call.
func readsVariables(statement map[string]any) bool {
	return statement["Action"] == "kms:Decrypt" && statement["Resource"] == "arn:of:DataKey" &&
		fmt.Sprint(statement["Condition"]) == "map[StringEquals:map[kms:ViaService:lambda.eu-central-1.amazonaws.com]]"
}

func texts(v any) []string {
	if list, ok := v.([]any); ok {
		var all []string
		for _, e := range list {
			all = append(all, fmt.Sprint(e))
		}
		return all
	}
	return []string{fmt.Sprint(v)}
}

func resourceOf(t *testing.T, arn string) string {
	t.Helper()
	if key, ok := strings.CutPrefix(arn, "arn:of:MediaBucket"); ok {
		return "bucket/" + bucketName + key
	}
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[4] != "123456789012" {
		t.Fatalf("%q allows more than this account's own", arn)
	}
	switch parts[2] {
	case "dynamodb":
		return parts[5]
	case "sqs":
		return "queue/" + parts[5]
	}
	t.Fatalf("no resource known as %q", arn)
	return ""
}

// keyGrants are what an auth key's own policy allows a role. No other policy
// names those keys.
func keyGrants(t *testing.T, s *system, role string) []grant {
	t.Helper()
	var grants []grant
	for _, key := range append(slices.Collect(maps.Keys(authKeys)), webhookKey) {
		p := resolve(t, s.template, s.template.Resources[key].Properties["KeyPolicy"], s.known).(map[string]any)
		for _, statement := range p["Statement"].([]any) {
			st := statement.(map[string]any)
			if slices.Contains(keyUsers(st), fmt.Sprint(s.known[role+".Arn"])) {
				grants = append(grants, grant{actions: texts(st["Action"]), resources: []string{fmt.Sprint("key/", s.known[key+".Arn"])}})
			}
		}
	}
	return grants
}

// authKeys are the keys that seal auth state, and the one role of each.
var authKeys = map[string]string{"AuthKey": "LiveHostRole", "SandboxAuthKey": "SandboxHostRole"}

// webhookKey seals the secrets of webhook endpoints.
const webhookKey = "WebhookKey"

// keyUsers are the roles that a statement of a key's policy is for. Principal is
// everybody there, and the condition says who.
func keyUsers(statement map[string]any) []string {
	condition, _ := statement["Condition"].(map[string]any)
	arns, _ := condition["ArnEquals"].(map[string]any)
	if arns == nil {
		return nil
	}
	return texts(arns["aws:PrincipalArn"])
}

// usesKey are all actions by which a key's holder gets at what is under the key,
// or lets others.
var usesKey = []string{
	"kms:CreateGrant", "kms:Decrypt", "kms:DeriveSharedSecret", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyPair",
	"kms:GenerateDataKeyPairWithoutPlaintext", "kms:GenerateDataKeyWithoutPlaintext", "kms:GenerateMac", "kms:GenerateRandom",
	"kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:ReplicateKey", "kms:Sign", "kms:Verify", "kms:VerifyMac",
}

// TestAuthKeyAdministration holds that who manages the auth key can't use it:
// not by a verb, not by a wildcard that holds one, not by a grant.
func TestAuthKeyAdministration(t *testing.T) {
	t.Parallel()
	d := declared(t)
	for key, role := range authKeys {
		administration(t, resolve(t, d, d.Resources[key].Properties["KeyPolicy"], values(t, d, nil)).(map[string]any), role)
	}
}

func administration(t *testing.T, p map[string]any, role string) {
	t.Helper()
	manages, uses := 0, 0
	for _, statement := range p["Statement"].([]any) {
		st := statement.(map[string]any)
		if st["Principal"].(map[string]any)["AWS"] == "*" {
			uses++
			if got := keyUsers(st); !slices.Equal(got, []string{"arn:of:" + role}) {
				t.Errorf("%v may use the auth key of %s", got, role)
			}
			if account := st["Condition"].(map[string]any)["StringEquals"].(map[string]any)["kms:CallerAccount"]; account != "123456789012" {
				t.Errorf("%v may use the auth key from any account", st["Sid"])
			}
			continue
		}
		manages++
		for _, pattern := range texts(st["Action"]) {
			for _, verb := range usesKey {
				if ok, err := path.Match(pattern, verb); ok || err != nil {
					t.Errorf("%s in %v gives %s", pattern, st["Sid"], verb)
				}
			}
		}
	}
	if manages != 1 || uses != 1 {
		t.Errorf("%d statements for administrators and %d for hosts, want one each", manages, uses)
	}
}

// TestHostRoles holds that the hosts of both modes may do the same, each on the
// queues of its own mode.
func TestHostRoles(t *testing.T) {
	t.Parallel()
	d := declared(t)
	known := values(t, d, full)
	role := func(name string) string {
		return fmt.Sprint(resolve(t, d, d.Resources[name].Properties["Policies"], known))
	}
	live, sandbox := role("LiveHostRole"), role("SandboxHostRole")
	modes := strings.NewReplacer("-commands-test-", "-commands-live-", "#test", "#live", "test#", "live#", "/test/*", "/live/*", "whatisup-sandbox-devices", "whatisup-devices")
	if modes.Replace(sandbox) != live {
		t.Errorf("the roles differ in more than the mode:\n%s\n%s", live, sandbox)
	}
	// Whatever holds rows of both modes is narrowed to one of them.
	for _, name := range []string{"LiveHostRole", "SandboxHostRole"} {
		for _, g := range policies(t, &system{template: d, known: known}, d.Resources[name].Properties["Policies"], "PolicyDocument") {
			for _, r := range g.resources {
				whole := len(g.leading) == 0 && (strings.HasPrefix(r, "table/") || strings.HasPrefix(r, "bucket/"))
				if strings.Contains(r, "/live/") || strings.Contains(r, "/test/") {
					whole = false
				}
				if whole && r != "table/whatisup-devices" && r != "table/whatisup-sandbox-devices" && r != "table/whatisup-calls" {
					t.Errorf("%s reaches both modes in %s", name, r)
				}
			}
		}
	}
	mine := variablesOf(hostContainers(t, d, "LiveHostTask", known)[0])
	theirs := variablesOf(hostContainers(t, d, "SandboxHostTask", known)[0])
	for _, variable := range []string{"DEVICES_TABLE", "AUTH_KEY_ID"} {
		if a, b := mine[variable], theirs[variable]; a == b || a == nil || b == nil {
			t.Errorf("%s is %v for both modes", variable, a)
		}
	}
}

// TestAuthKey holds that data keys are only to be had with the names of whom
// they are for.
func TestAuthKey(t *testing.T) {
	t.Parallel()
	d := declared(t)
	p := resolve(t, d, d.Resources["AuthKey"].Properties["KeyPolicy"], values(t, d, nil)).(map[string]any)
	for _, statement := range p["Statement"].([]any) {
		st := statement.(map[string]any)
		if st["Sid"] != "SessionHosts" {
			continue
		}
		null := st["Condition"].(map[string]any)["Null"].(map[string]any)
		for _, name := range []string{"customer_id", "instance_id"} {
			if null["kms:EncryptionContext:"+name] != "false" {
				t.Errorf("the key works without %s", name)
			}
		}
		return
	}
	t.Error("nobody may use the auth key")
}

// TestStopTimeout holds that ECS waits longer than a drain lasts.
func TestStopTimeout(t *testing.T) {
	t.Parallel()
	d := declared(t)
	known := values(t, d, map[string]any{"HostImageUri": "image", "Sandbox": "true"})
	for _, task := range []string{"LiveHostTask", "SandboxHostTask"} {
		for _, c := range hostContainers(t, d, task, known) {
			checkStop(t, task, c)
		}
	}
}

// variablesOf are a container's variables, and the names of secrets that it gets as such.
func variablesOf(container map[string]any) map[string]any {
	found := make(map[string]any)
	secrets, _ := container["Secrets"].([]any)
	for _, e := range slices.Concat(container["Environment"].([]any), secrets) {
		v := e.(map[string]any)
		found[fmt.Sprint(v["Name"])] = cmp.Or(v["Value"], v["ValueFrom"])
	}
	return found
}

func hostContainers(t *testing.T, d *template.Template, task string, known template.Values) []map[string]any {
	t.Helper()
	var found []map[string]any
	for _, c := range resolve(t, d, d.Resources[task].Properties["ContainerDefinitions"], known).([]any) {
		if c := c.(map[string]any); c["Name"] == "sessionhost" {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d session hosts, want 1", task, len(found))
	}
	return found
}

func checkStop(t *testing.T, task string, c map[string]any) {
	t.Helper()
	// What can't be interrupted is waited for after the drain, not for long.
	const after = 30 * time.Second
	stop := time.Duration(c["StopTimeout"].(int)) * time.Second
	if drain := fleet.Default().Drain; stop < drain+after {
		t.Errorf("%s: killed after %v, a drain takes %v and up to %v more", task, stop, drain, after)
	}
	if stop > 120*time.Second {
		t.Errorf("%s: ECS takes no StopTimeout over 120 s", task)
	}
}
