// Package seal is envelope encryption for values that stand in a database.
//
// # The envelope
//
// Every owner of secrets has a data key of 32 bytes. AWS KMS makes it and wraps
// it with the deployment's key; only the wrapped form is stored, beside what it
// protects. The clear form lives in memory as long as its [Key]. Wrapping binds
// the data key to its [Owner] (KMS calls that an encryption context): a wrapped
// key that was moved to another customer or instance is refused by KMS, and
// KMS's own log says for whom a key was opened.
//
// # A value
//
// [Key.Seal] is AES-256-GCM with a random nonce of 96 bits. The [Place] that
// the value belongs to (table, partition, kind and key) is authenticated with
// it and not stored: a value that was moved to another row, table or kind does
// not open. A data key may seal 2^32 values, which a link doesn't reach in
// centuries of use. A sealed value is 29 bytes longer than its plaintext: one
// for the format, 12 nonce, 16 tag.
//
// # Names
//
// Sort keys can't be sealed, because a row must be found by its key. [Key.Name]
// gives a stable pseudonym of a phone number or a group instead: without the
// data key it says nothing, and one number has another name under every key.
//
// # Erasing
//
// Whoever removes the last copy of the wrapped key has made every value under
// it unreadable, at once and however many there are.
package seal
