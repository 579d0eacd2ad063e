package line

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
)

// WhatsApp's limit of pair codes is told from any other refusal.
func TestPairCodesRunOut(t *testing.T) {
	backoff := &waBinary.Node{Tag: "error", Attrs: waBinary.Attrs{"code": "429", "backoff": "3600"}}
	for _, c := range []struct {
		err  error
		want time.Duration
	}{
		{nil, 0},
		{whatsmeow.ErrIQBadRequest, 0},
		{errors.New("429"), 0},
		{whatsmeow.ErrIQRateOverLimit, pairCodePause},
		{fmt.Errorf("asking: %w", whatsmeow.ErrIQRateOverLimit), pairCodePause},
		{&whatsmeow.IQError{Code: 429, ErrorNode: backoff}, time.Hour},
	} {
		if got := refusedFor(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}
