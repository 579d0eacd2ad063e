// Package webhook brings events to the endpoints of customers.
//
// # The way of an event
//
//	log and courier → queue fanout-events → FanOut → queue deliver-attempts → Deliver → row
//	                  16 groups a customer            80 groups a customer
//
// Whoever writes events puts into fanout-events those that some endpoint of the
// customer takes (package takers), in the log's order. [Path.FanOut] makes a delivery for
// each endpoint that takes the event. It is given up to ten events at a time and works on
// them together: what goes into the queue goes in batches, which hold one message of a
// group at most, as the queue may refuse any part of a batch. An endpoint has as many
// groups as it may have requests under way, and an instance belongs to one of them: so
// first attempts keep the order of each instance, and an endpoint that hangs occupies its
// own groups alone.
//
// The groups are those of the customer's places ([whatisup.Endpoint.TakePlaces]), which
// its endpoints share out: so a customer whose endpoints all hang leaves most of the
// workers to others.
//
// A delivery's id follows from endpoint, event and replay. Whatever runs twice finds
// the row of the first time, or its deduplication id in the queue.
//
// # Direct, and from rows
//
// An endpoint that keeps up is served directly: the message in the queue carries the
// envelope, and the row is written once, with the outcome. About
// [whatisup.MaxInQueue] deliveries of an endpoint are in the queue at most, because SQS
// finds free groups among the first 120,000 messages only. They are counted by marks. Of
// deliveries that go directly one in eight has a mark, by the chance of its id, and it
// counts for eight; each that is sent from its row has one of its own. A mark is a row
// that is named after delivery and turn, so what is done twice counts once; one that a
// death has left is found out by the delivery's row when the endpoint has many. Above that
// the endpoint is *behind*. What comes then is a row, and an entry in the endpoint's list
// of what is owed; [Path.Pump] gives the list to the queue, in order and up to a hundred
// at a time, as the queue empties. A retry, and everything of a degraded endpoint, is owed in the
// same list, from the moment at which it is due.
//
// Row, entry and the endpoint's next moment are one transaction, for up to forty
// deliveries. Whoever makes that moment an earlier one sends a wake-up for it, and nobody
// else: so a failing endpoint has one, and not one a delivery. The next pump sets the
// moment after it.
//
// An endpoint ceases to be behind by a write that fails if anything was owed since the
// list was seen empty (Version). So nothing overtakes what is in the list.
//
// An endpoint whose answers take over [whatisup.SlowAfter] on average is behind, too, and
// has one delivery in the queue at a time.
//
// Each time a delivery is given to the queue anew its turn rises. A message whose turn
// is lower than its row's is a late copy, and is dropped.
//
// # What a death leaves
//
// FanOut and Deliver acknowledge a message after everything that follows from it is
// stored; a message that comes again does the same again. A wake-up that a death has
// kept from being sent, or that got lost, costs a minute: [Path.Sweep] pumps the
// endpoints whose moment has come. Messages that were received too often go to
// dead-letter queues, and [Path.Dead] writes their rows as failed.
//
// A request may be made twice: when the process dies after the answer and before the
// row. The receiver tells by the event's id.
//
// # Failing endpoints
//
// After 5 deliveries in a row failed on their first try the endpoint is degraded: Pump
// gives one delivery at a time to the queue, 30 s to 5 min apart, and what is in the
// queue already goes back into the list without using an attempt. The first success
// ends it. After 5 days without one, or on a 410, the endpoint is disabled, and what
// it is owed is held. The event of it is written in one transaction with the change, and
// stays with the endpoint until the queues have it.
package webhook
