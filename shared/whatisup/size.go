package whatisup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// EventSize is the most bytes of an event as JSON.
const EventSize = 200 << 10

// envelopeSize is more than an envelope takes beside its data.
const envelopeSize = 1 << 10

// keptOfText is what is left of a text at least when it is cut.
const keptOfText = 256

// pairSurrogates replaces each escape of an unpaired surrogate by U+FFFD, in JSON
// that is valid otherwise. Other JSON readers refuse the whole document around one.
func pairSurrogates(b []byte) []byte {
	if !bytes.Contains(b, []byte(`\u`)) {
		return b
	}
	unit := func(at int) (rune, bool) {
		if at+6 > len(b) || b[at] != '\\' || b[at+1] != 'u' {
			return 0, false
		}
		n, err := strconv.ParseUint(string(b[at+2:at+6]), 16, 16)
		return rune(n), err == nil
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); {
		if b[i] != '\\' || i+1 == len(b) {
			out = append(out, b[i])
			i++
			continue
		}
		high, ok := unit(i)
		switch low, follows := unit(i + 6); {
		case !ok:
			out = append(out, b[i:i+2]...)
			i += 2
		case high < 0xd800 || high > 0xdfff:
			out = append(out, b[i:i+6]...)
			i += 6
		case high < 0xdc00 && follows && low >= 0xdc00 && low <= 0xdfff:
			out = append(out, b[i:i+12]...)
			i += 12
		default:
			out = append(out, `\ufffd`...)
			i += 6
		}
	}
	return out
}

// leaf is a text within data.
type leaf struct {
	path   string
	text   string
	quoted bool
	also   []string // where the same text stands, too
	set    func(string)
}

// shorten cuts the texts of data until it has at most that many bytes as JSON: own
// texts first, the longest first, then quoted ones. The member truncated lists the
// paths of what was cut.
func shorten(data []byte, most int) ([]byte, error) {
	if len(data) <= most {
		return data, nil
	}
	var whole map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&whole); err != nil {
		return nil, fmt.Errorf("an event of %d bytes can't be cut: %w", len(data), err)
	}
	var leaves []leaf
	collect(whole, "", func(l leaf) { leaves = append(leaves, l) })
	leaves = together(leaves)
	slices.SortFunc(leaves, func(a, b leaf) int {
		if a.quoted != b.quoted {
			if a.quoted {
				return 1
			}
			return -1
		}
		if n := len(b.text) - len(a.text); n != 0 {
			return n
		}
		return strings.Compare(a.path, b.path)
	})

	var cut []string
	over := func(cut []string) (int, error) {
		whole["truncated"] = cut
		b, err := json.Marshal(whole)
		return len(b) - most, err
	}
	for _, l := range leaves {
		n, err := over(cut)
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			break
		}
		if len(l.text) <= keptOfText {
			continue
		}
		paths := append([]string{l.path}, l.also...)
		cut = append(cut, paths...)
		if n, err = over(cut); err != nil {
			return nil, err
		}
		l.set(cutBy(l.text, (n+len(paths)-1)/len(paths)))
	}
	whole["truncated"] = cut
	b, err := json.Marshal(whole)
	if err == nil && len(b) > most {
		err = fmt.Errorf("an event of %d bytes can't be cut to %d: %w", len(data), most, ErrRefused)
	}
	return b, err
}

// together makes one of long texts that say the same, as the text of a message and that
// of its body: they are cut alike.
func together(leaves []leaf) (all []leaf) {
	slices.SortFunc(leaves, func(a, b leaf) int { return strings.Compare(b.path, a.path) }) // text before body.text
	at := make(map[string]int)
	for _, l := range leaves {
		i, twin := at[l.text]
		if !twin || len(l.text) <= keptOfText || all[i].quoted != l.quoted {
			at[l.text] = len(all)
			all = append(all, l)
			continue
		}
		one, other := all[i].set, l.set
		all[i].also = append(all[i].also, l.path)
		all[i].set = func(s string) { one(s); other(s) }
	}
	return all
}

// collect visits every text.
func collect(v any, path string, visit func(leaf)) {
	under := func(name string, v any, set func(string)) {
		p := name
		if path != "" {
			p = path + "." + name
		}
		if text, ok := v.(string); ok {
			visit(leaf{path: p, text: text, quoted: strings.HasPrefix(p, "context.") || strings.Contains(p, "quoted"), set: set})
			return
		}
		collect(v, p, visit)
	}
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			under(name, member, func(s string) { v[name] = s })
		}
	case []any:
		for i, member := range v {
			under(strconv.Itoa(i), member, func(s string) { v[i] = s })
		}
	}
}

// cutBy takes characters off the end until the text as JSON is that much shorter,
// or has only keptOfText bytes left.
func cutBy(text string, over int) string {
	for over > 0 && len(text) > keptOfText {
		r, n := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-n]
		if b, err := json.Marshal(string(r)); err == nil {
			over -= len(b) - 2
		}
	}
	return text
}
