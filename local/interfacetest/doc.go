// Package interfacetest holds the OpenAPI document against the tools of other
// people: two linters that must have nothing to say, and three generators whose
// clients must compile and do the main job against a stack. It has JavaScript's library
// of Standard Webhooks verify our signatures, and two readers of Server-Sent Events read
// our stream, the official client for JavaScript calls `whatisup mcp`, and Postman's runner
// sends what the collection of clients/postman has. Baileys is at the other end of chats of
// ours. And it has our own clients, in clients, do their work.
//
// The tools are public packages in the versions that testdata/npm/package.json
// and testdata/clients/go.mod name. They are fetched once, into .build/interfaces
// and Go's module cache; where npm is missing or a registry can't be reached, the
// tests say that they did not run. `make interfaces` and `make test` run them;
// `go test ./...` alone runs only those of our own clients, for the others take minutes
// of both processors.
package interfacetest
