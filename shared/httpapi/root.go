package httpapi

import (
	"net/http"

	"whatisup/shared/whatisup"
)

type root struct {
	Name         string `json:"name"`
	EventVersion string `json:"event_version"`
	EventsURL    string `json:"events_url"`
	OpenAPIURL   string `json:"openapi_url"`
	DocsURL      string `json:"docs_url"`
}

const eventsPath = "/v1/events"

func getRoot(c *call) (*answer, error) {
	r := root{
		Name: "WhatIsUp", EventVersion: whatisup.EventVersion,
		EventsURL: c.EventsURL, OpenAPIURL: "/openapi.json", DocsURL: "/docs",
	}
	if r.EventsURL == "" {
		r.EventsURL = eventsPath
	}
	return reply(http.StatusOK, r), nil
}
