// Package aws is DynamoDB, SQS and KMS on loopback, in one process and one file.
package aws
