// Package bucket keeps files as objects of S3: upload forms, presigned URLs, copies,
// and streams that are never whole in memory. It knows bytes and keys, not the
// product.
//
// # Keys
//
// A key holds letters, digits, "-", "_" and single "/" only, so that no encoding of
// it can differ between two clients:
//
//	staging/<mode>/<customer>/<file>             where an upload form puts a file
//	d8/<mode>/<customer>/<instance or own>/<file> what is kept for a week
//	d30/…                                         what a waiting message keeps for longer
//
// The first part is what the bucket's lifecycle rules go by: an upload that nobody
// has finished is removed after a day, everything else one day after its class. Rows
// say when a file ends; the rules only remove the bytes. The instance has a part of
// its own, so that everything of one can be found and removed without a list of it.
//
// # What may be read
//
// An object is there whole or not at all: a stream of more than [PartSize] becomes a
// multipart upload, which is completed by [Writer.Commit] or removed by
// [Writer.Abort]; one whose process dies is removed by the bucket after a day.
package bucket
