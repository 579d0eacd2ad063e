// Package image makes the session host's container image, and sends it to a
// registry, without a Docker daemon: an image is a few JSON documents and a tar
// archive, named by their digests.
//
// The image holds the given programs in its root and nothing else: no shell, no
// libc, no certificate files. The same programs give the same bytes, so that an
// image's digest says what is in it.
package image
