package httpapi

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"whatisup/shared/input"
	"whatisup/shared/whatisup"
)

// query is a request's query string, read like a body. Parameters that
// nobody asks for are ignored.
type query struct {
	values   url.Values
	problems []input.Problem
}

func (c *call) readQuery() (*query, error) {
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, input.Invalid(input.Problem{Field: "query", Problem: "is not a query string"})
	}
	return &query{values: values}, nil
}

func (q *query) problem(name, problem string) {
	q.problems = append(q.problems, input.Problem{Field: name, Problem: problem})
}

func (q *query) get(name string) (string, bool) {
	v, ok := q.values[name]
	if len(v) > 1 {
		q.problem(name, "occurs twice")
		return "", false
	}
	if !ok {
		return "", false
	}
	return v[0], true
}

// number reads a number from 1 to most, 0 if it is missing.
func (q *query) number(name string, most int) int {
	s, ok := q.get(name)
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most || strconv.Itoa(n) != s {
		q.problem(name, fmt.Sprintf("must be a number from 1 to %d", most))
		return 0
	}
	return n
}

// oneOf reads several values of a set, comma separated or in a parameter each, in
// the set's order and without repetitions, so that equal filters look alike.
func oneOf[S ~string](q *query, name string, set []S) []S {
	all, ok := q.values[name]
	if !ok {
		return nil
	}
	given := map[S]bool{}
	for v := range strings.SplitSeq(strings.Join(all, ","), ",") {
		if !slices.Contains(set, S(v)) {
			q.problem(name, fmt.Sprintf("must be one or several of %s, comma separated", join(set)))
			return nil
		}
		given[S(v)] = true
	}
	var found []S
	for _, v := range set {
		if given[v] {
			found = append(found, v)
		}
	}
	return found
}

func join[S ~string](set []S) string {
	s := make([]string, len(set))
	for i, v := range set {
		s[i] = string(v)
	}
	return strings.Join(s, ",")
}

// instanceID reads a filter by instance.
func (q *query) instanceID(name string) whatisup.InstanceID {
	s, ok := q.get(name)
	if !ok {
		return ""
	}
	id, ok := whatisup.ParseInstanceID(s)
	if !ok {
		q.problem(name, "must be an instance's id")
	}
	return id
}

// time reads a time, the zero time if it is missing.
func (q *query) time(name string) time.Time {
	s, ok := q.get(name)
	if !ok {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		q.problem(name, "must be a time like 2026-05-01T12:34:56.000Z")
	}
	return t
}

// includesStatus reads ?include=status.
func (q *query) includesStatus() bool {
	s, ok := q.get("include")
	if ok && s != "status" {
		q.problem("include", "must be status")
	}
	return ok
}

func (q *query) done() error {
	if len(q.problems) > 0 {
		return input.Invalid(q.problems...)
	}
	return nil
}
