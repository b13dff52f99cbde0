package penstock

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// Money is an amount in nano-units (a billionth) of the installation's one
// currency. Money is never a float and never silently rounded: what divides
// money says where the remainder goes.
type Money int64

// Unit is one whole unit of the currency.
const Unit Money = 1_000_000_000

// ParseMoney reads a plain decimal such as "12", "0.035" or "-1.5". It refuses
// more than nine decimals rather than round.
func ParseMoney(s string) (Money, error) {
	n, err := parseDecimal(s, 9)
	if err != nil {
		return 0, &Error{Code: Invalid, Msg: fmt.Sprintf("%.40q is not an amount of money: %s", s, err), Hint: "write a decimal such as 0.035, with nine decimals at most"}
	}
	return Money(n), nil
}

// String is the shortest exact decimal, with two decimals at least.
func (m Money) String() string {
	s := decimal(int64(m), 9)
	dot := strings.IndexByte(s, '.')
	if dot < 0 {
		return s + ".00"
	}
	if len(s)-dot < 3 {
		s += "0"
	}
	return s
}

// MarshalText writes the exact decimal: JSON carries money as a string, since
// many readers of JSON numbers round.
func (m Money) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (m *Money) UnmarshalText(b []byte) error {
	v, err := ParseMoney(string(b))
	*m = v
	return err
}

// Rated is price × n / per, rounded half up, where price is for per units and n
// units were used. It is exact in between (128 bits) and an error if the
// result doesn't fit. n and per are not negative; per is not 0.
func Rated(price Money, n, per int64) (Money, error) {
	if price < 0 || n < 0 || per <= 0 {
		return 0, &Error{Code: Internal, Msg: fmt.Sprintf("can't rate %d units at %s per %d", n, price, per)}
	}
	hi, lo := bits.Mul64(uint64(price), uint64(n))
	lo, carry := bits.Add64(lo, uint64(per)/2, 0)
	hi += carry
	if hi >= uint64(per) {
		return 0, overflow(price, n, per)
	}
	q, _ := bits.Div64(hi, lo, uint64(per))
	if q > math.MaxInt64 {
		return 0, overflow(price, n, per)
	}
	return Money(q), nil
}

func overflow(price Money, n, per int64) error {
	return &Error{Code: OverLimit, Msg: fmt.Sprintf("%d units at %s per %d is more money than can be counted", n, price, per)}
}

// Split divides total by weights so that the parts sum to total exactly: each
// gets its share rounded down, and the nano-units left over go to the largest
// remainders, earlier parts first (Hamilton's method). Weights are not
// negative. Where all are 0, the first part gets everything.
func Split(total Money, weights []int64) []Money {
	parts := make([]Money, len(weights))
	if len(parts) == 0 {
		return parts
	}
	sum, shift := sumWeights(weights)
	if sum == 0 {
		parts[0] = total
		return parts
	}
	size := uint64(max(total, -total))
	remainders, order, left := make([]uint64, len(weights)), make([]int, len(weights)), size
	for i, w := range weights {
		h, l := bits.Mul64(size, uint64(w)>>shift)
		q, r := bits.Div64(h, l, sum)
		parts[i], remainders[i], order[i] = Money(q), r, i
		left -= q
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(remainders[b], remainders[a]) })
	for _, i := range order[:left] {
		parts[i]++
	}
	if total < 0 {
		for i := range parts {
			parts[i] = -parts[i]
		}
	}
	return parts
}

// sumWeights adds the weights up in 64 bits. Where that is too little, each
// counts by what is left of it without its last bits, shift of them.
func sumWeights(weights []int64) (sum uint64, shift int) {
	var hi uint64
	for _, w := range weights {
		var carry uint64
		sum, carry = bits.Add64(sum, uint64(w), 0)
		hi += carry
	}
	if hi == 0 {
		return sum, 0
	}
	shift, sum = bits.Len64(hi), 0
	for _, w := range weights {
		sum += uint64(w) >> shift
	}
	return sum, shift
}

// parseDecimal reads a decimal as an integer of 10^-places.
func parseDecimal(s string, places int) (int64, error) {
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	if len(fraction) > places {
		return 0, fmt.Errorf("more than %d decimals", places)
	}
	digits := whole + fraction + strings.Repeat("0", places-len(fraction))
	if whole == "" || strings.ContainsFunc(digits, func(r rune) bool { return r < '0' || r > '9' }) || strings.HasSuffix(s, ".") {
		return 0, fmt.Errorf("not a decimal number")
	}
	if strings.HasPrefix(s, "-") {
		digits = "-" + digits
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("out of range")
	}
	return n, nil
}

// decimal writes n, an integer of 10^-places, without trailing zeros.
func decimal(n int64, places int) string {
	sign, u := "", uint64(n)
	if n < 0 {
		sign, u = "-", -u
	}
	digits := strconv.FormatUint(u, 10)
	if pad := places + 1 - len(digits); pad > 0 {
		digits = strings.Repeat("0", pad) + digits
	}
	whole, fraction := digits[:len(digits)-places], strings.TrimRight(digits[len(digits)-places:], "0")
	if fraction == "" {
		return sign + whole
	}
	return sign + whole + "." + fraction
}
