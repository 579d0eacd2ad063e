package httpapi

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"net/http"
	"sync"

	"whatisup/docs"
)

// OpenAPI is the machine-readable contract, as it is served.
//
//go:embed openapi.json
var OpenAPI []byte

// Document is what the routes of the contract itself answer. It is given to the API
// like anything else that it needs, so that only the function that has those routes
// links its half a megabyte.
type Document struct {
	OpenAPI []byte
	Page    func() ([]byte, error)
}

// Contract is the document of this package.
func Contract() *Document { return &Document{OpenAPI: OpenAPI, Page: docsWithGuide} }

//go:embed docs.html
var docsPage []byte

// docsWithGuide is the page with the guide in it, which its script draws.
var docsWithGuide = sync.OnceValues(func() ([]byte, error) {
	pages, err := docs.Pages()
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(pages) // which escapes what could end the element
	return bytes.Replace(docsPage, []byte("GUIDE"), b, 1), err
})

func getOpenAPI(c *call) (*answer, error) {
	return &answer{status: http.StatusOK, raw: c.Document.OpenAPI, kind: "application/json"}, nil
}

func getDocs(c *call) (*answer, error) {
	page, err := c.Document.Page()
	if err != nil {
		return nil, err
	}
	a := &answer{status: http.StatusOK, raw: page, kind: "text/html; charset=utf-8"}
	return a.set("Content-Security-Policy",
		"default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"), nil
}
