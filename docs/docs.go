// Package docs is the guide for customers: pages in Markdown, which /docs shows beside
// the reference, and which read well in the repository too.
package docs

import "embed"

//go:embed *.md
var files embed.FS

// Page is one page of the guide.
type Page struct {
	Name string `json:"name"` // of its file, without .md
	Text string `json:"text"` // Markdown; it begins with # and the title
}

// Names are the pages in their order.
var Names = []string{"quickstart", "concepts", "sending", "receiving", "webhooks", "media", "errors", "going-live", "self-hosting", "migration"}

// Pages reads all pages.
func Pages() ([]Page, error) {
	var pages []Page
	for _, name := range Names {
		b, err := files.ReadFile(name + ".md")
		if err != nil {
			return nil, err
		}
		pages = append(pages, Page{name, string(b)})
	}
	return pages, nil
}
