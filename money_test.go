package penstock

import (
	"encoding/json"
	"math"
	"math/big"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestMoneyIsReadAsWritten(t *testing.T) {
	for text, want := range map[string]Money{
		"0": 0, "12": 12 * Unit, "0.035": 35_000_000, "-1.5": -1_500_000_000, "007": 7 * Unit,
		"0.000000001": 1, "9223372036.854775807": math.MaxInt64, "-9223372036.854775808": math.MinInt64,
	} {
		if got, err := ParseMoney(text); err != nil || got != want {
			t.Errorf("ParseMoney(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for m, want := range map[Money]string{
		0: "0.00", 12 * Unit: "12.00", 1_500_000_000: "1.50", 35_000_000: "0.035", -1: "-0.000000001",
		math.MaxInt64: "9223372036.854775807", math.MinInt64: "-9223372036.854775808",
	} {
		if got := m.String(); got != want {
			t.Errorf("%d is written %s, want %s", int64(m), got, want)
		}
	}
}

func TestMoneyThatIsNotExactIsRefused(t *testing.T) {
	for _, text := range []string{
		"", "-", ".", ".5", "1.", "+1", "--1", "1e3", "1,5", " 1", "0x1", "NaN", "0.0000000001",
		"9223372036.854775808", "-9223372036.854775809", "99999999999", "१",
	} {
		m, err := ParseMoney(text)
		if CodeOf(err) != Invalid || m != 0 {
			t.Errorf("ParseMoney(%q) = %d, %v; want an error that is invalid", text, m, err)
		}
	}
}

func TestMoneyComesBackFromJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Money(rapid.Int64().Draw(t, "money"))
		b, err := json.Marshal(map[string]Money{"cost": want})
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]Money
		if err := json.Unmarshal(b, &got); err != nil || got["cost"] != want {
			t.Errorf("%s came back as %d, %v; want %d", b, got["cost"], err, want)
		}
	})
}

// TestRatedIsTheExactProductRounded compares with whole numbers of any size.
func TestRatedIsTheExactProductRounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		price := rapid.Int64Range(0, math.MaxInt64).Draw(t, "price")
		n := rapid.Int64Range(0, math.MaxInt64).Draw(t, "n")
		per := rapid.Int64Range(1, math.MaxInt64).Draw(t, "per")
		twice := new(big.Int).Mul(big.NewInt(price), big.NewInt(n))
		twice.Lsh(twice, 1).Add(twice, big.NewInt(per))
		want := twice.Div(twice, new(big.Int).Lsh(big.NewInt(per), 1)) // floor((2x + per) / 2per) rounds x/per half up
		got, err := Rated(Money(price), n, per)
		switch {
		case !want.IsInt64():
			if CodeOf(err) != OverLimit {
				t.Errorf("%s doesn't fit, but got %d, %v", want, got, err)
			}
		case err != nil || int64(got) != want.Int64():
			t.Errorf("Rated(%d, %d, %d) = %d, %v; want %s", price, n, per, got, err, want)
		}
	})
}

func TestRatedAtItsEdges(t *testing.T) {
	for _, c := range []struct {
		price  Money
		n, per int64
		want   Money
		code   Code
	}{
		{3 * Unit, 1000, 3600_000, 833_333, ""},
		{1, 1, 2, 1, ""}, // half up
		{1, 1, 3, 0, ""},
		{2, 1, 3, 1, ""},
		{math.MaxInt64, 1, 1, math.MaxInt64, ""},
		{math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64, ""},
		{math.MaxInt64, 2, 1, 0, OverLimit},
		{math.MaxInt64, math.MaxInt64, 1, 0, OverLimit},
		{-1, 1, 1, 0, Internal},
		{1, -1, 1, 0, Internal},
		{1, 1, 0, 0, Internal},
	} {
		if got, err := Rated(c.price, c.n, c.per); got != c.want || CodeOf(err) != c.code {
			t.Errorf("Rated(%d, %d, %d) = %d, %v; want %d and code %q", c.price, c.n, c.per, got, err, c.want, c.code)
		}
	}
}

