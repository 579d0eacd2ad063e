package whatisup

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestSignatureVectors holds both signatures to the published vectors, which another
// program has made.
func TestSignatureVectors(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/webhook-signatures.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Secret    string `json:"secret"`
		EventID   string `json:"event_id"`
		Timestamp int64  `json:"timestamp"`
		Body      string `json:"body"`
		Own       string `json:"x-whatisup-signature"`
		Standard  string `json:"webhook-signature"`
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors) < 3 {
		t.Fatalf("%d vectors: %v", len(vectors), err)
	}
	for _, v := range vectors {
		if !ValidSigningSecret(v.Secret) {
			t.Errorf("%s is no secret", v.Secret)
		}
		one := []Secret{Secret(v.Secret)}
		if got := Sign(one, v.Timestamp, []byte(v.Body)); got != v.Own {
			t.Errorf("%s, want %s", got, v.Own)
		}
		if got := SignStandard(one, v.EventID, v.Timestamp, []byte(v.Body)); got != v.Standard {
			t.Errorf("%s, want %s", got, v.Standard)
		}
	}
	// Two secrets are two signatures, in one header each.
	both := []Secret{Secret(vectors[0].Secret), Secret(vectors[1].Secret)}
	if got := Sign(both, 1, nil); strings.Count(got, ",v1=") != 2 || !strings.HasPrefix(got, "t=1,v1=") {
		t.Errorf("two secrets: %s", got)
	}
	if got := SignStandard(both, "id", 1, nil); strings.Count(got, "v1,") != 2 || strings.Count(got, " ") != 1 {
		t.Errorf("two secrets: %s", got)
	}
}

func TestSigningSecrets(t *testing.T) {
	t.Parallel()
	if s := NewSigningSecret(); !ValidSigningSecret(string(s)) || s == NewSigningSecret() {
		t.Errorf("a new secret: %v", s)
	}
	for _, wrong := range []string{
		"", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFQ==",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYp=",
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nMfKQ9r8GKYo=", "whsec_" + strings.Repeat("A", 88),
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKY-=",
	} {
		if ValidSigningSecret(wrong) {
			t.Errorf("%q passed", wrong)
		}
	}
}

func TestEndpointTakes(t *testing.T) {
	t.Parallel()
	event := Event{Name: MessageReceived, Customer: "c", Mode: Test, Instance: "i", Data: json.RawMessage(`{"chat_type":"group"}`)}
	for _, c := range []struct {
		name string
		e    Endpoint
		want bool
	}{
		{"everything", Endpoint{Customer: "c", Mode: Test, Events: []string{"*"}}, true},
		{"its beginning", Endpoint{Customer: "c", Mode: Test, Events: []string{"message.*"}}, true},
		{"another beginning", Endpoint{Customer: "c", Mode: Test, Events: []string{"instance.*"}}, false},
		{"another customer", Endpoint{Customer: "d", Mode: Test, Events: []string{"*"}}, false},
		{"the other mode", Endpoint{Customer: "c", Mode: Live, Events: []string{"*"}}, false},
		{"its instance", Endpoint{Customer: "c", Mode: Test, Events: []string{"*"}, Instance: "i"}, true},
		{"another instance", Endpoint{Customer: "c", Mode: Test, Events: []string{"*"}, Instance: "j"}, false},
		{"its kind of chat", Endpoint{Customer: "c", Mode: Test, Events: []string{"*"}, ChatTypes: []ChatType{ChatGroup}}, true},
		{"another kind of chat", Endpoint{Customer: "c", Mode: Test, Events: []string{"*"}, ChatTypes: []ChatType{ChatDirect}}, false},
	} {
		if got := c.e.Takes(&event); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	without := event
	without.Data = json.RawMessage(`{}`)
	if e := (Endpoint{Customer: "c", Mode: Test, Events: []string{"*"}, ChatTypes: []ChatType{ChatDirect}}); !e.Takes(&without) {
		t.Error("an event without a kind of chat was filtered by it")
	}
}
