package integration

import "testing"

func FuzzCommand(f *testing.F) {
	f.Add([]byte(`{"command_id":"1","command":"create","customer_id":"01a2041a-cb31-75ab-a808-e5930c7b0de1","mode":"test","name":"x"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		cmd, err := parse(message)
		if err == nil && (cmd.id == "" || cmd.name == "" || cmd.customer == "" || !cmd.mode.Valid()) {
			t.Fatalf("took %q as %+v", message, cmd)
		}
	})
}
