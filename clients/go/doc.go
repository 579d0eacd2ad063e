// Package whatisup is a client of the WhatIsUp API over net/http, without
// dependencies. It has the calls that most programs need, and in them what a client
// generated from the OpenAPI document leaves out: calls are repeated where that is
// safe, POSTs under an Idempotency-Key; streams resume; files are uploaded and
// waited for; signatures of webhooks are checked. [Client.Do] makes every other call.
//
//	c := whatisup.Client{URL: "http://localhost:8080", Key: os.Getenv("KEY")}
//	i, err := c.CreateInstance(ctx, "support line", nil)
//	code, err := c.WaitQR(ctx, i.ID)   // show it, and let the phone scan it
//	_, err = c.WaitStatus(ctx, i.ID, "connected")
//	m, err := c.SendText(ctx, i.ID, "+55 11 98765-4321", "Hello!")
//	m, err = c.WaitMessage(ctx, i.ID, m.ID, "delivered")
package whatisup
