// Package kms is KMS over one file: symmetric keys, their aliases, and what is
// sealed with them.
//
// A ciphertext names its key and is sealed with AES-256-GCM with the encryption
// context as additional data: another context, another key or one changed bit
// is an InvalidCiphertextException, as with KMS. The keys lie in the file as
// they are. This stands in for KMS's interface, not for its secrecy.
package kms
