package attribute

import (
	"bytes"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestParseNumber(t *testing.T) {
	t.Parallel()
	good := map[string]string{
		"0": "0", "-0": "0", "0.0": "0", "0e1000": "0", "+3": "3", ".5": "0.5", "5.": "5", "007": "7", "1.50": "1.5", "1e3": "1000", "-17.4E2": "-1740",
		"1e-3": "0.001", "12345678901234567890123456789012345678": "12345678901234567890123456789012345678",
		"1e125": "1" + strings.Repeat("0", 125), "1e-130": "0." + strings.Repeat("0", 129) + "1",
		"9.9999999999999999999999999999999999999E+125":            strings.Repeat("9", 38) + strings.Repeat("0", 88),
		"0.00000000000000000000000000000000000000000000000001e50": "1",
	}
	for in, want := range good {
		if n, err := ParseNumber(in); err != nil || n.String() != want {
			t.Errorf("%s: %s, %v; want %s", in, n, err, want)
		}
	}
	bad := map[string]error{
		"": errNotNumber, "-": errNotNumber, ".": errNotNumber, "e5": errNotNumber, "1e": errNotNumber, "1e+": errNotNumber, " 1": errNotNumber, "1 ": errNotNumber,
		"0x10": errNotNumber, "NaN": errNotNumber, "Infinity": errNotNumber, "1.2.3": errNotNumber, "--1": errNotNumber, "1_000": errNotNumber,
		"1e126": ErrOverflow, "-11e125": ErrOverflow, "1e99999999999": ErrOverflow, "1e-131": errUnderflow, "0.9e-130": errUnderflow, "1e-99999999999": errUnderflow,
		"123456789012345678901234567890123456789": errDigits, "3.14159265358979323846264338327950288419": errDigits,
	}
	for in, want := range bad {
		if n, err := ParseNumber(in); err != want {
			t.Errorf("%q: %s, %v; want %v", in, n, err, want)
		}
	}
}

// TestArithmetic holds sums, order and key order to those of exact rationals.
func TestArithmetic(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	random := func() Number {
		var b strings.Builder
		if r.IntN(2) == 0 {
			b.WriteByte('-')
		}
		for range 1 + r.IntN(12) {
			b.WriteByte(byte('0' + r.IntN(10)))
		}
		b.WriteByte('e')
		b.WriteString([]string{"-130", "-20", "-3", "-1", "0", "1", "2", "20", "110"}[r.IntN(9)])
		n, err := ParseNumber(b.String())
		if err != nil {
			return Number{}
		}
		return n
	}
	rat := func(n Number) *big.Rat {
		v, ok := new(big.Rat).SetString(n.String())
		if !ok {
			t.Fatalf("%s is not a number", n)
		}
		return v
	}
	for range 20000 {
		a, b := random(), random()
		x, y := rat(a), rat(b)
		if got, want := a.Compare(b), x.Cmp(y); got != want {
			t.Fatalf("%s against %s: %d, want %d", a, b, got, want)
		}
		ka, kb := NumberValue(a).AppendKey(nil), NumberValue(b).AppendKey(nil)
		if got, want := bytes.Compare(ka, kb), x.Cmp(y); got != want {
			t.Fatalf("keys of %s and %s: %d, want %d", a, b, got, want)
		}
		if sum, err := a.Add(b); err == nil && rat(sum).Cmp(new(big.Rat).Add(x, y)) != 0 {
			t.Fatalf("%s + %s = %s", a, b, sum)
		}
		if diff, err := a.Sub(b); err == nil && rat(diff).Cmp(new(big.Rat).Sub(x, y)) != 0 {
			t.Fatalf("%s - %s = %s", a, b, diff)
		}
	}
	for _, c := range [][2]string{{"1e50", "1"}, {"9e125", "9e125"}} {
		a, _ := ParseNumber(c[0])
		b, _ := ParseNumber(c[1])
		if sum, err := a.Add(b); err == nil {
			t.Errorf("%s + %s = %s, which has no place in 38 digits", a, b, sum)
		}
	}
}

func TestKeyOrder(t *testing.T) {
	t.Parallel()
	ordered := []string{"", "\x00", "\x00\x00", "\x00\x01", "\x00\xff", "\x01", "a", "a\x00", "a\x00b", "ab", "b", "\xff", "\xff\xff"}
	for i, a := range ordered {
		for j, b := range ordered {
			ka := Value{Type: B, Str: a}.AppendKey(nil)
			kb := Value{Type: B, Str: b}.AppendKey(nil)
			want := 0
			switch {
			case i < j:
				want = -1
			case i > j:
				want = 1
			}
			if got := bytes.Compare(ka, kb); got != want {
				t.Errorf("%q against %q: %d, want %d", a, b, got, want)
			}
			if prefix := (Value{Type: B, Str: a}).AppendKeyPrefix(nil); strings.HasPrefix(b, a) != bytes.HasPrefix(kb, prefix) {
				t.Errorf("the key of %q begins with the prefix of %q: %t", b, a, bytes.HasPrefix(kb, prefix))
			}
		}
	}
}
