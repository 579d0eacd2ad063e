package main

import (
	"bytes"
	"strings"
	"testing"

	"whatisup/local"
	"whatisup/local/localtest"
	"whatisup/shared/whatisup"
)

// Trying a function costs the customer no token, and the function answers of the
// customer's own instance.
func TestInvokeSpendsNothing(t *testing.T) {
	var dir string
	t.Chdir(localtest.Root(t))
	s := localtest.Start(t, func(c *local.Config) {
		c.Limits = whatisup.RateLimit{Burst: 60, PerSecond: 0.0001} // nothing fills meanwhile
		dir = c.DataDir
	})
	c := localtest.NewClient(t, s.API, string(s.Keys[whatisup.Test]))
	i := c.Create("tried")
	remaining := func() int {
		var limits struct {
			PerCustomer struct{ Remaining int } `json:"per_customer"`
		}
		c.Must(200, "GET", "/v1/limits", "", &limits)
		return limits.PerCustomer.Remaining
	}
	before := remaining()
	var out, diagnosis bytes.Buffer
	getenv := func(name string) string { return map[string]string{"DATA_DIR": dir}[name] }
	if err := run(t.Context(), []string{"-event", "get-instance"}, getenv, &out, &diagnosis); err != nil {
		t.Fatalf("%v\n%s", err, &diagnosis)
	}
	if !strings.Contains(out.String(), i.ID) || !strings.Contains(out.String(), `"statusCode": 200`) {
		t.Errorf("it answered %s\n%s", &out, &diagnosis)
	}
	if after := remaining(); before != 59 || after != before {
		t.Errorf("%d tokens before, %d after", before, after)
	}
}
