package stack

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLocal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Local(dir); err == nil || !strings.Contains(err.Error(), "whatisup run") {
		t.Errorf("without a stack: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "env.json"), []byte(`{"PEPPER":"1:x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if env, err := Local(dir); err != nil || env["PEPPER"] != "1:x" {
		t.Errorf("got %v, %v", env, err)
	}
}

func TestDeployed(t *testing.T) {
	t.Parallel()
	f := running(map[string]string{"PepperVersion": "3", "PreviousPepperVersion": "2"})
	f.t, f.peppers = t, `{"1":"one","2":"two","3":"three"}`
	env, err := Deployed(t.Context(), f.client(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	if env["PEPPER"] != "2:two,3:three" || env["ACCESS_TABLE"] != "acme-access" || env["DEVICES_TABLE"] != "acme-devices" || env["MEDIA_BUCKET"] != "acme-media" ||
		env["WEBHOOKS_TABLE"] != "acme-webhooks" || env["MESSAGES_TABLE"] != "acme-messages" || env["MEDIA_TABLE"] != "acme-media" {
		t.Errorf("got %v", env)
	}
	if env["SANDBOX_DEVICES_TABLE"] != "" {
		t.Errorf("a sandbox's table without a sandbox: %v", env)
	}
	f.parameters["Sandbox"] = "true"
	if env, err = Deployed(t.Context(), f.client(), "acme"); err != nil || env["SANDBOX_DEVICES_TABLE"] != "acme-sandbox-devices" {
		t.Errorf("the sandbox's table: %v, %v", env, err)
	}
	f.peppers = `{"2":"two"}`
	if _, err := Deployed(t.Context(), f.client(), "acme"); err == nil || !strings.Contains(err.Error(), "no entry 3") {
		t.Errorf("a pepper that is not there: %v", err)
	}
	if _, err := Deployed(t.Context(), (&fake{t: t}).client(), "acme"); !errors.Is(err, ErrNoStack) {
		t.Errorf("no stack: %v", err)
	}
}

func TestInside(t *testing.T) {
	t.Parallel()
	f := running(map[string]string{"PepperVersion": "1"})
	f.t, f.peppers = t, `{"1":"one"}`
	f.has = [][2]string{{"AWS::KMS::Key", "key-of-links"}, {"AWS::KMS::Key", "key-of-secrets"}}
	f.named = map[string]string{"key-of-links": "AuthKey", "key-of-secrets": "WebhookKey"}
	env, err := Inside(t.Context(), f.client(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	if env["AUTH_KEY_ID"] != "key-of-links" || env["WEBHOOK_KEY_ID"] != "key-of-secrets" || env["MEDIA_BUCKET"] != "acme-media" || env["ACCESS_TABLE"] != "acme-access" {
		t.Errorf("got %v", env)
	}
	if _, ok := env["SANDBOX_AUTH_KEY_ID"]; ok {
		t.Errorf("a key of no sandbox: %v", env)
	}
}