// weights are mostly like durations and tokens, and sometimes huge.
func weights() *rapid.Generator[[]int64] {
	return rapid.SliceOfN(rapid.OneOf(rapid.Int64Range(0, 3), rapid.Int64Range(0, 1_000_000), rapid.Int64Range(0, math.MaxInt64)), 1, 12)
}

func TestSplitPartsSumToTheTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total, w := Money(rapid.Int64().Draw(t, "total")), weights().Draw(t, "weights")
		parts := Split(total, w)
		sum := new(big.Int)
		for _, p := range parts {
			sum.Add(sum, big.NewInt(int64(p)))
			if p != 0 && (p < 0) != (total < 0) {
				t.Errorf("%d has a part of %d", total, p)
			}
		}
		if len(parts) != len(w) || !sum.IsInt64() || sum.Int64() != int64(total) {
			t.Errorf("%v sum to %s, want %d", parts, sum, total)
		}
	})
}

func TestSplitGivesMoreToTheHeavier(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total, w := Money(rapid.Int64Range(0, math.MaxInt64).Draw(t, "total")), weights().Draw(t, "weights")
		parts := Split(total, w)
		for i := range w {
			for k := range w {
				switch {
				case w[i] > w[k] && parts[i] < parts[k]:
					t.Errorf("weight %d gets %d, and weight %d gets %d", w[i], parts[i], w[k], parts[k])
				case w[i] == w[k] && i < k && (parts[i] < parts[k] || parts[i] > parts[k]+1) && slices.Max(w) > 0:
					t.Errorf("equal weights get %d, then %d", parts[i], parts[k])
				}
			}
		}
	})
}

// TestSplitStaysWithinOneOfTheShare is what Hamilton's method promises (its
// quota rule): each part is the exact share rounded down or up.
func TestSplitStaysWithinOneOfTheShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.Int64().Draw(t, "total")
		w := rapid.SliceOfN(rapid.Int64Range(0, math.MaxInt64/12), 1, 12).Draw(t, "weights")
		sum := int64(0)
		for _, x := range w {
			sum += x
		}
		if sum == 0 {
			return
		}
		for i, p := range Split(Money(total), w) {
			off := new(big.Int).Mul(big.NewInt(total), big.NewInt(w[i]))
			off.Sub(off, new(big.Int).Mul(big.NewInt(int64(p)), big.NewInt(sum))).Abs(off)
			if off.Cmp(big.NewInt(sum)) >= 0 {
				t.Errorf("%d × %d / %d is given as %d", total, w[i], sum, p)
			}
		}
	})
}

func TestSplitOfANegativeTotalMirrorsThePositive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total, w := Money(rapid.Int64Range(0, math.MaxInt64).Draw(t, "total")), weights().Draw(t, "weights")
		mirrored := Split(-total, w)
		for i := range mirrored {
			mirrored[i] = -mirrored[i]
		}
		if diff := cmp.Diff(Split(total, w), mirrored); diff != "" {
			t.Errorf("(-positive +mirrored):\n%s", diff)
		}
	})
}

func TestSplitAtItsEdges(t *testing.T) {
	for _, c := range []struct {
		name    string
		total   Money
		weights []int64
		want    []Money
	}{
		{"nobody", 5, nil, []Money{}},
		{"all weights 0: the first gets it", 5, []int64{0, 0}, []Money{5, 0}},
		{"thirds: the first gets the rest", 100, []int64{1, 1, 1}, []Money{34, 33, 33}},
		{"the largest remainder gets the rest", 10, []int64{3, 2, 1}, []Money{5, 3, 2}},
		{"half and half", 1, []int64{1, 1}, []Money{1, 0}},
		{"weight 0 gets nothing", 7, []int64{0, 2, 0, 1}, []Money{0, 5, 0, 2}},
		{"the least money there is", math.MinInt64, []int64{1}, []Money{math.MinInt64}},
		{"weights that sum to more than 64 bits", 4, []int64{math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64}, []Money{1, 1, 1, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Split(c.total, c.weights)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
