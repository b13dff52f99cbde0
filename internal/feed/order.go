package feed

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"github.com/penstock/penstock"
)

// Order is the sequence in which samples are handed out: one permutation of all
// of them after the other. It is part of the contract with a workload: what it
// gives never changes.
type Order struct {
	Seed    int64
	Digest  penstock.Digest // of the dataset version
	Samples int64           // at least 1
}

// At gives what stands at a position of the sequence, from 0 on: the epoch and
// the sample in it. It takes the same short time for every position.
func (o Order) At(position int64) (epoch, sample int64) {
	epoch = position / o.Samples
	return epoch, o.epoch(epoch).at(position % o.Samples)
}

// rounds of the Feistel network; four make it as good as random (Luby and
// Rackoff 1988), and more help where the halves are a few bits.
const rounds = 8

// permutation is one epoch: a bijection on 0 … n-1.
type permutation struct {
	n    uint64
	half int // bits of half a number
	keys [rounds]uint64
}

// epoch derives the keys of one permutation. SHA-256 makes those of neighbouring
// seeds and epochs as different as any.
func (o Order) epoch(epoch int64) permutation {
	text := make([]byte, 0, 160)
	text = append(text, "penstock feed order 1\n"...)
	for _, n := range []int64{o.Seed, epoch, o.Samples} {
		text = binary.LittleEndian.AppendUint64(text, uint64(n))
	}
	sum := sha256.Sum256(append(text, o.Digest...))
	p := permutation{n: uint64(o.Samples), half: max(1, (bits.Len64(uint64(o.Samples-1))+1)/2)}
	for i := range p.keys {
		p.keys[i] = mix(binary.LittleEndian.Uint64(sum[i%4*8:]) + uint64(i))
	}
	return p
}

// at permutes the numbers of 2·half bits, of which there are less than four
// times n (or four), and goes on until the result is below n. It gets there:
// the cycle that i lies on leads back to i itself (Black and Rogaway 2002).
func (p permutation) at(i int64) int64 {
	x := uint64(i)
	for {
		if x = p.feistel(x); x < p.n {
			return int64(x)
		}
	}
}

func (p permutation) feistel(x uint64) uint64 {
	mask := uint64(1)<<p.half - 1
	left, right := x>>p.half, x&mask
	for _, key := range p.keys {
		left, right = right, left^mix(right^key)>>(64-p.half)
	}
	return left<<p.half | right
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
