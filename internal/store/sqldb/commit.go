package sqldb

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/penstock/penstock"
)

const (
	// commitPatience is how long the answer to a commit is waited for, before the
	// connection is taken for cut; then again, how long what became of it is
	// looked for. Syncing a log takes seconds on a very bad day.
	commitPatience = 30 * time.Second
	// Between repetitions a transaction waits from half of to the whole of a time
	// that doubles from shortest to longest, so that those who met once don't
	// meet again.
	shortest = 4 * time.Millisecond
	longest  = 512 * time.Millisecond
)

var errNoAnswer = errors.New("the database didn't answer a commit")

// seal prepares the commit.
func (t *Tx) seal() (seal string, err error) {
	if t.failed != nil {
		return "", t.failed
	}
	if t.dialect.Seal == nil {
		return "", nil
	}
	w := Facts
	if t.changed {
		w = Changes
	}
	if seal, err = t.dialect.Seal(t.ctx, t.tx, w); err != nil {
		return "", t.fail("prepare the commit", err)
	}
	return seal, nil
}

// commit commits. Without an answer it finds out what became of the commit:
// nothing may be done twice, and nothing that was done be reported as lost.
func (s *Store) commit(ctx context.Context, t *Tx, seal string) (Verdict, error) {
	const what = "commit the change"
	d := s.config.Dialect
	err := t.tx.Commit()
	if err != nil && (d.Judge == nil || d.Judge(err) != Cut || seal == "") {
		return d.judge(err), d.explain(ctx, what, err)
	}
	if t.changed {
		// Also when it may have been in vain: a wake-up too many does no harm.
		defer s.Wake()
	}
	if err == nil {
		return Final, nil
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitPatience)
	defer cancel()
	committed, lookErr := d.Sealed(look, seal)
	switch {
	case lookErr != nil:
		return Final, &penstock.Error{
			Code: penstock.Unavailable, Msg: what + ": the connection broke, and it isn't known whether it was done before",
			Hint: "look whether it was done before you repeat it; a call with an idempotency key can be repeated as it is",
			Err:  errors.Join(err, lookErr),
		}
	case committed:
		return Final, nil
	}
	return Repeat, d.explain(context.WithoutCancel(ctx), what, err)
}

// repeat calls try until its verdict isn't Repeat, patience or ctx is at an end.
func (s *Store) repeat(ctx context.Context, try func() (Verdict, error)) error {
	var until time.Time
	for wait := shortest; ; wait = min(2*wait, longest) {
		v, err := try()
		if err == nil || v != Repeat {
			return err
		}
		if until.IsZero() {
			until = time.Now().Add(s.config.Patience)
		}
		pause := wait/2 + rand.N(wait/2)
		if time.Now().Add(pause).After(until) {
			return err
		}
		select {
		case <-ctx.Done():
			return s.config.Dialect.explain(ctx, "repeat a transaction", context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}
