// Command bench measures the whole system and holds it to its numbers: `make
// bench`, which prints a table and writes bench.json. It takes about twenty
// minutes and wants a machine of its own; BENCH=short walks through every step in
// seconds, for its structure and not for times; BENCH=tenth is in between.
// BENCH_STEPS names steps, with commas between them, and leaves the others out.
//
// BENCH_AGAINST=<commit> builds the benchmark of that commit of the same clone, runs
// both in turn for BENCH_ROUNDS rounds (five by default), and prints the medians
// side by side: `make bench BENCH=tenth BENCH_STEPS=link,inbound BENCH_AGAINST=HEAD~20`.
//
// # What runs
//
// The measuring process starts everything else, each in a process of its own, and
// speaks to it over loopback as the world would:
//
//	stack        the local stack without a session host: the API behind its
//	             gateway, the embedded AWS, the simulated WhatsApp
//	sessionhost  the program that ships, with its parent; several at times
//	floor        bare clients of the same library with a store in memory, against
//	             the same simulator: what nothing built on it can be better than
//
// Stack and floor are this program again, in another role. They answer over
// their standard input and output, and end with it; session hosts are killed at
// the end of a run, whatever happens.
//
// # What is counted
//
// Functions and session hosts reach the embedded AWS through a meter each. It
// can be switched on, and then asks DynamoDB for the capacity that each request
// takes, and remembers when the requests came that a QR code's way can be
// followed by. What things cost is counted when nothing else happens; leases,
// idle polls and looks at a shard's index are upkeep and belong to the idle hour.
// Prices are in prices.json, with their date.
//
// # A QR call
//
// The requests of one that begins an attempt, on one machine:
//
//	API    UpdateItem access (token), Query instances, UpdateItem access (its place
//	       among the open attempts), UpdateItem instances (the wish), SendMessage;
//	       about three GetItem calls; Query instances (it still stands)
//	queue  ReceiveMessage, DeleteMessageBatch
//	host   TransactWriteItems (adoption), Query instances, GenerateDataKey;
//	       TransactWriteItems (starting); UpdateItem calls; TransactWriteItems
//	       (the code), SendMessageBatch (both events), UpdateItem instances (sent)
//
// Each takes about half a millisecond of a processor on both sides together. That
// is why many at once are bound by the processors: the row "processor time a call"
// tells by how much.
//
// # Webhooks
//
// The receiver of webhooks is in the measuring process, and answers at once. How long a
// message takes to its request is measured from the simulated phone on. How many
// deliveries there are a second is measured with events that are given to the queue
// before the fan-out: what a host does for an event is in other rows.
//
// # Rows
//
// A row has a goal if the design sets one, and a floor if the bare library was
// measured doing the same in the same run. A goal that was missed is shown as
// missed. Processes share the machine's processors with what stands in for AWS
// and WhatsApp, so throughput is what all of it together can do; processor times
// a message tell the host's own part.
package main
