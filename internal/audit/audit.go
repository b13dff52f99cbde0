// Package audit checks and exports the log of who did what. Each entry holds
// the hash of the one before it (store.AuditEntry.Sum), so that no entry can be
// changed, dropped or put in without breaking every hash after it. What a chain
// can't show by itself, that its end was cut off, a checkpoint kept elsewhere
// does.
package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/store"
)

// page is how many entries are read in one transaction.
const page = 500

// maxLine bounds one line of an export, in bytes.
const maxLine = 1 << 20

// Checkpoint is how far a log went at some time: keep it where who runs the
// server can't change it.
type Checkpoint struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
}

// Report is what a check found.
type Report struct {
	Entries int64      `json:"entries"`
	Head    Checkpoint `json:"head"` // the last entry that is right
	// Broken is the first entry that isn't right; nil if the log is whole.
	Broken *Break `json:"broken,omitempty"`
}

// Break is where and how a log is broken.
type Break struct {
	Seq int64  `json:"seq"`
	Why string `json:"why"`
}

// Err is nil for a whole log, and Corrupt for a broken one.
func (r Report) Err() error {
	if r.Broken == nil {
		return nil
	}
	return &penstock.Error{
		Code: penstock.Corrupt, Where: fmt.Sprintf("audit entry %d", r.Broken.Seq), Msg: r.Broken.Why,
		Hint: fmt.Sprintf("trust the log up to entry %d only, and compare what follows with an export", r.Head.Seq),
	}
}

// Verify walks the whole log of st, page by page, recomputes every hash, and
// holds the log to the checkpoints known from before, in any order. The error
// is about reading; what is wrong with the log is in the Report.
func Verify(ctx context.Context, st store.Store, known ...Checkpoint) (Report, error) {
	c := newChain(known)
	err := walk(ctx, st, func(e store.AuditEntry) error {
		c.add(e)
		return nil
	})
	return c.end(), err
}

// walk calls fn for each entry of the log, in order.
func walk(ctx context.Context, st store.Store, fn func(store.AuditEntry) error) error {
	for after := int64(0); ; {
		var entries []store.AuditEntry
		err := st.View(ctx, func(tx store.Tx) (err error) {
			entries, err = tx.Audit(after, page)
			return err
		})
		if err != nil {
			return fmt.Errorf("read audit log after %d: %w", after, err)
		}
		for _, e := range entries {
			if err := fn(e); err != nil {
				return err
			}
			after = max(after, e.Seq)
		}
		if len(entries) < page {
			return nil
		}
	}
}

// chain checks entries as they come.
type chain struct {
	report Report
	known  map[int64]string
	last   int64 // of the known checkpoints
}

func newChain(known []Checkpoint) *chain {
	c := &chain{report: Report{Head: Checkpoint{Hash: store.Genesis}}, known: make(map[int64]string, len(known))}
	for _, k := range known {
		c.known[k.Seq] = k.Hash
		c.last = max(c.last, k.Seq)
	}
	return c
}

func (c *chain) add(e store.AuditEntry) {
	c.report.Entries++
	if c.report.Broken != nil {
		return
	}
	if why := c.wrong(e); why != "" {
		c.report.Broken = &Break{e.Seq, why}
		return
	}
	c.report.Head = Checkpoint{e.Seq, e.Hash}
}

// wrong says what is wrong with the entry that follows the head.
func (c *chain) wrong(e store.AuditEntry) string {
	head := c.report.Head
	known, isKnown := c.known[e.Seq]
	switch {
	case e.Seq != head.Seq+1:
		return fmt.Sprintf("entry %d follows entry %d: entries were taken out or put in", e.Seq, head.Seq)
	case e.Prev != head.Hash:
		return fmt.Sprintf("it follows an entry of hash %.12q but entry %d has %.12q", e.Prev, head.Seq, head.Hash)
	case e.Sum() != e.Hash:
		return fmt.Sprintf("its hash is %.12q but its content gives %.12q: it was changed", e.Hash, e.Sum())
	case isKnown && known != e.Hash:
		return fmt.Sprintf("its hash is %.12q but the checkpoint says %.12q: the log was written anew", e.Hash, known)
	}
	return ""
}

func (c *chain) end() Report {
	if c.report.Broken == nil && c.last > c.report.Head.Seq {
		c.report.Broken = &Break{c.report.Head.Seq + 1, fmt.Sprintf("the log ends at entry %d but a checkpoint is of entry %d: its end was cut off", c.report.Head.Seq, c.last)}
	}
	return c.report
}

// exported is one line of an export: an entry, or the checkpoint at its end.
type exported struct {
	*store.AuditEntry
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"`
}

// Export writes the log as JSON lines, an entry each, and a last line with the
// checkpoint, without which an export isn't whole. A log that is broken isn't
// exported past the break: that is an error with code Corrupt.
func Export(ctx context.Context, st store.Store, w io.Writer) (Checkpoint, error) {
	c := newChain(nil)
	out := bufio.NewWriter(w)
	lines := json.NewEncoder(out)
	err := walk(ctx, st, func(e store.AuditEntry) error {
		c.add(e)
		if err := c.report.Err(); err != nil {
			return err
		}
		return lines.Encode(exported{AuditEntry: &e})
	})
	if err != nil {
		return Checkpoint{}, fmt.Errorf("export audit log: %w", err)
	}
	head := c.end().Head
	if err := lines.Encode(exported{Checkpoint: &head}); err != nil {
		return Checkpoint{}, fmt.Errorf("export audit log: %w", err)
	}
	if err := out.Flush(); err != nil {
		return Checkpoint{}, fmt.Errorf("export audit log: %w", err)
	}
	return head, nil
}

// VerifyExport checks what Export wrote, without the server that wrote it.
func VerifyExport(r io.Reader, known ...Checkpoint) (Report, error) {
	c := newChain(known)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	var closing *Checkpoint
	for n := 1; lines.Scan(); n++ {
		var line exported
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil || closing != nil || (line.AuditEntry == nil) == (line.Checkpoint == nil) {
			return c.end(), &penstock.Error{Code: penstock.Invalid, Where: fmt.Sprintf("line %d", n), Msg: "it is neither an entry nor, at the end, the checkpoint", Err: err}
		}
		if closing = line.Checkpoint; closing == nil {
			c.add(*line.AuditEntry)
		}
	}
	if err := lines.Err(); err != nil {
		return c.end(), fmt.Errorf("read export: %w", err)
	}
	report := c.end()
	if closing == nil && report.Broken == nil {
		report.Broken = &Break{report.Head.Seq + 1, "the export doesn't end with its checkpoint: its end was cut off"}
	}
	if closing != nil && report.Broken == nil && *closing != report.Head {
		report.Broken = &Break{report.Head.Seq, fmt.Sprintf("the export's checkpoint is of entry %d", closing.Seq)}
	}
	return report, nil
}
