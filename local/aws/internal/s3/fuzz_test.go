package s3

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

// FuzzChunks has every body in chunks end, and a good one be what went in.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\nx-amz-checksum-crc32: AAAAAA==\r\n\r\n"), []byte("hello"))
	f.Add([]byte("5;chunk-signature=00\r\nhel"), []byte(""))
	f.Add([]byte("ffffffffffffffff\r\n"), []byte("x"))
	f.Add([]byte("-1\r\n\r\n0"), []byte("x"))
	f.Fuzz(func(t *testing.T, raw, body []byte) {
		c := &chunks{in: bufio.NewReaderSize(bytes.NewReader(raw), 4096)}
		if read, err := io.ReadAll(c); err == nil && len(read) > len(raw) {
			t.Fatalf("%d bytes came out of %d", len(read), len(raw))
		}
		var good strings.Builder
		for rest := body; len(rest) > 0; {
			n := min(len(rest), 7)
			fmt.Fprintf(&good, "%x\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		good.WriteString("0\r\nx-a: b\r\n\r\n")
		c = &chunks{in: bufio.NewReader(strings.NewReader(good.String()))}
		if read, err := io.ReadAll(c); err != nil || !bytes.Equal(read, body) || c.trailer.Get("X-A") != "b" {
			t.Fatalf("%q came back as %q: %v", body, read, err)
		}
	})
}

// FuzzRange has every range lie within the object.
func FuzzRange(f *testing.F) {
	for _, header := range []string{"bytes=0-0", "bytes=-5", "bytes=5-", "bytes=9-3", "bytes=0-1,2-3", "bytes=99999999999999999999-", "bytes=--1", ""} {
		f.Add(header, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		from, n, whole, err := stretch(header, size)
		switch {
		case err != nil:
		case whole && (from != 0 || n != size), !whole && (n < 1 || from < 0 || from > size-n):
			t.Fatalf("%q of %d is %d bytes from %d", header, size, n, from)
		}
	})
}

// FuzzPolicy has no condition hold that does not name a field that is there.
func FuzzPolicy(f *testing.F) {
	for _, c := range []string{`{"key":"a"}`, `["eq","$key","a"]`, `["starts-with","$key",""]`, `["content-length-range",0,10]`, `["content-length-range","1","2"]`, `{}`, `[]`, `["eq","$other","a"]`, `["starts-with","$other",""]`, `{"a":"b","c":"d"}`, `null`, `{"":""}`, `{"other":""}`} {
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, condition string) {
		fields := map[string]string{"key": "a"}
		name, low, high, err := holds(json.RawMessage(condition), fields)
		if err != nil {
			return
		}
		if _, there := fields[name]; !there && name != sizeCondition || low < 0 || high < 0 {
			t.Fatalf("%s holds for %q, %d, %d", condition, name, low, high)
		}
	})
}
