package stack

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"whatisup/local/gateway/template"
)

// wish is a first deploy with nothing set, changed by with.
func wish(t *testing.T, with func(*Wish)) Wish {
	t.Helper()
	text, err := os.ReadFile("../../../template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := template.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	functions, err := parsed.Functions()
	if err != nil {
		t.Fatal(err)
	}
	checkout := fstest.MapFS{}
	for _, f := range functions {
		checkout[".build/"+f.Name+"/bootstrap"] = &fstest.MapFile{Data: []byte("program")}
	}
	w := Wish{Stack: "acme", Set: map[string]string{}, Template: parsed, Checkout: checkout}
	if with != nil {
		with(&w)
	}
	return w
}

// unbuilt is what is said of a checkout without binaries, function by function.
func unbuilt(t *testing.T) []string {
	t.Helper()
	functions, err := wish(t, nil).Template.Functions()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range functions {
		all = append(all, "The function "+f.Name+" is not built")
	}
	return all
}

func set(pairs ...string) func(*Wish) {
	return func(w *Wish) {
		for _, p := range pairs {
			name, value, _ := strings.Cut(p, "=")
			w.Set[name] = value
		}
	}
}

// running is a stack with hosts, with what differs.
func running(with map[string]string) *fake {
	f := &fake{
		stack: "UPDATE_COMPLETE", concurrency: [2]int{1000, 600}, vcpus: map[string]float64{"set": 20},
		parameters: map[string]string{
			"HostImageUri": "repository@sha256:1", "HostCount": "2", "HostCpu": "1024", "HostMemory": "2048",
			"StreamConcurrency": "100", "QrConcurrency": "300", "PepperVersion": "1", "PreviousPepperVersion": "0", "DeletionProtection": "true",
		},
		outputs: map[string]string{"PepperArn": pepper, "MediaBucket": "acme-media"}, peppers: `{"1":"b25lIG9mIHNpeHRlZW4="}`,
	}
	maps.Copy(f.parameters, with)
	return f
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	fresh := func() *fake { return &fake{concurrency: [2]int{10, 10}, vcpus: map[string]float64{"default": 6}} }
	for name, c := range map[string]struct {
		fake    *fake // nil: no region
		wish    func(*Wish)
		missing []string // parts of the sentences, in order
		notes   []string
	}{
		"a new account, nothing set": {fresh(), nil, nil, []string{"concurrency is 10"}},
		"a running stack":            {running(nil), nil, nil, nil},
		"upper case":                 {fresh(), func(w *Wish) { w.Stack = "WhatIsUp" }, []string{`can't be called "WhatIsUp"`}, nil},
		"a long name":                {fresh(), func(w *Wish) { w.Stack = strings.Repeat("a", 53) }, []string{"can't be called"}, nil},
		"no region, and a bad pair":  {nil, set("VpcId=vpc-1"), []string{"set AWS_REGION", "VpcId needs SubnetIds."}, nil},
		"bad credentials":            {&fake{refuses: "GetCallerIdentity"}, nil, []string{"does not accept the credentials: AccessDenied"}, nil},
		"nothing built": {fresh(), func(w *Wish) { w.Checkout = fstest.MapFS{".build/qr/bootstrap": &fstest.MapFile{}} },
			unbuilt(t), []string{"concurrency is 10"}},
		"unknown parameter":          {fresh(), set("HostCounts=3"), []string{"There is no parameter HostCounts."}, []string{"concurrency is 10"}},
		"impossible memory":          {running(nil), set("HostCpu=256", "HostMemory=4096"), []string{"HostCpu 256 goes with"}, nil},
		"memory that was set once":   {running(map[string]string{"HostMemory": "8192"}), set("HostCpu=512"), []string{"HostCpu 512 goes with"}, nil},
		"reserving on a new one":     {fresh(), set("StreamConcurrency=1"), []string{"reserve 1 of Lambda's concurrency, and 0 can be reserved (the account has 10"}, []string{"concurrency is 10"}},
		"reserving 200 of 200":       {&fake{concurrency: [2]int{200, 200}}, set("StreamConcurrency=101"), []string{"reserve 101 of Lambda's concurrency, and 100 can be"}, []string{"concurrency is 200"}},
		"reserving all that can be":  {&fake{concurrency: [2]int{200, 200}}, set("StreamConcurrency=100"), nil, []string{"concurrency is 200"}},
		"its own reservation stays":  {running(nil), set("StreamConcurrency=600"), nil, nil},
		"others reserve, too":        {func() *fake { f := running(nil); f.concurrency[1] = 200; return f }(), set("StreamConcurrency=300"), []string{"reserve 600 of Lambda's concurrency, and 500 can be"}, nil},
		"nothing reserved":           {running(map[string]string{"StreamConcurrency": "0", "QrConcurrency": "0"}), nil, nil, []string{"Nothing is reserved"}},
		"two hosts of six":           {fresh(), set("HostImageUri=i", "HostCount=2", "Sandbox=true"), nil, []string{"concurrency is 10"}},
		"five hosts of six":          {fresh(), set("HostImageUri=i", "HostCount=5"), []string{"session hosts of 7 vCPUs at one time, and the account may run 6"}, []string{"concurrency is 10"}},
		"one host of four cores":     {fresh(), set("HostImageUri=i", "HostCount=1", "HostCpu=4096", "HostMemory=8192", "Sandbox=true"), []string{"session hosts of 8.25 vCPUs"}, []string{"concurrency is 10"}},
		"five hosts, not started":    {fresh(), set("HostCount=5"), nil, []string{"concurrency is 10"}},
		"quota can't be asked":       {&fake{concurrency: [2]int{1000, 1000}}, set("HostImageUri=i", "StreamConcurrency=1"), nil, []string{"Fargate's quota could not be looked up: AccessDenied"}},
		"a failed first deploy":      {running(nil).status("ROLLBACK_FAILED"), nil, []string{"ROLLBACK_FAILED and can only be deleted: run `make destroy`"}, nil},
		"a failed rollback":          {running(nil).status("UPDATE_ROLLBACK_FAILED"), nil, []string{"UPDATE_ROLLBACK_FAILED: see"}, nil},
		"under way":                  {running(nil).status("UPDATE_IN_PROGRESS"), nil, []string{"wait until that has ended"}, nil},
		"only reviewed":              {running(nil).status("REVIEW_IN_PROGRESS"), nil, nil, []string{"Nothing is reserved"}},
		"tables of an earlier one":   {&fake{concurrency: [2]int{1000, 1000}, tables: map[string]bool{"acme-access": true}}, set("QrConcurrency=1"), []string{"There is a table acme-access already"}, nil},
		"a pepper that is not there": {running(nil), set("PepperVersion=2", "PreviousPepperVersion=1"), []string{"PepperVersion is 2, and the secret"}, nil},
		"a pepper that is no JSON":   {func() *fake { f := running(nil); f.peppers = "b25l"; return f }(), nil, []string{"can't be read: it is no JSON"}, nil},
		"a queue elsewhere": {running(nil), set("ExtraEventQueueUrls=https://sqs.us-east-1.amazonaws.com/123456789012/q", "ExtraEventQueueArns=arn:aws:sqs:us-east-1:123456789012:q"),
			[]string{"is not in eu-central-1 of account 123456789012"}, nil},
		"queues in another order": {running(nil), set("ExtraEventQueueUrls=https://sqs.eu-central-1.amazonaws.com/123456789012/a,https://sqs.eu-central-1.amazonaws.com/123456789012/b",
			"ExtraEventQueueArns=arn:aws:sqs:eu-central-1:123456789012:b,arn:aws:sqs:eu-central-1:123456789012:a"), []string{"in the same order"}, nil},
		"a queue with a key": {func() *fake { f := running(nil); f.queueKeys = map[string]string{"q": "arn:aws:kms:k"}; return f }(),
			set("ExtraEventQueueUrls=https://sqs.eu-central-1.amazonaws.com/123456789012/q", "ExtraEventQueueArns=arn:aws:sqs:eu-central-1:123456789012:q"),
			[]string{"is under the key arn:aws:kms:k, which must stand in ExtraEventQueueKeyArns"}, nil},
		"a queue with a key that is named": {func() *fake { f := running(nil); f.queueKeys = map[string]string{"q": "arn:aws:kms:k"}; return f }(),
			set("ExtraEventQueueUrls=https://sqs.eu-central-1.amazonaws.com/123456789012/q", "ExtraEventQueueArns=arn:aws:sqs:eu-central-1:123456789012:q", "ExtraEventQueueKeyArns=arn:aws:kms:k"), nil, nil},
		"certificates elsewhere": {running(nil), set("DomainName=a", "CertificateArn=arn:aws:acm:us-east-1:1:c", "StreamDomainName=b", "StreamCertificateArn=arn:aws:acm:eu-central-1:1:c"),
			[]string{"CertificateArn must be a certificate in eu-central-1", "StreamCertificateArn must be a certificate in us-east-1"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var client *Client
			if c.fake != nil {
				c.fake.t = t
				client = c.fake.client()
			}
			var missing, notes []string
			for _, f := range Preflight(t.Context(), client, wish(t, c.wish)) {
				if f.Fatal {
					missing = append(missing, f.Text)
				} else {
					notes = append(notes, f.Text)
				}
				if !strings.HasSuffix(f.Text, ".") {
					t.Errorf("no sentence: %q", f.Text)
				}
			}
			matches := func(got, want string) bool { return strings.Contains(got, want) }
			if !slices.EqualFunc(missing, c.missing, matches) {
				t.Errorf("missing:\n %s\nwant\n %s", strings.Join(missing, "\n "), strings.Join(c.missing, "\n "))
			}
			if !slices.EqualFunc(notes, c.notes, matches) {
				t.Errorf("notes:\n %s\nwant\n %s", strings.Join(notes, "\n "), strings.Join(c.notes, "\n "))
			}
			if c.fake != nil && c.fake.did() != "" {
				t.Errorf("it changed something: %s", c.fake.did())
			}
		})
	}
}

func (f *fake) status(s string) *fake { f.stack = s; return f }
