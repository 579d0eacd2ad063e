// Package move takes all customers of one deployment to another, with their keys,
// instances, messages, files, webhooks and links, so that nobody scans again: from one
// machine to AWS, and back.
//
// # The order
//
// A link must never have two owners, and a move can die at every step. So:
//
//  1. Everything is looked at first: that no session host of the source has a lease, that
//     the target knows the peppers of the keys, and that it has none of the customers.
//  2. All rows but those of the tables instances, access and fleet are copied, partition
//     by partition, and each partition is read back and compared. Files follow. Nothing of
//     this is seen at the target: what makes an instance is its row. Until here the move
//     can be given up, and the source can be started again; whoever runs the move again
//     begins anew, and rows that have gone meanwhile are removed at the target.
//  3. The source notes where its customers go ([dynamo.Move]), and its instances leave
//     their shards. From here on no host of it starts a link, and `whatisup run` refuses.
//  4. What waits in the queues of webhooks is taken to those of the target.
//  5. The rows of instances, customers and, last, keys are written where there are none.
//     Their links start at the target as soon as its hosts find them.
//  6. All of it is counted at both ends, and the source notes that the move is done.
//
// A move that died after 3 goes on there. One that is done says so, and does nothing: at
// the target life has gone on.
//
// Nothing is deleted at the source but the messages of 4, which a FIFO queue does not
// show otherwise.
//
// # What is sealed
//
// A link's values are sealed with its data key for their place, and the data key is
// wrapped under the KMS key of the deployment, for customer and instance. The move opens
// each data key at the source, wraps it at the target for the same owner, and seals the
// values for the target's table. Secrets of webhooks are sealed for a place that has the
// same name everywhere: only their data keys are wrapped anew.
//
// API keys are stored as HMACs under a pepper, and their texts nowhere. So the target has
// to know the source's pepper, under whatever version: the rows are given that version.
package move
