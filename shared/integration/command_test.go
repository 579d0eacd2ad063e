package integration

import (
	"testing"
	"time"
)

func FuzzCommand(f *testing.F) {
	f.Add([]byte(`{"command_id":"1","command":"create","customer_id":"01a2041a-cb31-75ab-a808-e5930c7b0de1","mode":"test","name":"x"}`))
	f.Add([]byte(`{"command_id":"1","command":"send","customer_id":"01a2041a-cb31-75ab-a808-e5930c7b0de1","mode":"test","instance_id":"x","to":"4915111111111","body":{"type":"text","text":"Hi"}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		cmd, err := parse(message, time.Now())
		if err == nil && (cmd.id == "" || cmd.name == "" || cmd.customer == "" || !cmd.mode.Valid()) {
			t.Fatalf("took %q as %+v", message, cmd)
		}
	})
}
