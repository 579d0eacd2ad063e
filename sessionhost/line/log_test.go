package line

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// The library formats stanzas, numbers and errors into its log lines; none of
// them gets into ours.
func TestLibraryLogKeepsNothingOfAnybody(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := libraryLog{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	const secret = "4915112345678"
	jid := types.NewJID(secret, types.DefaultUserServer)
	node := &waBinary.Node{Tag: "message", Attrs: waBinary.Attrs{"from": jid}}
	for _, l := range []interface {
		Errorf(string, ...any)
		Warnf(string, ...any)
		Infof(string, ...any)
		Debugf(string, ...any)
	}{log, log.Sub("Recv").(libraryLog)} {
		l.Errorf("Unknown stream error: %s", node)
		l.Warnf("Error decrypting message %s from %s: %v", "id", jid, errors.New("for "+secret))
		l.Infof("Successfully paired %s after %d tries in %v", &jid, 3, time.Second)
		l.Debugf("%s", node)
		l.Warnf("text %s", secret)
	}
	if strings.Contains(out.String(), secret) {
		t.Errorf("the log names somebody: %s", out.String())
	}
	if !strings.Contains(out.String(), "Unknown stream error") || !strings.Contains(out.String(), "3") {
		t.Errorf("the log says too little: %s", out.String())
	}
}
