package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// listening measures messages from a phone to somebody who listens to the stream.
func (b *bench) listening(ctx context.Context) error {
	if err := b.fill(ctx, 1); err != nil {
		return err
	}
	f := newFlight(b.phones, b.linked[:1])
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	opened, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- b.listen(ctx, opened, f.arrived) }()
	select {
	case <-opened:
	case err := <-ended:
		return fmt.Errorf("the stream: %w", err)
	}
	if _, _, err := f.send(ctx, time.Minute, 4, 0); err != nil {
		return err
	}
	_, late, err := f.send(ctx, time.Minute, b.size.Listened, 20)
	if err != nil {
		return err
	}
	b.report.spread("Stream: a phone's message to who listens", late, nil, []option{goal(40)}, nil)
	stop()
	<-ended
	return nil
}

// listen reads the stream until ctx ends.
func (b *bench) listen(ctx context.Context, opened chan<- struct{}, got func(id string)) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.stack.API+"/v1/events", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+b.customer.key)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP %d", answer.StatusCode)
	}
	close(opened)
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		text, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		var e struct {
			Event string `json:"event"`
			Data  struct {
				MessageID string `json:"message_id"`
			} `json:"data"`
		}
		if json.Unmarshal([]byte(text), &e) == nil && e.Event == "message.received" {
			got(e.Data.MessageID)
		}
	}
	return ctx.Err()
}
