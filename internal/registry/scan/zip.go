package scan

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"fmt"
	"io"
)

// The bounds of looking into an archive.
const (
	maxMembers    = 4096
	maxMemberHead = 1 << 20 // bytes of a member that are looked at
)

// judgeZip looks into an archive, as torch and Keras write them, only to find
// out how bad it is: what holds pickles or code is refused in any case. Members
// are read as torch reads them, without regard to check sums and flags.
func judgeZip(f File) judgement {
	r, err := zip.NewReader(f.ReaderAt, f.Size)
	if err != nil {
		return judgement{Inconclusive, "a zip archive whose directory can't be read"}
	}
	detail := fmt.Sprintf("a zip archive of %d files isn't supported", len(r.File))
	for _, member := range r.File[:min(len(r.File), maxMembers)] {
		head := memberHead(member)
		p, err := probe(File{Size: int64(len(head)), ReaderAt: bytes.NewReader(head)})
		switch {
		case err != nil:
			return judgementOf(err)
		case p.danger != "":
			return judgement{Malicious, fmt.Sprintf("%.80q in it is a pickle that imports %s", member.Name, p.danger)}
		case p.is:
			detail = fmt.Sprintf("%.80q in it is a pickle: %s", member.Name, pickleRefused(p))
		}
	}
	return judgement{Inconclusive, detail}
}

// memberHead is the start of a member's content, as much as can be had of it.
func memberHead(member *zip.File) []byte {
	raw, err := member.OpenRaw()
	if err != nil {
		return nil
	}
	if member.Method == zip.Deflate {
		raw = flate.NewReader(raw)
	}
	head, _ := io.ReadAll(io.LimitReader(raw, maxMemberHead)) // what came before a fault counts
	return head
}

// endsAsZip reports whether f ends with a zip archive's last record: readers
// look for it there, whatever the file starts with.
func endsAsZip(f File) (bool, error) {
	const endRecord = 22
	if f.Size < endRecord {
		return false, nil
	}
	c := newCursor(f)
	c.off = f.Size - endRecord
	b, err := c.next(endRecord)
	return err == nil && bytes.HasPrefix(b, []byte("PK\x05\x06")), err
}
