package penstock

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReasonReadsAsOneLine(t *testing.T) {
	r := Because(QuotaExhausted, Wait, "%s uses %d of %d gpu", "vision", 4, 4)
	if got, want := r.String(), "QuotaExhausted: vision uses 4 of 4 gpu"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := Join([]Reason{r, Because(NoPool, Ask, "no pool")}), "QuotaExhausted: vision uses 4 of 4 gpu; NoPool: no pool"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if Join(nil) != "" {
		t.Errorf("no reasons read %q", Join(nil))
	}
}

func TestAFigureMoreLeavesTheReasonAlone(t *testing.T) {
	one := Because(NoCapacity, Wait, "full").With("want", 8)
	two, other := one.With("free", 2), one.With("want", 9)
	for _, c := range []struct {
		r    Reason
		want map[string]int64
	}{
		{one, map[string]int64{"want": 8}}, {two, map[string]int64{"want": 8, "free": 2}}, {other, map[string]int64{"want": 9}},
	} {
		if diff := cmp.Diff(c.want, c.r.Numbers); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
