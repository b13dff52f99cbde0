package webui

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/penstock/penstock/internal/store"
)

const (
	// repeatTime is how long the same reader's reads of the same page are one
	// entry: a page that stands open reads itself again every few seconds, and
	// would fill the log.
	repeatTime = time.Minute
	// maxRepeats bounds how many reads are remembered; past it some are written
	// down sooner than they had to be.
	maxRepeats = 10_000
	// maxTarget bounds a path in an entry, in bytes.
	maxTarget = 500
)

// trail writes the reading of pages into the audit log.
type trail struct {
	mu   sync.Mutex
	last map[string]time.Time // when a read was last written down
}

// news reports whether a read is to be written down.
func (t *trail) news(read string, at time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.last[read]; ok && at.Sub(last) < repeatTime {
		return false
	}
	if t.last == nil || len(t.last) >= maxRepeats {
		t.last = map[string]time.Time{}
	}
	t.last[read] = at
	return true
}

// read serves a page to who has a session, and writes that down. The program's
// own files are no secret of anybody's.
func (s *site) read(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if strings.HasPrefix(r.URL.Path, "/assets/") {
		next.ServeHTTP(w, r)
		return
	}
	s.Journal.Read(w, r, next, func(status int) (store.AuditEntry, bool) {
		p, at := principal(r.Context()), time.Now().UTC().Truncate(time.Microsecond)
		e := store.AuditEntry{
			At: at, Actor: p.Subject, Role: string(p.Role), Verb: r.Method, Target: strings.ToValidUTF8(r.URL.Path[:min(len(r.URL.Path), maxTarget)], "\uFFFD"),
			Outcome: strconv.Itoa(status), Detail: "page, token " + p.CredentialID,
		}
		return e, s.trail.news(p.CredentialID+" "+e.Outcome+" "+e.Target, at)
	})
}
