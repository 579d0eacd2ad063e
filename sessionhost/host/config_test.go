package host

import (
	"encoding/hex"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow"

	"whatisup/local/whatsapp/whatsapptest"
	"whatisup/sessionhost/line"
)

func env(pairs map[string]string) func(string) string {
	base := map[string]string{
		"INSTANCES_TABLE": "i", "CALLS_TABLE": "p", "EVENTS_TABLE": "e", "FLEET_TABLE": "f", "DEVICES_TABLE": "d", "MESSAGES_TABLE": "m",
		"COMMAND_QUEUE_PREFIX": "http://localhost/q-", "AUTH_KEY_ID": "k", "WHATSAPP": "live",
	}
	for k, v := range pairs {
		base[k] = v
	}
	return func(name string) string { return base[name] }
}

func TestConfig(t *testing.T) {
	t.Parallel()
	c, err := FromEnv(env(nil))
	if err != nil {
		t.Fatal(err)
	}
	if c.ID == "" || c.Shards != 16 || c.ConnectsPerSecond != 20 || c.ResumePerSecond != 100 {
		t.Errorf("defaults are %+v", c)
	}
	for name, wrong := range map[string]map[string]string{
		"WHATSAPP must be":     {"WHATSAPP": "real"},
		"SHARD_COUNT":          {"SHARD_COUNT": "none"},
		"CONNECTS_PER_SECOND":  {"CONNECTS_PER_SECOND": "-1"},
		"AUTH_KEY_ID":          {"AUTH_KEY_ID": ""},
		"WHATSAPP_CA_FILE":     {"WHATSAPP": "sandbox", "WHATSAPP_CA_FILE": "/does/not/exist"},
		"WHATSAPP_NOISE_ROOT":  {"WHATSAPP": "sandbox", "WHATSAPP_ENDPOINT": "http://127.0.0.1:1"},
		"COMMAND_QUEUE_PREFIX": {"COMMAND_QUEUE_PREFIX": ""},
	} {
		if _, err := FromEnv(env(wrong)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v: %v", wrong, err)
		}
	}
	// All problems are told at once.
	_, err = FromEnv(env(map[string]string{"SHARD_COUNT": "x", "AUTH_KEY_ID": "", "WHATSAPP": ""}))
	for _, part := range []string{"SHARD_COUNT", "AUTH_KEY_ID", "WHATSAPP"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not tell of %s", err, part)
		}
	}
}

// A redirect takes the authentication of WhatsApp away: live mode refuses each
// part of one at start, and a process that trusts another root.
func TestLiveTrustsNobodyElse(t *testing.T) {
	t.Parallel()
	root := whatsapptest.Root(t)
	for _, redirect := range []map[string]string{
		{"WHATSAPP_ENDPOINT": "http://127.0.0.1:8090"},
		{"WHATSAPP_NOISE_ROOT": hex.EncodeToString(root[:])},
		{"WHATSAPP_CA_FILE": "config_test.go"},
	} {
		if _, err := FromEnv(env(redirect)); err == nil || !strings.Contains(err.Error(), "sandbox alone") {
			t.Errorf("%v: %v", redirect, err)
		}
	}
	if _, err := line.Sandbox(line.Redirect{Endpoint: "http://127.0.0.1:8090", Root: hex.EncodeToString(root[:])}); err != nil {
		t.Fatal(err)
	}
	if whatsmeow.WACertPubKey != root {
		t.Fatal("the sandbox does not trust its simulator")
	}
	if _, err := line.Live(); err == nil {
		t.Error("live mode runs in a process that trusts a simulator")
	}
	other := root
	other[0]++
	if _, err := line.Sandbox(line.Redirect{Endpoint: "http://127.0.0.1:8090", Root: hex.EncodeToString(other[:])}); err == nil {
		t.Error("a second root was accepted")
	}
}
