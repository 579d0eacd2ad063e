package stack

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// whole is a running stack with what `make destroy` has to do with.
func whole(t *testing.T) *fake {
	f := running(nil)
	f.t, f.vanishes, f.copies = t, true, []string{"eu-west-1"}
	f.tables = map[string]bool{"acme-access": true, "acme-instances": true, "acme-calls": false}
	f.has = [][2]string{
		{"AWS::DynamoDB::Table", "acme-access"}, {"AWS::DynamoDB::Table", "acme-instances"}, {"AWS::DynamoDB::Table", "acme-calls"},
		{"AWS::SecretsManager::Secret", pepper}, {"AWS::KMS::Key", "data"}, {"AWS::KMS::Key", "auth"}, {"AWS::ECS::Cluster", "acme"},
	}
	return f
}

const (
	opened = "termination protected false; table acme-access protected false; table acme-instances protected false"
	closed = "table acme-access protected true; table acme-instances protected true; termination protected true"
	grace  = "copies removed [eu-west-1]; secret " + pepper + " in 30 days, at once <nil>; key auth in 30 days; key data in 30 days"
)

func TestDestroy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		with   func(*fake)
		force  bool
		answer string
		did    string
		fails  string // part of the error; empty: none
	}{
		"yes":             {nil, false, "acme\n", opened + "; delete " + stackID + "; " + grace, ""},
		"no":              {nil, false, "no\n", "", "nothing was changed"},
		"no answer":       {nil, false, "", "", "nothing was changed"},
		"linked":          {func(f *fake) { f.linked = 2 }, false, "acme\n", "", "unlink them first"},
		"linked, forced":  {func(f *fake) { f.linked = 2 }, true, "", opened + "; delete " + stackID + "; " + grace, ""},
		"nothing there":   {func(f *fake) { f.stack = "" }, true, "", "", "no such stack"},
		"can't be opened": {func(f *fake) { f.refuses = "UpdateTerminationProtection" }, true, "", "", "AccessDenied"},
		"can't be begun":  {func(f *fake) { f.refuses = "DeleteStack" }, true, "", opened + "; " + closed, "AccessDenied"},
		"can't be ended":  {func(f *fake) { f.vanishes = false }, true, "", opened + "; delete " + stackID, "Gateway: has mapped public addresses"},
		// What is left of a first deploy that failed: no table, no key.
		"a failed first deploy": {func(f *fake) {
			f.stack, f.tables, f.has = "ROLLBACK_FAILED", nil, [][2]string{{"AWS::EC2::VPC", "vpc"}}
		}, false, "acme\n", "termination protected false; delete " + stackID, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := whole(t)
			if c.with != nil {
				c.with(f)
			}
			var out strings.Builder
			err := Destroy(t.Context(), f.client(), Removal{
				Stack: "acme", Force: c.force, In: strings.NewReader(c.answer), Out: &out, Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Within: time.Minute,
			})
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("error %v, want %q", err, c.fails)
			}
			if got := f.did(); got != c.did {
				t.Errorf("did\n %s\nwant\n %s", got, c.did)
			}
			if said := "until 2026-01-31: aws secretsmanager restore-secret --secret-id " + pepper; strings.Contains(c.did, grace) && !strings.Contains(out.String(), said) {
				t.Errorf("it does not say how the pepper is brought back:\n%s", &out)
			}
		})
	}
}

func TestProtect(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		with map[string]string
		did  string
	}{
		"hosts":       {nil, "termination protected true"},
		"no hosts":    {map[string]string{"HostImageUri": ""}, ""},
		"not to be":   {map[string]string{"DeletionProtection": "false"}, ""},
		"hosts, none": {map[string]string{"HostCount": "0"}, "termination protected true"},
	} {
		f := running(c.with)
		f.t = t
		on, err := Protect(t.Context(), f.client(), "acme")
		if err != nil || f.did() != c.did || on != (c.did != "") {
			t.Errorf("%s: %v, %v, did %q; want %q", name, on, err, f.did(), c.did)
		}
	}
}

func TestUpgradeHosts(t *testing.T) {
	t.Parallel()
	const image = "repository@sha256:2"
	hosts := [][3]string{{"Modify", "LiveHostTask", "AWS::ECS::TaskDefinition"}, {"Modify", "LiveHosts", "AWS::ECS::Service"}}
	const made = "change set: previous template true, 8 previous values, HostImageUri=" + image
	for name, c := range map[string]struct {
		with  func(*fake)
		image string
		did   string
		fails string
	}{
		"hosts alone":  {nil, image, made + "; executed", ""},
		"no digest":    {nil, "repository:v2", "", "with its digest"},
		"the same":     {nil, "repository@sha256:1", "", "have this image already"},
		"no hosts yet": {func(f *fake) { f.parameters["HostImageUri"] = "" }, image, "", "make deploy"},
		"no stack":     {func(f *fake) { f.stack = "" }, image, "", "no such stack"},
		"more than that": {func(f *fake) {
			f.changes = append(f.changes, [3]string{"Modify", "QrFunction", "AWS::Lambda::Function"})
		}, image, made + "; change set deleted", "QrFunction"},
		"a host away":  {func(f *fake) { f.changes = [][3]string{{"Remove", "LiveHosts", "AWS::ECS::Service"}} }, image, made + "; change set deleted", "LiveHosts"},
		"not executed": {func(f *fake) { f.refuses = "ExecuteChangeSet" }, image, made, "AccessDenied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := running(nil)
			f.t, f.changes = t, hosts
			if c.with != nil {
				c.with(f)
			}
			var out strings.Builder
			err := UpgradeHosts(t.Context(), f.client(), Upgrade{Stack: "acme", Image: c.image, Out: &out, Now: time.Unix(1, 0), Within: time.Minute})
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("error %v, want %q", err, c.fails)
			}
			if got := f.did(); got != c.did {
				t.Errorf("did\n %s\nwant\n %s", got, c.did)
			}
			if c.fails == "" && !strings.Contains(out.String(), "make upgrade-hosts HOST_IMAGE=repository@sha256:1") {
				t.Errorf("it does not say the way back:\n%s", &out)
			}
		})
	}
	if _, err := (&fake{t: t}).client().describe(t.Context(), "acme"); !errors.Is(err, ErrNoStack) {
		t.Error(err)
	}
}
