// Package s3 is S3 over files: buckets, objects, multipart uploads, presigned
// URLs and upload forms, under path-style addresses.
//
// What an object is called, how large it is, and in which files its bytes lie
// is one record in the store; the bytes themselves are files that are written
// once, synced, and only then named by a record. So a put, a copy or a completed
// upload is there whole or not at all, whatever dies when; conditions are
// checked in the transaction that writes the record. A completed upload keeps
// its parts' files as they are. Files that no record names are removed when the
// service is opened, and when a request that wrote one fails.
//
// Every request must be signed with the one key there is, in its header, its
// query or its form. A request is read as a stream, never whole in memory.
package s3
