// Package dynamo keeps the product's rows in DynamoDB. It is the only place
// that knows tables, keys and conditions.
//
// # Tables
//
// There are eight, apart by lifetime, writer and secrecy, so that a role can be
// given whole tables. Every table has the string keys pk and sk, but for
// calls, which has pk alone. C is a customer id, M a mode, I an instance id,
// S a shard in four digits.
//
//	table      row                pk           sk            written by
//	access     customer           customer#C   customer      operator
//	           customer's index   customers    C             operator
//	           key                key#K        key           API, operator
//	           key in a list      customer#C   key#M#K       API, operator
//	           instance count     customer#C   count#M       API
//	           slots of a kind    customer#C   kind#M        API
//	           slots of one key   customer#C   kind#M#K      API
//	           token bucket       bucket#C#M   bucket        API
//	           bucket of one key  bucket#C#M   key#K         API
//	instances  config and wanted  C#M          I             API
//	           large metadata     C#M          I#metadata    API
//	           observed           C#M          I#host        host (made by the API)
//	           tombstone          C#M#deleted  I             API, then host
//	calls      code               pairing#I                  host        TTL
//	           result             result#<id>                host        TTL
//	           idempotency        idem#<hash>                API         TTL
//	events     event, void        C#M          position      API, host   TTL
//	fleet      lease              M#lease      S             host
//	           epoch              M#epoch      S             host
//	           host               M#host       host id       host        TTL
//	           client version     M#client     version       host
//	devices    device             I            device        host
//	           auth state         I#link       kind#key      host (package devicestore)
//	messages   own message        M#C#I        m#<id>        API, host   TTL
//	           received message   M#C#I        r#<hash>      host        TTL
//	           recipients' times  M#C#I        p#<id>        host        TTL
//	           group members      M#C#I        q#<hash>      host        TTL
//	           untold steps       M#C#I        u#            host
//	           chat               M#C#I        c#<hash>      host: read through, timer; API: the rest  TTL
//	           name of a group    M#C#I        n#<hash>      host        TTL
//	           chats counted      M#C#I        s#chats       API, host   TTL
//	           subscriptions      M#C#I        s#presence    host        TTL
//	webhooks   endpoint           C#M          endpoint#E    API, deliver
//	           count of them      C#M          count         API
//	           customer on hold   C#M          customer      operator
//	           delivery           C#M#deliveries  id         API, fanout, deliver  TTL
//	           delivery owed      owed#E       due#order#id  fanout, deliver       TTL
//	           replay             C#M#replays  id            API, fanout           TTL
//
// The rows of one instance are neighbours in its customer's partition: one
// backward Query lists a customer's instances newest first with all their
// parts, and one Query for a prefix reads one instance whole. An item is billed
// by its size, so what the host writes is an item without name and metadata,
// and metadata over 1 KB is an item that a status change doesn't touch.
//
// # The index
//
// instances has one index, by_shard: partition shard_key ("M#S"), sort sk, with
// what a host needs to see whether there is work (wanted, generation,
// unlink_through, link, epoch, observed_generation, done_generation, unsent_at,
// host_unsent_at, host_owed_at, deleted_at). Config, observed and tombstone rows stand in it. It is eventually
// consistent: a hit is a hint, and the base row is read consistently before
// anything is done. A tombstone leaves the index, by losing its shard_key, when
// everything is unlinked and wiped.
//
// # Messages
//
// The row of a message is the queue, the ledger and the receipt. A received
// message's key is a hash of chat, sender and id, so that no id which a stranger
// chooses meets one of ours. The table has three indexes:
//
//	line     local, sparse    messages that wait, by the moment they became due, whole
//	listed   local            all messages by direction and time, and all chats by
//	                          their last message, keys only
//	waiting  global, sparse   shard_key, pk: which instances have messages that wait
//
// A message leaves line and waiting when it is sent or has ended. Its status
// only rises: every update names the rank that it must be below. Local indexes
// bound one instance's messages to 10 GB, which 30 days of 300,000 messages a day
// don't reach.
//
// # Conditions
//
// A write to a row that exists requires that it exists: for the API
// attribute_exists(pk), for a host attribute_exists(pk) AND epoch = :mine. (The
// tempting "attribute_not_exists(epoch) OR epoch <= :mine" is true of a row that
// was deleted meanwhile, and would bring it back.) Delete moves config and
// observed to the tombstone in one transaction, conditional on the observed row
// it copied, so nothing is lost and lists never read dead rows. The event of it goes
// into the tombstone where a host may have more to tell, and into the log last.
//
// Adoption is how an owner makes its epoch count for an instance: one
// transaction checks the shard's epoch row and sets the epoch on the observed
// row (or the tombstone) and on the device row. Afterwards every write of an
// earlier owner fails, on those two rows and on every row whose write checks
// them.
//
// # Events
//
// A change and its event are one transaction: the event's row goes to the log,
// and the row that changed gets a mark: from this position of the log on, the
// queues may lack something. The mark goes when each queue has taken the event, or
// owes it (see [DB.Owe]). Rows hold marks and never events, so they don't grow.
// What a dead writer left unsent, the next owner of the shard sends from the log.
//
// The event of a received message belongs to no row of this package. It is kept
// by package devicestore, which writes what [DB.EventRows] makes: the event, at
// first at the position that is its id, and a void where it must not turn up any
// more. A void is a row without an event, and readers pass over it.
//
// # Conflicts
//
// DynamoDB refuses one of two transactions that meet on an item, and the SDK
// does not try again. [DB.transact] does, with jitter, a few times: a conflict
// says nothing about the conditions. A transaction whose answer was lost is
// sent again with the same ClientRequestToken, so it happens once.
package dynamo
