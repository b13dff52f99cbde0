package dataset

import (
	"unicode"
	"unicode/utf8"
)

// MinHash as datatrove has it by default: shingles of 5 words, 112 hashes of 64
// bits in 14 bands of 8 rows. Two documents with Jaccard similarity s of their
// shingles share a band with probability 1-(1-s^8)^14: 0.92 at 0.8, 0.05 at 0.5
// (Broder 1997; Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4).
const (
	shingleWords = 5
	bands        = 14
	rows         = 8
	hashes       = bands * rows
)

// cluster finds documents that are nearly the same. Documents are numbered in
// their order.
type cluster struct {
	multiply, add [hashes]uint64
	first         [bands]map[uint64]int // by the hash of a band, the first document with it
	parent        []int                 // of the union-find forest
}

func newCluster(documents int) *cluster {
	c := &cluster{parent: make([]int, documents)}
	for i := range c.parent {
		c.parent[i] = i
	}
	for i := range c.first {
		c.first[i] = map[uint64]int{}
	}
	state := uint64(1) // datatrove's seed
	next := func() uint64 {
		state += 0x9e3779b97f4a7c15
		return mix(state)
	}
	for i := range hashes {
		c.multiply[i], c.add[i] = next()|1, next()
	}
	return c
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// place puts a document into the cluster of those that share a band with it. A
// document without a word is like no other.
func (c *cluster) place(document int, text []byte) {
	signature, ok := c.sign(text)
	if !ok {
		return
	}
	for band := range bands {
		h := uint64(band)
		for _, row := range signature[band*rows : (band+1)*rows] {
			h = mix(h ^ row)
		}
		if other, seen := c.first[band][h]; seen {
			c.union(document, other)
		} else {
			c.first[band][h] = document
		}
	}
}

// root is the smallest document of a cluster: the one that is kept.
func (c *cluster) root(document int) int {
	for c.parent[document] != document {
		c.parent[document] = c.parent[c.parent[document]]
		document = c.parent[document]
	}
	return document
}

func (c *cluster) union(a, b int) {
	a, b = c.root(a), c.root(b)
	c.parent[max(a, b)] = min(a, b)
}

// sign gives the smallest value of each hash over all shingles. A document of
// fewer words than a shingle has is one shingle.
func (c *cluster) sign(text []byte) (signature [hashes]uint64, ok bool) {
	for i := range signature {
		signature[i] = ^uint64(0)
	}
	var window [shingleWords]uint64
	n := 0
	for word := range words(text) {
		window[n%shingleWords] = word
		if n++; n >= shingleWords {
			c.lower(&signature, shingle(&window, n))
		}
	}
	if n > 0 && n < shingleWords {
		c.lower(&signature, shingle(&window, n))
	}
	return signature, n > 0
}

// shingle hashes the last words in their order; n counts all words so far.
func shingle(window *[shingleWords]uint64, n int) uint64 {
	h := uint64(0)
	for i := max(0, n-shingleWords); i < n; i++ {
		h = mix(h ^ window[i%shingleWords])
	}
	return h
}

func (c *cluster) lower(signature *[hashes]uint64, x uint64) {
	for i := range signature {
		signature[i] = min(signature[i], x*c.multiply[i]+c.add[i])
	}
}

// words gives the hash (FNV-1a) of each run of letters and digits.
func words(text []byte) func(yield func(uint64) bool) {
	const offset, prime = 0xcbf29ce484222325, 0x100000001b3
	return func(yield func(uint64) bool) {
		h, inside := uint64(offset), false
		for len(text) > 0 {
			r, size := utf8.DecodeRune(text)
			switch {
			case unicode.IsLetter(r) || unicode.IsDigit(r):
				for _, b := range text[:size] {
					h = (h ^ uint64(b)) * prime
				}
				inside = true
			case inside:
				if !yield(h) {
					return
				}
				h, inside = offset, false
			}
			text = text[size:]
		}
		if inside {
			yield(h)
		}
	}
}
