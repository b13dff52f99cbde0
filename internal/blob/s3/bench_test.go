package s3

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/blob/s3/s3test"
)

// BenchmarkPut and BenchmarkGet are to be held against those of the adapter fs
// with the same names (there a Put is of 16 MiB), on the same disk.
func BenchmarkPut(b *testing.B) {
	for name, size := range map[string]int{"16MiB": 16 << 20, "64MiB": 64 << 20} {
		b.Run(name, func(b *testing.B) {
			s := benchStore(b)
			data := random(1, size)
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				data[0], data[1], data[2] = byte(i), byte(i>>8), byte(i>>16)
				if err := s.Put(b.Context(), digest(data), bytes.NewReader(data)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkGet reads a blob whole, which checks its digest.
func BenchmarkGet(b *testing.B) {
	s := benchStore(b)
	data := random(1, 64<<20)
	if err := s.Put(b.Context(), digest(data), bytes.NewReader(data)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := readAll(b.Context(), s, digest(data)); err != nil {
			b.Fatal(err)
		}
	}
}

func benchStore(b *testing.B) *Store {
	b.Helper()
	o := options(s3test.Start(b))
	o.PartSize = DefaultPartSize
	return mustOpen(b, o)
}

func readAll(ctx context.Context, s *Store, d penstock.Digest) error {
	r, err := s.Open(ctx, d, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}
