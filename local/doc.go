// Package local is the whole system on one machine: `whatisup run`.
//
// The production code runs unchanged in it: the functions' handlers, wrapped as
// their mains wrap them, behind a gateway that makes real API Gateway events;
// the stores and queues over the AWS SDK; the session host with an unmodified
// whatsmeow. What stands in are the services at the ends, on loopback ports:
//
//	local/aws       DynamoDB, SQS, KMS and S3, in DATA_DIR/aws.db and DATA_DIR/objects
//	local/gateway   API Gateway, from template.yaml
//	local/whatsapp  WhatsApp and its phones, in DATA_DIR/whatsapp (sandbox only)
//
// # What is kept
//
// Everything is in DATA_DIR, and what was answered is on disk: after kill -9 the
// next run goes on where this one stopped. One process at a time has a DATA_DIR;
// a second is refused.
//
//	aws.db               tables, queues, keys
//	whatsapp/            the simulated WhatsApp's memory
//	format               the version of the folder's format
//	pepper               the secret under which API keys are hashed
//	kms.root             the key that seals the keys of the embedded KMS
//	aws.secret           what requests to the embedded AWS are signed with
//	test.key, live.key   the first customer's keys
//	env.json             what template.yaml would give functions and hosts
//
// All are readable by their owner only. env.json is written anew by
// each run; more session hosts (`whatisup host`), the operator's command and
// `make invoke` find the running stack by it.
//
// # Starting and stopping
//
// [Run] brings the parts up in the order in which they need each other, calls
// ready, and returns after the last of them has ended. It stops them the other
// way round: no new requests, then the session host gives its shards back, then
// the simulator, and AWS last. If a part fails, all stop and its error is
// returned.
package local
