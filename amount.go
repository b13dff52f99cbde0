package penstock

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Resource names something that a pool has and a task takes: CPU, Memory, or a
// type of accelerator in lower case ("h100", "tpu-v5e").
type Resource string

// The resources that are not accelerators.
const (
	CPU    Resource = "cpu"
	Memory Resource = "memory"
)

// Accelerator reports whether r is a type of accelerator: those are held
// device by device, not as a sum.
func (r Resource) Accelerator() bool { return r != CPU && r != Memory && r != "" }

// Amount is how much of a resource: thousandths of a CPU or of a device, or
// bytes of memory. Sums stop at the largest Amount instead of wrapping round.
type Amount int64

// Add is a + b, held at the ends of the range.
func (a Amount) Add(b Amount) Amount {
	s := a + b
	switch {
	case b > 0 && s < a:
		return math.MaxInt64
	case b < 0 && s > a:
		return math.MinInt64
	}
	return s
}

// Times is a × n, held at the ends of the range.
func (a Amount) Times(n int) Amount {
	if a == 0 || n == 0 {
		return 0
	}
	p := a * Amount(n)
	if p/Amount(n) != a {
		if (a < 0) == (n < 0) {
			return math.MaxInt64
		}
		return math.MinInt64
	}
	return p
}

// Resources is an amount of each of several resources. A missing one is 0. In
// manifests and on the wire it is written as people write it:
//
//	{"cpu": "500m", "memory": "2Gi", "h100": "8"}
type Resources map[Resource]Amount

// Names lists the resources in a fixed order.
func (r Resources) Names() []Resource { return slices.Sorted(maps.Keys(r)) }

// Plus is the sum of r and other.
func (r Resources) Plus(other Resources) Resources {
	sum := make(Resources, len(r)+len(other))
	maps.Copy(sum, r)
	for name, a := range other {
		sum[name] = sum[name].Add(a)
	}
	return sum
}

// Minus is r less other. A result below 0 stays below 0: who asks must see it.
func (r Resources) Minus(other Resources) Resources {
	rest := make(Resources, len(r)+len(other))
	maps.Copy(rest, r)
	for name, a := range other {
		rest[name] = rest[name].Add(-a)
	}
	return rest
}

// Times is r taken n times.
func (r Resources) Times(n int) Resources {
	out := make(Resources, len(r))
	for name, a := range r {
		out[name] = a.Times(n)
	}
	return out
}

// Fits reports whether r is within limit, and if not names the first resource
// that isn't, in the order of Names. What limit doesn't list is 0 there.
func (r Resources) Fits(limit Resources) (short Resource, ok bool) {
	ok = true
	for name, a := range r {
		if a > limit[name] && (ok || name < short) { // planning asks often: nothing is sorted
			short, ok = name, false
		}
	}
	return short, ok
}

// Format writes amount a of resource r as ParseAmount reads it.
func (r Resource) Format(a Amount) string {
	if r == Memory {
		return formatBytes(int64(a))
	}
	if a%1000 == 0 {
		return strconv.FormatInt(int64(a)/1000, 10)
	}
	return strconv.FormatInt(int64(a), 10) + "m"
}

// Short writes amount a of resource r for people: of bytes, what is below a tenth
// of the unit is left out ("23.4Gi"), so never more is told than there is.
func (r Resource) Short(a Amount) string {
	if r == Memory {
		for _, unit := range byteUnits[:4] {
			if int64(a) >= unit.size {
				whole, tenth := int64(a)/unit.size, int64(a)%unit.size*10/unit.size
				if tenth == 0 {
					return strconv.FormatInt(whole, 10) + unit.suffix
				}
				return fmt.Sprintf("%d.%d%s", whole, tenth, unit.suffix)
			}
		}
	}
	return r.Format(a)
}

// ParseAmount reads an amount of resource r: "2", "0.5" or "500m" of CPUs and
// devices; bytes with Ki, Mi, Gi, Ti (powers of 1024) or k, M, G, T (of 1000)
// for memory. It refuses negative amounts and any other unit.
func ParseAmount(r Resource, s string) (Amount, error) {
	n, err := parseCount(s)
	hint := `write a number such as 2, 0.5 or 500m`
	if r == Memory {
		n, err = parseBytes(s)
		hint = `write bytes with a unit, such as 512Mi or 4Gi`
	}
	if err != nil {
		return 0, &Error{Code: Invalid, Msg: fmt.Sprintf("%.40q is not an amount of %s: %s", s, r, err), Hint: hint}
	}
	return n, nil
}

func parseCount(s string) (Amount, error) {
	digits, milli := strings.CutSuffix(s, "m")
	places := 3
	if milli {
		places = 0
	}
	n, err := parseDecimal(digits, places)
	if err == nil && n < 0 {
		err = fmt.Errorf("negative")
	}
	return Amount(n), err
}

var byteUnits = []struct {
	suffix string
	size   int64
}{
	{"Ti", 1 << 40}, {"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10},
	{"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3}, {"", 1},
}

func parseBytes(s string) (Amount, error) {
	for _, unit := range byteUnits {
		digits, ok := strings.CutSuffix(s, unit.suffix)
		if !ok {
			continue
		}
		whole, fraction, _ := strings.Cut(digits, ".")
		n, err := parseDecimal(whole, 0)
		if err != nil {
			return 0, err
		}
		milli := int64(0)
		if whole != digits {
			if milli, err = parseDecimal("0."+fraction, 3); err != nil {
				return 0, err
			}
		}
		rest := milli * unit.size / 1000
		if strings.HasPrefix(s, "-") || n > (math.MaxInt64-rest)/unit.size {
			return 0, fmt.Errorf("negative or out of range")
		}
		if milli*unit.size%1000 != 0 {
			return 0, fmt.Errorf("not a whole number of bytes")
		}
		return Amount(n*unit.size + rest), nil
	}
	return 0, fmt.Errorf("no number")
}

func formatBytes(n int64) string {
	for _, unit := range byteUnits[:4] {
		if n != 0 && n%unit.size == 0 {
			return strconv.FormatInt(n/unit.size, 10) + unit.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

// MarshalJSON writes each amount in its unit.
func (r Resources) MarshalJSON() ([]byte, error) {
	out := make(map[Resource]string, len(r))
	for name, a := range r {
		out[name] = name.Format(a)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON writes, and plain JSON numbers.
func (r *Resources) UnmarshalJSON(b []byte) error {
	var raw map[Resource]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	out := make(Resources, len(raw))
	for name, text := range raw {
		a, err := ParseAmount(name, strings.Trim(string(text), `"`))
		if err != nil {
			return err
		}
		out[name] = a
	}
	*r = out
	return nil
}
