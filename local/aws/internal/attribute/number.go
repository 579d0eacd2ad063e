package attribute

import (
	"cmp"
	"errors"
	"math/big"
	"strings"
)

// Number is a decimal of up to 38 significant digits, exactly. The zero Number
// is zero.
type Number struct {
	neg    bool
	digits string // no zero at either end; "" is zero
	exp    int    // value = 0.digits × 10^exp
}

// The limits of DynamoDB's numbers, and what it says beyond them.
const (
	maxDigits   = 38
	maxExponent = 125
	minExponent = -130
)

var (
	errNotNumber = errors.New("The parameter cannot be converted to a numeric value")
	// ErrOverflow is also what DynamoDB says of sums it cannot hold.
	ErrOverflow  = errors.New("Number overflow. Attempting to store a number with magnitude larger than supported range")
	errUnderflow = errors.New("Number underflow. Attempting to store a number with magnitude smaller than supported range")
	errDigits    = errors.New("Attempting to store more than 38 significant digits in a Number")
)

// ParseNumber reads a decimal, with or without an exponent.
func ParseNumber(s string) (Number, error) {
	var n Number
	rest := s
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		n.neg = rest[0] == '-'
		rest = rest[1:]
	}
	mantissa, exponent := rest, 0
	if i := strings.IndexAny(rest, "eE"); i >= 0 {
		var ok bool
		if exponent, ok = parseExponent(rest[i+1:]); !ok {
			return n, errNotNumber
		}
		mantissa = rest[:i]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	if len(whole)+len(fraction) == 0 || !allDigits(whole) || !allDigits(fraction) {
		return n, errNotNumber
	}
	digits := whole
	if fraction != "" {
		digits += fraction
	}
	return normal(n.neg, digits, exponent+len(whole))
}

// parseExponent reads an exponent; one of absurd size is cut to what is out of
// range either way.
func parseExponent(s string) (int, bool) {
	neg := false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		neg = s[0] == '-'
		s = s[1:]
	}
	if s == "" || !allDigits(s) {
		return 0, false
	}
	e := 0
	for _, c := range []byte(s) {
		if e = e*10 + int(c-'0'); e > 1<<30 {
			e = 1 << 30
		}
	}
	if neg {
		e = -e
	}
	return e, true
}

func allDigits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// normal builds the number 0.digits × 10^exp and holds it to the limits.
func normal(neg bool, digits string, exp int) (Number, error) {
	trimmed := strings.TrimLeft(digits, "0")
	exp -= len(digits) - len(trimmed)
	trimmed = strings.TrimRight(trimmed, "0")
	if trimmed == "" {
		return Number{}, nil
	}
	switch {
	case exp-1 > maxExponent:
		return Number{}, ErrOverflow
	case exp-1 < minExponent:
		return Number{}, errUnderflow
	case len(trimmed) > maxDigits:
		return Number{}, errDigits
	}
	return Number{neg, trimmed, exp}, nil
}

// String prints the number without an exponent, as DynamoDB answers it.
func (n Number) String() string {
	if n.digits == "" {
		return "0"
	}
	var b strings.Builder
	if n.neg {
		b.WriteByte('-')
	}
	switch {
	case n.exp <= 0:
		b.WriteString("0.")
		b.WriteString(strings.Repeat("0", -n.exp))
		b.WriteString(n.digits)
	case n.exp >= len(n.digits):
		b.WriteString(n.digits)
		b.WriteString(strings.Repeat("0", n.exp-len(n.digits)))
	default:
		b.WriteString(n.digits[:n.exp])
		b.WriteByte('.')
		b.WriteString(n.digits[n.exp:])
	}
	return b.String()
}

func (n Number) sign() int {
	switch {
	case n.digits == "":
		return 0
	case n.neg:
		return -1
	}
	return 1
}

// Compare orders numbers by value.
func (n Number) Compare(m Number) int {
	if c := cmp.Compare(n.sign(), m.sign()); c != 0 || n.digits == "" {
		return c
	}
	c := cmp.Or(cmp.Compare(n.exp, m.exp), strings.Compare(n.digits, m.digits))
	if n.neg {
		return -c
	}
	return c
}

// Add returns n+m, or an error if the exact sum is no DynamoDB number.
func (n Number) Add(m Number) (Number, error) {
	if n.digits == "" {
		return m, nil
	}
	if m.digits == "" {
		return n, nil
	}
	scale := min(n.exp-len(n.digits), m.exp-len(m.digits))
	sum := new(big.Int).Add(n.unscaled(scale), m.unscaled(scale))
	neg := sum.Sign() < 0
	digits := sum.Abs(sum).String()
	return normal(neg, digits, scale+len(digits))
}

// Sub returns n-m.
func (n Number) Sub(m Number) (Number, error) {
	m.neg = !m.neg && m.digits != ""
	return n.Add(m)
}

// unscaled returns n / 10^scale, a whole number.
func (n Number) unscaled(scale int) *big.Int {
	i, _ := new(big.Int).SetString(n.digits+strings.Repeat("0", n.exp-len(n.digits)-scale), 10)
	if n.neg {
		i.Neg(i)
	}
	return i
}

// Size is what the number weighs in an item.
func (n Number) Size() int {
	if n.digits == "" {
		return 1
	}
	// Two digits a byte, aligned at the decimal point, one byte for the
	// magnitude and one more for a minus.
	digits := len(n.digits)
	if n.exp%2 != 0 {
		digits++
	}
	size := 1 + (digits+1)/2
	if n.neg {
		size++
	}
	return size
}

// appendKey appends bytes that order as the numbers do and that end by
// themselves.
func (n Number) appendKey(dst []byte) []byte {
	switch n.sign() {
	case 0:
		return append(dst, 1)
	case 1:
		e := n.exp + 512
		dst = append(dst, 2, byte(e>>8), byte(e))
		dst = append(dst, n.digits...)
		return append(dst, 0)
	}
	e := 512 - n.exp
	dst = append(dst, 0, byte(e>>8), byte(e))
	for _, d := range []byte(n.digits) {
		dst = append(dst, 255-d)
	}
	return append(dst, 255)
}
