package whatisup

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestParsePeppers(t *testing.T) {
	t.Parallel()
	p, err := ParsePeppers("1:MDEyMzQ1Njc4OWFiY2RlZg==, 12:ZmVkY2JhOTg3NjU0MzIxMA==")
	if err != nil || len(p) != 2 || p.Newest() != 12 || string(p[1]) != "0123456789abcdef" {
		t.Errorf("%v: %d peppers, newest %d", err, len(p), p.Newest())
	}
	for _, bad := range []string{"", "x", "1:", "1:MDEy", "0:MDEyMzQ1Njc4OWFiY2RlZg==", "-1:MDEyMzQ1Njc4OWFiY2RlZg==", "MDEyMzQ1Njc4OWFiY2RlZg==", "1:!!"} {
		if _, err := ParsePeppers(bad); err == nil || strings.Contains(err.Error(), "MDEy") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestNewKey(t *testing.T) {
	t.Parallel()
	p := Peppers{1: "0123456789abcdef", 2: "fedcba9876543210"}
	k, text, err := p.NewKey(APIKey{Customer: NewCustomerID(), Mode: Test, Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	mode, id, ok := ParseAPIKeyText(string(text))
	if !ok || mode != Test || id != k.ID || k.Pepper != 2 || !strings.HasPrefix(string(text), k.Prefix+"_") {
		t.Errorf("made %+v", k)
	}
	if hash, err := p.Hash(2, text); err != nil || !bytes.Equal(hash, k.Hash) {
		t.Error("the hash is not the newest pepper's")
	}
	if other, _ := p.Hash(1, text); bytes.Equal(other, k.Hash) {
		t.Error("the pepper makes no difference")
	}
	if _, err := p.Hash(3, text); err == nil {
		t.Error("a pepper that is none")
	}
	if s := fmt.Sprintf("%v %+v %s", text, text, text); strings.Contains(s, string(text)) {
		t.Error("a key prints itself")
	}
}
