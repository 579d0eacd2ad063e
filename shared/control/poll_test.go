package control

import (
	"testing"
	"time"
)

// However long a code takes, it is answered soon after it is there, and not
// looked for too often before.
func TestLooks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code, look time.Duration
		most       int // looks
		late       time.Duration
	}{
		{40 * time.Millisecond, time.Millisecond, 5, 12 * time.Millisecond},
		{400 * time.Millisecond, 5 * time.Millisecond, 18, 75 * time.Millisecond},
		{400 * time.Millisecond, 40 * time.Millisecond, 3, 165 * time.Millisecond},
		{9 * time.Second, 5 * time.Millisecond, 60, 260 * time.Millisecond},
	} {
		waited, looks := time.Duration(0), 0
		for waited < c.code {
			waited += pollWait(waited, c.look) + c.look
			looks++
		}
		if late := waited - c.code; looks > c.most || late > c.late {
			t.Errorf("a code after %v: %d looks of %v, %v late", c.code, looks, c.look, late)
		}
	}
}
