package penstock

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestAmountsAreReadAsPeopleWriteThem(t *testing.T) {
	for _, c := range []struct {
		r    Resource
		text string
		want Amount
		back string
	}{
		{CPU, "2", 2000, "2"}, {CPU, "0.5", 500, "500m"}, {CPU, "500m", 500, "500m"}, {CPU, "1.25", 1250, "1250m"},
		{"h100", "8", 8000, "8"}, {"h100", "0", 0, "0"}, {CPU, "2000m", 2000, "2"},
		{Memory, "4Gi", 4 << 30, "4Gi"}, {Memory, "512Mi", 512 << 20, "512Mi"}, {Memory, "1.5Ki", 1536, "1536"},
		{Memory, "2G", 2_000_000_000, "1953125Ki"}, {Memory, "1024", 1024, "1Ki"}, {Memory, "0", 0, "0"}, {Memory, "0.001k", 1, "1"},
		{Memory, "9223372036854775807", math.MaxInt64, "9223372036854775807"}, {CPU, "9223372036854775807m", math.MaxInt64, "9223372036854775807m"},
		{Memory, "8388607Ti", 8388607 << 40, "8388607Ti"},
	} {
		got, err := ParseAmount(c.r, c.text)
		if err != nil || got != c.want || c.r.Format(got) != c.back {
			t.Errorf("%s %q is %d, %v, written %q; want %d, %q", c.r, c.text, got, err, c.r.Format(got), c.want, c.back)
		}
	}
}

func TestPeopleAreToldNoMoreThanThereIs(t *testing.T) {
	for _, c := range []struct {
		r    Resource
		a    Amount
		want string
	}{
		{Memory, 24581220 << 10, "23.4Gi"}, {Memory, 4 << 30, "4Gi"}, {Memory, 1536 << 20, "1.5Gi"}, {Memory, 1<<40 - 1, "1023.9Gi"},
		{Memory, 1023, "1023"}, {Memory, 0, "0"}, {CPU, 1250, "1250m"}, {"h100", 8000, "8"},
	} {
		if got := c.r.Short(c.a); got != c.want {
			t.Errorf("%d of %s is told as %s, want %s", c.a, c.r, got, c.want)
		}
	}
}

func TestAmountsThatMeanNothingAreRefused(t *testing.T) {
	for r, texts := range map[Resource][]string{
		CPU:    {"", "-1", "1.0005", "1k", "1Gi", "0.5m", "m", "1e3", "9223372036854775808m", "9223372036854776", "."},
		Memory: {"", "-1", "-0.5Gi", "-0", "0.3", "1m", "1g", "Gi", "1.Gi", ".5Gi", "1.0001Gi", "8388608Ti", "9223372036854775808", "1 Gi", "--1"},
		"h100": {"one", "1Gi"},
	} {
		for _, text := range texts {
			if a, err := ParseAmount(r, text); CodeOf(err) != Invalid {
				t.Errorf("%s %q is %d, %v; want an error that is invalid", r, text, a, err)
			}
		}
	}
}

func resources() *rapid.Generator[Resources] {
	return rapid.Map(rapid.MapOf(
		rapid.SampledFrom([]Resource{CPU, Memory, "h100", "tpu-v5e"}), rapid.OneOf(rapid.Int64Range(0, 9000), rapid.Int64Range(0, math.MaxInt64)),
	), func(m map[Resource]int64) Resources {
		r := Resources{}
		for name, n := range m {
			r[name] = Amount(n)
		}
		return r
	})
}

func TestResourcesComeBackFromJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := resources().Draw(t, "resources")
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Resources
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", b, diff)
		}
	})
}

func TestResourcesInJSONMayBePlainNumbers(t *testing.T) {
	var got Resources
	if err := json.Unmarshal([]byte(`{"cpu": 2, "h100": 0.5, "memory": 1024}`), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Resources{CPU: 2000, "h100": 500, Memory: 1024}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, text := range []string{`{"cpu": null}`, `{"cpu": {}}`, `{"cpu": true}`, `{"cpu": -1}`, `[]`, `{"cpu": 1e3}`} {
		kept := Resources{CPU: 7}
		if err := json.Unmarshal([]byte(text), &kept); err == nil || kept[CPU] != 7 {
			t.Errorf("%s was read as %v, %v", text, kept, err)
		}
	}
}

func TestSumsStopAtTheEndsOfTheRange(t *testing.T) {
	for _, c := range []struct{ got, want Amount }{
		{Amount(math.MaxInt64).Add(1), math.MaxInt64},
		{Amount(math.MinInt64).Add(-1), math.MinInt64},
		{Amount(math.MaxInt64).Add(math.MinInt64), -1},
		{Amount(2).Add(-5), -3},
		{Amount(math.MaxInt64 / 2).Times(3), math.MaxInt64},
		{Amount(math.MinInt64 / 2).Times(3), math.MinInt64},
		{Amount(math.MaxInt64).Times(0), 0},
		{Amount(-4).Times(3), -12},
		{Amount(math.MaxInt64).Times(1), math.MaxInt64},
	} {
		if c.got != c.want {
			t.Errorf("got %d, want %d", c.got, c.want)
		}
	}
	if got := (Resources{"h100": math.MaxInt64}).Plus(Resources{"h100": 1000})["h100"]; got != math.MaxInt64 {
		t.Errorf("a sum of Resources is %d", got)
	}
	if got := (Resources{"h100": 1000}).Times(math.MaxInt64)["h100"]; got != math.MaxInt64 {
		t.Errorf("a product of Resources is %d", got)
	}
}

func TestPlusAndMinusUndoEachOtherAndChangeNothing(t *testing.T) {
	small := rapid.MapOf(rapid.SampledFrom([]Resource{CPU, Memory, "h100"}), rapid.Map(rapid.Int64Range(0, 1<<40), func(n int64) Amount { return Amount(n) }))
	rapid.Check(t, func(t *rapid.T) {
		a, b := Resources(small.Draw(t, "a")), Resources(small.Draw(t, "b"))
		before := a.Plus(nil)
		back := a.Plus(b).Minus(b)
		for name := range back {
			if back[name] != a[name] {
				t.Errorf("%v + %v - %v = %v", a, b, b, back)
			}
		}
		if diff := cmp.Diff(before, a); diff != "" {
			t.Errorf("the sum changed its part (-before +after):\n%s", diff)
		}
	})
}

func TestFitsNamesTheFirstThatIsShort(t *testing.T) {
	limit := Resources{CPU: 1000, "h100": 1000}
	for _, c := range []struct {
		r     Resources
		short Resource
	}{
		{nil, ""}, {Resources{CPU: 1000, "h100": 1000}, ""}, {Resources{Memory: 0}, ""},
		{Resources{CPU: 1001}, CPU}, {Resources{Memory: 1}, Memory},
		{Resources{CPU: 2000, "h100": 2000, "a100": 1}, "a100"}, {Resources{Memory: 1, "h100": 1001, CPU: 1000}, "h100"},
	} {
		for range 20 { // the order of a map is another each time
			if short, ok := c.r.Fits(limit); short != c.short || ok != (c.short == "") {
				t.Fatalf("%v: short of %q, %v; want %q", c.r, short, ok, c.short)
			}
		}
	}
}

func TestAllButCPUAndMemoryAreAccelerators(t *testing.T) {
	for r, want := range map[Resource]bool{CPU: false, Memory: false, "": false, "h100": true, "tpu-v5e": true} {
		if r.Accelerator() != want {
			t.Errorf("%q: %v", r, !want)
		}
	}
}
