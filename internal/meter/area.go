package meter

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"math/bits"

	"github.com/penstock/penstock"
)

// Area is an amount held for a time: thousandths of a CPU or device × µs, or
// bytes × µs, exact in 128 bits. Sums stop at the largest Area instead of
// wrapping round.
type Area struct{ hi, lo uint64 }

// NewArea is amount × microseconds, neither of them negative.
func NewArea(amount penstock.Amount, microseconds int64) Area {
	hi, lo := bits.Mul64(uint64(amount), uint64(microseconds))
	return Area{hi, lo}
}

// Add is a + b.
func (a Area) Add(b Area) Area {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	hi, over := bits.Add64(a.hi, b.hi, carry)
	if over != 0 {
		return Area{math.MaxUint64, math.MaxUint64}
	}
	return Area{hi, lo}
}

// Equal reports whether a and b are the same.
func (a Area) Equal(b Area) bool { return a == b }

// Zero reports whether nothing was held.
func (a Area) Zero() bool { return a == Area{} }

// Hours is the area in CPU hours, GiB hours or device hours, for people and
// for formats that take decimals. Money is never made from it.
func (a Area) Hours(r penstock.Resource) float64 {
	h, _ := a.ratio(r).Float64()
	return h
}

// Decimal is Hours as a plain decimal with the given number of places, rounded
// half away from zero.
func (a Area) Decimal(r penstock.Resource, places int) string {
	return a.ratio(r).FloatString(places)
}

func (a Area) ratio(r penstock.Resource) *big.Rat {
	return new(big.Rat).SetFrac(a.big(), hour(r))
}

func (a Area) big() *big.Int {
	n := new(big.Int).SetUint64(a.hi)
	return n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(a.lo))
}

// hour is the area that a resource's price is for: one CPU, device or GiB for
// an hour.
func hour(r penstock.Resource) *big.Int {
	unit := int64(1000)
	if r == penstock.Memory {
		unit = 1 << 30
	}
	const microseconds = 3_600_000_000
	return new(big.Int).Mul(big.NewInt(unit), big.NewInt(microseconds))
}

// charge is price × area, rounded down to a nano-unit.
func charge(price penstock.Money, a Area, r penstock.Resource) (penstock.Money, error) {
	n := a.big()
	n.Mul(n, big.NewInt(int64(price)))
	n.Quo(n, hour(r))
	if !n.IsInt64() {
		return 0, tooMuch(fmt.Sprintf("%s hours of %s at %s", a.Decimal(r, 3), r, price))
	}
	return penstock.Money(n.Int64()), nil
}

func tooMuch(what string) error {
	return &penstock.Error{
		Code: penstock.OverLimit, Msg: what + " are more money than can be counted",
		Hint: "ask for a shorter window, or mend the pool's price",
	}
}

// Held is how much of each resource was held for how long. In JSON it is in
// hours: {"cpu": 12.5, "memory": 50}.
type Held map[penstock.Resource]Area

// add counts a row's area.
func (h Held) add(r penstock.Resource, a Area) { h[r] = h[r].Add(a) }

// MarshalJSON writes hours.
func (h Held) MarshalJSON() ([]byte, error) {
	hours := make(map[penstock.Resource]float64, len(h))
	for r, a := range h {
		hours[r] = a.Hours(r)
	}
	return json.Marshal(hours)
}
