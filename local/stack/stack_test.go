package stack

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

func TestLocal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Local(dir); err == nil || !strings.Contains(err.Error(), "make run") {
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
	lambda := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/2015-03-31/functions/acme-keys/configuration" || !strings.Contains(r.Header.Get("Authorization"), "/eu-central-1/lambda/") {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"Environment": map[string]any{"Variables": map[string]string{"PEPPER": "1:abc"}}})
	}))
	defer lambda.Close()
	cfg := aws.Config{Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider("id", "secret", "")}
	env, err := Deployed(t.Context(), cfg, "acme", lambda.URL)
	if err != nil {
		t.Fatal(err)
	}
	if env["PEPPER"] != "1:abc" || env["ACCESS_TABLE"] != "acme-access" || env["DEVICES_TABLE"] != "acme-devices" {
		t.Errorf("got %v", env)
	}
	if _, err := Deployed(t.Context(), cfg, "other", lambda.URL); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("another stack: %v", err)
	}
}
