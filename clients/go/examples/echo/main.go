// Command echo answers whatever people write to an instance: KEY=… echo [API].
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"os/signal"

	whatisup "whatisup/clients/go"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c := whatisup.Client{URL: "http://localhost:8080", Key: os.Getenv("KEY")}
	if len(os.Args) > 1 {
		c.URL = os.Args[1]
	}
	for e, err := range c.Events(ctx, whatisup.Events{Names: []string{"message.received"}}) {
		if err != nil {
			log.Fatal(err)
		}
		var m struct{ Chat, Text string }
		if e.Name != "message.received" || json.Unmarshal(e.Data, &m) != nil || m.Text == "" {
			log.Print(e.Name)
			continue
		}
		// The event's id as key: whatever is repeated, the answer goes out once.
		answer := whatisup.SendMessage{To: m.Chat, Body: map[string]string{"type": "text", "text": "You said: " + m.Text}, IdempotencyKey: e.ID}
		if _, err := c.Send(ctx, *e.InstanceID, answer); err != nil {
			log.Print(err)
		}
	}
}
