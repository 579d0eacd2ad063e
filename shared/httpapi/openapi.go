package httpapi

import (
	_ "embed"
	"net/http"
)

// OpenAPI is the machine-readable contract, as it is served.
//
//go:embed openapi.json
var OpenAPI []byte

//go:embed docs.html
var docs []byte

func getOpenAPI(c *call) (*answer, error) {
	return &answer{status: http.StatusOK, raw: OpenAPI, kind: "application/json"}, nil
}

func getDocs(c *call) (*answer, error) {
	a := &answer{status: http.StatusOK, raw: docs, kind: "text/html; charset=utf-8"}
	return a.set("Content-Security-Policy",
		"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"), nil
}
