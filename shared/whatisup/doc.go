// Package whatisup is the product's vocabulary: what an instance, a link, a
// session, a customer and an event are, which states an instance can be in and
// what may follow what. Everything else in the repository is an adapter named
// by its technology; this package knows none of them.
//
// # The words
//
// A customer is the tenant: it is the first argument of everything that touches
// its data. An instance is one WhatsApp connection of a customer: one phone
// number, one linked device. The link is the pairing that survives restarts; an
// instance has one from the scan until logout, delete, or WhatsApp's own end to
// it. A session is the live connection behind an instance, and exists only
// inside a session host. A host owns shards; a shard is a fixed part of all
// instances of one mode.
//
// # Three writers, three parts
//
// An instance is kept in parts, so that nobody's write can undo another's:
//
//   - [Config] is what the customer chose: name and metadata.
//   - [Wanted] is what the API wants of the session host: be online or stopped,
//     which attempt is the newest, which links are given up. Only the API
//     writes it.
//   - [Observed] is what the owning session host found and did. Only the host
//     that owns the instance's shard writes it, and each of its writes names
//     the epoch of its ownership.
//
// What a customer is shown is computed from the three and from the health of
// the owner by one function, [View]. Nothing else decides what is shown.
//
// # Generations and links
//
// Each QR fetch, connect or pair code that starts something new raises the
// instance's generation by one. An attempt to pair serves one generation, and
// a link carries the number of the generation whose attempt made it. Giving up
// a link is therefore a comparison: logout sets UnlinkThrough to the generation
// of that moment, which covers the present link, an attempt that is still
// running, and a scan that completes too late; the attempt of a QR fetch made
// afterwards has a higher number and is left alone. Delete sets it to
// [Everything].
//
// An unlinked instance is paired only while DoneGeneration < Generation: an
// attempt whose codes ran out is not begun again by mere reconciling, and a
// fetch made at that very moment is not lost.
package whatisup
