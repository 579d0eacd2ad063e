package whatsapp

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
)

// What is written for each message is encoded by hand, in the form that encoding/json
// gives it and reads it from.

// object is a JSON object that is being written.
type object []byte

func (o object) name(name string) object {
	if len(o) == 0 {
		o = append(o, '{')
	} else {
		o = append(o, ',')
	}
	o = append(append(o, '"'), name...)
	return append(o, '"', ':')
}

func (o object) text(name, value string) object { return object(appendText(o.name(name), value)) }

func (o object) bytes(name string, value []byte) object {
	o = append(o.name(name), '"')
	return append(base64.StdEncoding.AppendEncode(o, value), '"')
}

func (o object) time(name string, value time.Time) object {
	o = append(o.name(name), '"')
	return append(value.AppendFormat(o, time.RFC3339Nano), '"')
}

func appendText(out []byte, value string) []byte {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(value) // a string has no error
			return append(out, quoted...)
		}
	}
	return append(append(append(out, '"'), value...), '"')
}

func (q *queued) encode() []byte {
	o := make(object, 0, 96+len(q.ID)+len(q.Key)+len(q.Stanza)*4/3)
	o = o.text("class", q.Class).text("id", q.ID)
	if q.Key != "" {
		o = o.text("key", q.Key)
	}
	return append(o.bytes("stanza", q.Stanza), '}')
}

func (r *shownRecord) encode() []byte {
	o := make(object, 0, 320+len(r.Text)+len(r.Body)+len(r.Plain)*4/3)
	o = strconv.AppendUint(o.name("position"), r.Position, 10)
	o = o.text("message_id", r.ID).text("from", r.From).text("chat", r.Chat).text("type", r.Type).text("text", r.Text)
	if o = o.name("body"); r.Body == nil {
		o = append(o, "null"...)
	} else {
		o = append(o, r.Body...)
	}
	o = o.time("at", r.At)
	for _, moment := range []struct {
		name string
		at   time.Time
	}{{"read_at", r.Read}, {"played_at", r.Played}, {"edited_at", r.Edited}, {"revoked_at", r.Revoked}} {
		if !moment.at.IsZero() {
			o = o.time(moment.name, moment.at)
		}
	}
	if r.Device != "" {
		o = o.text("device", r.Device)
	}
	if r.PN {
		o = append(o.name("pn"), "true"...)
	}
	if len(r.Plain) > 0 {
		o = o.bytes("plain", r.Plain)
	}
	if len(r.Secret) > 0 {
		o = o.bytes("secret", r.Secret)
	}
	return append(o, '}')
}
