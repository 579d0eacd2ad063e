package httpapi

import (
	"encoding/json"
	"net/http"
	"slices"

	"whatisup/shared/whatisup"
)

// page is one page of a list. Next is left out where the contract leaves it out.
type page struct {
	Data []json.RawMessage `json:"data"`
	Next *next             `json:"next_cursor,omitempty"`
}

// next is a cursor, or null at the end.
type next string

func (n next) MarshalJSON() ([]byte, error) {
	if n == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(n))
}

// maxLimit is the most that a page may be asked for.
const maxLimit = 1000

// A list is cut before it outgrows what Lambda can answer with: 6 MB, after the
// whole body has become a JSON string.
const (
	maxList       = 5 << 20
	maxListString = 5800 << 10
)

// A page reads at most this much to fill itself, however few of the rows its
// filter lets through: a token buys a bounded read. A page that ends so is short
// or empty, and has a cursor.
const (
	maxScanned = 4 << 20
	rowBytes   = 1 << 10 // about what a row has beside what its customer wrote
)

// listSize counts what a list will weigh.
type listSize struct{ plain, quoted int }

// add counts one element in, or answers false if it has no room.
func (s *listSize) add(b []byte) bool {
	plain, quoted := s.plain+len(b)+1, s.quoted+len(b)+1
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"' || c == '\\':
			quoted++
		case c == '<' || c == '>' || c == '&' || c < 0x20:
			quoted += 5
		case c == 0xe2 && i+2 < len(b) && b[i+1] == 0x80: // perhaps a line separator, which becomes six bytes
			quoted += 3
		}
	}
	if plain > maxList || quoted > maxListString {
		return false
	}
	s.plain, s.quoted = plain, quoted
	return true
}

func listInstances(c *call) (*answer, error) {
	q, err := c.readQuery()
	if err != nil {
		return nil, err
	}
	limit := q.number("limit", maxLimit)
	statuses := oneOf(q, "status", whatisup.Statuses)
	detail := q.includesStatus()
	bound := []string{"instances", string(c.customer()), string(c.mode()), join(statuses)}
	var before whatisup.InstanceID
	cursor, paged := q.get("cursor")
	if paged {
		id, ok := c.seal.open(cursor, bound...)
		if !ok {
			q.problem("cursor", "is not a cursor of this list")
		}
		before = whatisup.InstanceID(id)
	}
	if err := q.done(); err != nil {
		return nil, err
	}
	about := 0
	if limit > 0 {
		about = limit + 1
	}
	list := page{Data: []json.RawMessage{}}
	var last whatisup.InstanceID // of those that this page is done with
	var size listSize
	read, scanned, cut := 0, 0, false
	for i, err := range c.control.List(c.ctx, c.who(), before, about) {
		if err != nil {
			return nil, err
		}
		if cut = limit > 0 && read == limit || scanned > maxScanned; cut {
			break
		}
		scanned += rowBytes + len(i.Config.Name) + len(i.Config.Metadata)
		if len(statuses) == 0 || slices.Contains(statuses, i.Shown.Status) {
			b, err := encode(wire(i, detail))
			if err != nil {
				return nil, err
			}
			if cut = !size.add(b); cut {
				break
			}
			list.Data = append(list.Data, b)
		}
		last = i.Config.ID
		read++
	}
	if limit > 0 || paged || cut {
		list.Next = new(next)
	}
	if cut {
		*list.Next = next(c.seal.make(string(last), bound...))
	}
	return reply(http.StatusOK, list), nil
}
