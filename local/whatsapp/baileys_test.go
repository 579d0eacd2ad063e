package whatsapp_test

import (
	"context"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whatisup/local/whatsapp"
	"whatisup/local/whatsapp/whatsapptest"
)

// TestBaileys lets another client library judge the simulator: Baileys as its
// makers publish it, driven by testdata/baileys/judge.mjs. What the judge does
// and the simulator refuses is the simulator's mistake.
func TestBaileys(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("Baileys does not judge: there is no node here")
	}
	judge, err := filepath.Abs("testdata/baileys")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(judge, "node_modules", "baileys")); err != nil {
		t.Skip("Baileys does not judge: run npm install --prefix local/whatsapp/testdata/baileys --ignore-scripts")
	}
	dir := t.TempDir()
	sim := whatsapptest.Start(t, whatsapp.Config{DataDir: filepath.Join(dir, "simulator")})
	root := sim.Root()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, node, "judge.mjs")
	command.Dir = judge
	command.Env = append(os.Environ(), "SIMULATOR="+sim.Endpoint(), "ROOT="+hex.EncodeToString(root[:]), "STATE="+dir,
		"NODE_EXTRA_CA_CERTS="+filepath.Join(dir, "simulator", "ca.pem"))
	out, err := command.CombinedOutput()
	steps := strings.Count("\n"+string(out), "\nok ")
	t.Logf("%d steps went well", steps)
	if err != nil || steps != 11 {
		t.Errorf("Baileys says: %v\n%s", err, out)
	}
}
