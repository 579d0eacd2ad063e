// Package repository holds the files of the repository that a program carries
// with it, so that it runs where there is no checkout.
package repository

import _ "embed"

// Template is template.yaml: the routes, triggers and timeouts of a deployment,
// which one machine has, too.
//
//go:embed template.yaml
var Template []byte
