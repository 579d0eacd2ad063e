package local

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"whatisup/shared/webhook"
	"whatisup/shared/whatisup"
)

// TestWakesOfACustomer has a customer ask for more wake-ups than there are workers, each of
// which takes for ever. It has a quarter of them, others get theirs at once, and what its
// turn doesn't come for is left to the sweep.
func TestWakesOfACustomer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hostile, honest := whatisup.NewCustomerID(), whatisup.NewCustomerID()
		of := func(c whatisup.CustomerID) webhook.Message {
			return webhook.Message{Body: fmt.Appendf(nil, `{"customer_id":%q,"endpoint_id":"x"}`, c)}
		}
		over := make(chan struct{})
		var begun, ended atomic.Int32
		w := newWakes(func(_ context.Context, m webhook.Message) error {
			if string(m.Body) == string(of(hostile).Body) {
				begun.Add(1)
				<-over
			}
			return nil
		}, 20, slog.New(slog.DiscardHandler))
		for range 300 {
			go func() {
				if err := w.work(context.Background(), of(hostile)); err != nil {
					t.Error(err)
				}
				ended.Add(1)
			}()
		}
		synctest.Wait()
		if begun.Load() != 5 || ended.Load() != 300-wakesEach {
			t.Errorf("%d under way, %d left to the sweep", begun.Load(), ended.Load())
		}
		for range 30 {
			if err := w.work(context.Background(), of(honest)); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(2 * wakesPatience)
		synctest.Wait()
		if begun.Load() != 5 || ended.Load() != 300-5 {
			t.Errorf("%d were begun, %d have ended", begun.Load(), ended.Load())
		}
		close(over)
		synctest.Wait()
		if len(w.held) != 0 || ended.Load() != 300 {
			t.Errorf("held %v, %d have ended", w.held, ended.Load())
		}
	})
}
