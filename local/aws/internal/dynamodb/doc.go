// Package dynamodb is DynamoDB over one file: tables with secondary indexes
// of both kinds, items, queries, batches, transactions and expiry.
//
// A request passes four gates, in AWS's order, each with AWS's words: the shape
// of the input (shapes.go), the rules that need no table (parse…), those that
// need the table's definition (aim), and those that need the item (decide).
// Only then something is written, and everything that a request writes is one
// commit. An item, its index entries and its place in the expiry list change
// together; here an index is never behind its table, which AWS does not promise.
//
// On disk an item is its size in DynamoDB's reckoning followed by its JSON,
// under a hash of its partition, the partition key and the sort key, encoded so
// that bytes order as values do. An index entry holds only where the item is.
package dynamodb
