package dataset

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// pair makes two texts whose sets of shingles have the Jaccard similarity j, as
// near as whole numbers of words allow: they share a run of words, and each has
// a run of its own.
func pair(r *rand.Rand, j float64) (a, b string, exact float64) {
	const shared = 400
	word := func() string { return fmt.Sprintf("w%d", r.Uint64()) }
	run := func(n int) []string {
		words := make([]string, n)
		for i := range words {
			words[i] = word()
		}
		return words
	}
	common := run(shared)
	own := int(math.Round((shared - shingleWords + 1) * (1 - j) / (2 * j)))
	a = strings.Join(append(common[:shared:shared], run(own)...), " ")
	b = strings.Join(append(common[:shared:shared], run(own)...), " ")
	both := float64(shared - shingleWords + 1)
	return a, b, both / (both + 2*float64(own))
}

// TestMinHashFindsAsManyAsTheoryTells compares the share of pairs that are found
// with 1-(1-j^8)^14. 600 pairs have a standard error of at most 0.02; four of
// them are allowed. The texts are the same in each run.
func TestMinHashFindsAsManyAsTheoryTells(t *testing.T) {
	const pairs = 600
	for _, j := range []float64{0.5, 0.6, 0.7, 0.8, 0.9, 0.95} {
		r := rand.New(rand.NewPCG(1, uint64(j*100)))
		found, want := 0, 0.0
		for range pairs {
			a, b, exact := pair(r, j)
			c := newCluster(2)
			c.place(0, []byte(a))
			c.place(1, []byte(b))
			if c.root(1) == 0 {
				found++
			}
			want += (1 - math.Pow(1-math.Pow(exact, rows), bands)) / pairs
		}
		got := float64(found) / pairs
		bound := 4*math.Sqrt(want*(1-want)/pairs) + 1e-3
		t.Logf("similarity %.2f: %.3f of the pairs found, %.3f expected", j, got, want)
		if math.Abs(got-want) > bound {
			t.Errorf("similarity %.2f: %.3f of the pairs found, want %.3f ± %.3f", j, got, want, bound)
		}
	}
}

func TestDocumentsThatShareLittleAreNotNear(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	c := newCluster(300)
	for i := range 300 {
		a, _, _ := pair(r, 0.5)
		c.place(i, []byte(a))
	}
	for i := range 300 {
		if c.root(i) != i {
			t.Errorf("document %d was put to %d", i, c.root(i))
		}
	}
}

func TestPunctuationAndLayoutDoNotMakeADocumentNew(t *testing.T) {
	c := newCluster(6)
	for i, text := range []string{
		"the quick brown fox jumps over the lazy dog", "The", "the quick, brown fox\n\tjumps over (the lazy) dog!",
		"", "?!", "the",
	} {
		c.place(i, []byte(text))
	}
	for document, want := range []int{0, 1, 0, 3, 4, 5} {
		if got := c.root(document); got != want {
			t.Errorf("document %d is in the cluster of %d, want %d", document, got, want)
		}
	}
}

func BenchmarkNear(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	text, _, _ := pair(r, 0.999) // 400 words
	c := newCluster(1)
	for b.Loop() {
		c.place(0, []byte(text))
	}
}
