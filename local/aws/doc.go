// Package aws is DynamoDB, SQS, KMS and S3 on loopback: one process, one port,
// one file, and one folder for the bytes of objects. A newcomer's data lives in it and every test stands on
// it, so where it answers, it answers as AWS does, and where it cannot, it says
// so and counts it.
//
// # What is served
//
// A closed list, each operation whole:
//
//	DynamoDB  CreateTable (with secondary indexes of both kinds) DescribeTable
//	          ListTables DeleteTable UpdateTimeToLive DescribeTimeToLive
//	          GetItem PutItem UpdateItem DeleteItem Query Scan BatchGetItem
//	          BatchWriteItem TransactGetItems TransactWriteItems
//	          BatchExecuteStatement, of INSERTs whose values are parameters
//	SQS       CreateQueue DeleteQueue GetQueueUrl GetQueueAttributes
//	          SetQueueAttributes ListQueues PurgeQueue SendMessage(Batch)
//	          ReceiveMessage DeleteMessage(Batch) ChangeMessageVisibility(Batch),
//	          in JSON and in the older query protocol
//	KMS       CreateKey CreateAlias DescribeKey EnableKey DisableKey
//	          GenerateDataKey GenerateDataKeyWithoutPlaintext Encrypt Decrypt
//	          ReEncrypt
//	S3        CreateBucket DeleteBucket HeadBucket ListBuckets GetBucketLocation
//	          Put- and GetBucketLifecycleConfiguration (days, by prefix)
//	          PutObject GetObject HeadObject CopyObject DeleteObject(s)
//	          ListObjectsV2 CreateMultipartUpload UploadPart ListParts
//	          CompleteMultipartUpload AbortMultipartUpload ListMultipartUploads,
//	          upload forms (POST), presigned URLs; path-style addresses
//
// Anything else (another operation, or a member that AWS knows in one of these:
// DynamoDB's parameters from before expressions, streams, keys of several
// attributes, SQS's receive attempt ids, KMS grants, S3's versions, access lists,
// policies, tags and signed chunks) is refused in the service's own error form
// with a text that names it, logged, and counted: Unknown lists it, and a test of
// the whole system ends by finding that list empty.
//
// Without a secret key in the Config any credentials do: a signature must be
// there, as AWS wants it, but is not checked, and what does not come over
// loopback is refused. With one, every request's signature is verified, with 15
// minutes between the clocks at most. The region it was made for goes into ARNs;
// the account is always 000000000000. A request with an Origin header is
// refused: no SDK sends one, every browser does. Control calls are served over
// loopback only, under an address or localhost.
//
// A body has to come within 30 seconds, takes room only as it comes, and all
// bodies in hand together are bounded (Config.MaxBodies): what finds no room is
// answered with 503, which SDKs try again. S3's bodies are streams: they are not
// bounded in time, only in how long they may stand still.
//
// S3 alone verifies signatures in any case, because what it signs is lent to
// others: without a secret key in the Config, its key is "local" with the secret
// "local". Lent is a handler that serves what was lent of one bucket, presigned
// reads and upload forms, and nothing else: it can stand where the world can
// reach it.
//
// # What survives
//
// What was answered is on disk: every write, and that includes a message handed
// out and a token remembered, returns after its commit was synced. Commits are
// shared by those who wait at the same time (see internal/store), which is
// where the speed comes from. A kill at any moment loses nothing that was
// answered; what was not answered may be there or not, but whole: an item with
// its index entries and its place in the expiry list, a transaction with all
// its parts, a batch of messages. The file has one owner: a second process is
// refused (ErrInUse).
//
// In memory only are the definitions of tables and queues (also in the file),
// who waits in a long poll, the faults in force, what Step added to the clock,
// and the list of unknown requests.
//
// # Time
//
// The services' time is the Config's clock plus what Step has added. Nothing
// happens by time alone but in Run, which looks for expired items, messages and
// tokens every so often. An item expires ExpiryDelay after its time at the
// earliest and is readable until then, as with AWS, where it may take days.
// A table is ACTIVE as soon as CreateTable has answered CREATING.
//
// # Faults
//
// Inject, or POST /control/faults, makes requests fail: throttled, in conflict
// with another transaction, partly unprocessed, with a 500 before or after the
// fact, slowly; as if the table or queue were missing, full or forbidden; and SQS
// deliver twice or late. Each fault may be narrowed to a service, an operation
// and a table or queue, and to a number of times. Requests tells how often each
// operation was asked for. A batch of INSERTs meets the faults of PutItem. Faults
// that nobody asked for do not happen, which is itself a difference from AWS.
//
// # How true it is
//
// DynamoDB is compared with dynalite 4.0.0 (conformance_test.go): random
// requests, good and bad, go to both, and status, error type, message and body
// must be the same. Compared are PutItem, GetItem, UpdateItem, DeleteItem,
// Query, Scan, BatchGetItem and BatchWriteItem on tables with keys of every
// type and on indexes of every projection; every function and operator of
// conditions, filters, key conditions, projections and updates; ReturnValues;
// paging by Limit in both directions; number formats; consumed capacity of
// tables without indexes; the refusal of wrong types, missing members, broken
// constraints, unused and undefined names and values; and CreateTable's,
// DescribeTable's, DeleteTable's and ListTables' refusals. Where the two differ
// on purpose, the test holds the reason (divergences): two missing attributes
// are never equal; an update that only takes away makes no item; sums beyond 38
// digits fail; list_append does not nest; COUNT takes no projection; an index
// shows only what it holds; empty strings are no keys, of an index neither;
// NOT NOT is legal; how many rules CreateTable has, and which of several wrong
// types is named.
//
// Well-formed requests also go to AWS's own DynamoDB Local 3.3.1, where a Java
// runtime is installed: status, type of error and body must be the same, its
// messages are its own. Local secondary indexes are held to both.
//
// Never compared with anything but AWS's documentation and published findings:
// transactions, their tokens and cancellation reasons; expiry; the item in a
// failed condition; comparing false in conditions; several list indexes in one
// update; the order of index entries
// with equal keys; the megabyte at which a page ends (by item size here); the
// words after "Syntax error"; names beyond ASCII in sizes; all of SQS and KMS.
// Nothing here was run against AWS itself. AWS's own messages differ a little
// between regions and years; these are dynalite's where it has them.
//
// Known to be simpler than AWS: an index is never behind its table; an item
// collection (a partition with its local indexes) has no limit of 10 GB and is
// always told to be under one; capacity is
// never exhausted; concurrent transactions wait for each other and never
// conflict; tags, policies and encryption settings are taken and change nothing;
// there is no limit on messages in flight, and none of a FIFO queue's throughput
// (but it finds free groups among its first 120,000 messages only, as SQS does);
// KMS keys lie in the file in the clear;
// a multipart object's checksum is over its parts' checksums, or there is none;
// a lifecycle rule counts to the second and not to the day.
//
// Why S3 is written here: versitygw 1.8.0, embedded, changes the working
// directory of the whole process (its store is below it), can run once a process,
// and links 60 modules, among them clients of LDAP, Vault, Kafka and NATS.
package aws
