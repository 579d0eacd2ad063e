#!/usr/bin/env bash
# The DynamoDB expression package makes placeholders, so that any attribute name can be
# used. expression.Name splits a name at its dots into a path of maps; expression.Key,
# for the same name, does not. An attribute whose name has a dot is found by a key
# condition and never by a filter.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat > main.go <<'GO'
package main

import (
	"fmt"
	"os"
	"slices"

	"maps"

	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/expression"
)

func names(e expression.Expression) []string {
	return slices.Sorted(maps.Values(e.Names()))
}

func main() {
	filter, err := expression.NewBuilder().WithFilter(expression.Name("p.k").Equal(expression.Value("x"))).Build()
	if err != nil {
		panic(err)
	}
	key, err := expression.NewBuilder().WithKeyCondition(expression.Key("p.k").Equal(expression.Value("x"))).Build()
	if err != nil {
		panic(err)
	}
	fmt.Printf("Name(%q): %s with %q\nKey(%q):  %s with %q\n", "p.k", *filter.Filter(), names(filter), "p.k", *key.KeyCondition(), names(key))
	if fmt.Sprint(names(filter), names(key)) != "[k p] [p.k]" {
		fmt.Println("CHANGED")
		os.Exit(1)
	}
}
GO

go mod init finding 2> /dev/null
go get github.com/aws/aws-sdk-go-v2/feature/dynamodb/expression@v1.8.48 2> /dev/null
go mod tidy 2> /dev/null
go list -m github.com/aws/aws-sdk-go-v2/feature/dynamodb/expression
go run .
