package interfacetest

import (
	"bytes"
	"context"
	"encoding/hex"
	"image"
	"image/jpeg"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"whatisup/local"
	"whatisup/local/localtest"
	"whatisup/shared/mediafile"
	"whatisup/shared/mediafile/mediafiletest"
	"whatisup/shared/whatisup"
)

// Baileys, as its makers publish it, is linked to the phone at the other end: a picture, a
// document and a voice note go there and come from there, byte for byte.
func TestFilesWithBaileys(t *testing.T) {
	t.Parallel()
	judge := filepath.Join(localtest.Root(t), "local", "whatsapp", "testdata", "baileys")
	if _, err := os.Stat(filepath.Join(judge, "node_modules", "baileys")); err != nil {
		run(t, judge, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
	}
	dir := t.TempDir()
	s := localtest.Start(t, func(c *local.Config) { c.DataDir = dir })
	key := string(s.Keys[whatisup.Test])
	c := localtest.NewClient(t, s.API, key)
	paired := c.Pair("files")
	var i struct {
		CustomerID  string `json:"customer_id"`
		PhoneNumber string `json:"phone_number"`
	}
	c.Must(200, "GET", "/v1/instances/"+paired.ID, "", &i)

	state := t.TempDir()
	note, _ := mediafiletest.Note(120)
	played, err := io.ReadAll(mediafile.NewVoice(bytes.NewReader(note)))
	if err != nil {
		t.Fatal(err)
	}
	var picture bytes.Buffer
	if err := jpeg.Encode(&picture, image.NewRGBA(image.Rect(0, 0, 300, 200)), nil); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{"note.ogg": note, "played.ogg": played, "picture.jpg": picture.Bytes()} {
		if err := os.WriteFile(filepath.Join(state, name), file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	root := s.Simulator.Root()
	peer := exec.CommandContext(ctx, "node", "peer.mjs")
	peer.Dir = judge
	peer.Env = append(os.Environ(), "SIMULATOR="+s.Env["WHATSAPP_ENDPOINT"], "ROOT="+hex.EncodeToString(root[:]), "STATE="+state, "WORLD="+i.CustomerID,
		"API="+s.API, "KEY="+key, "INSTANCE="+paired.ID, "NUMBER="+i.PhoneNumber, "OWN=4915112345678",
		"NODE_EXTRA_CA_CERTS="+filepath.Join(dir, "whatsapp", "ca.pem"))
	out, err := peer.CombinedOutput()
	if steps := strings.Count("\n"+string(out), "\nok "); err != nil || steps != 7 {
		t.Errorf("Baileys says: %v\n%s", err, out)
	}
}
