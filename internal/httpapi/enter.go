package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/store"
)

// Bounds of a visit.
const (
	maxVisits   = 32               // open at once, for each token
	visitPause  = time.Second      // between two looks at whether it may go on
	visitDial   = 30 * time.Second // to reach a port
	visitWrite  = 5 * time.Minute  // for one write to a caller who doesn't read
	visitLinger = 10 * time.Second // without a byte, once one direction has ended
	visitEnd    = 2 * time.Second  // to tell the caller how it ended
)

// target is a task that can be entered.
type target struct {
	job     penstock.Ref
	attempt v1.Attempt
	rank    int
	entrant run.Entrant
}

// targetOf is the running task that a call names, for who may enter it.
func (s *Server) targetOf(r *http.Request) (target, error) {
	a, rank, err := s.taskOf(r, auth.Enter)
	if err != nil {
		return target{}, err
	}
	t := target{job: jobOf(r), attempt: a, rank: rank}
	if err := t.runs(a); err != nil {
		return target{}, err
	}
	name, executor, err := s.executorOf(r, a)
	if err != nil {
		return target{}, err
	}
	entrant, ok := executor.(run.Entrant)
	if !ok {
		return target{}, &penstock.Error{
			Code: penstock.Unsupported, Where: t.job.String(), Msg: fmt.Sprintf("tasks of executor %q can't be entered", name),
			Hint: "those in a Kubernetes cluster can",
		}
	}
	t.entrant = entrant
	return t, nil
}

// runs says why the task can't be entered, or no longer: nil while it runs. a is
// its attempt as it is now.
func (t target) runs(a v1.Attempt) error {
	var state string
	if t.rank < len(a.Status.Tasks) {
		state = a.Status.Tasks[t.rank].State
	}
	code, what := penstock.NotFound, "has ended"
	switch {
	case a.Metadata.Phase.Final():
	case state == "running" || state == "ready":
		return nil
	case state == "":
		code, what = penstock.Pending, "does not run yet"
	}
	return &penstock.Error{
		Code: code, Where: t.job.String(), Msg: fmt.Sprintf("rank %d of attempt %d %s", t.rank, a.Spec.Number, what),
		Hint: "only a task that runs can be entered; penstock ps tells which do",
	}
}

// visit is one open connection into a task. It ends with its caller, its task,
// its token and its server, and after EnterIdle without a byte.
type visit struct {
	target
	s   *Server
	w   http.ResponseWriter
	r   *http.Request
	ctx context.Context
	end context.CancelCauseFunc // the first cause counts

	switched bool         // the caller was told 101
	moved    atomic.Int64 // when the last byte went, in ns since 1970
	idle     atomic.Int64 // ns without a byte that end it
}

// visit takes the caller to the task, for do. Both the start, before anything of
// it is done, and the end are in the audit log; what says what is done.
func (s *Server) visit(w http.ResponseWriter, r *http.Request, t target, what string, do func(*visit) error) {
	leave, err := s.admitVisit(r)
	if err != nil {
		if f := (*failure)(nil); errors.As(err, &f) {
			w.Header().Set("Upgrade", v1.Upgrade) // RFC 9110, section 15.5.22
		}
		s.refuse(w, err)
		return
	}
	defer leave()
	where := fmt.Sprintf("attempt %d rank %d", t.attempt.Spec.Number, t.rank)
	if err := s.write(r, http.StatusSwitchingProtocols, "enters "+where+": "+what); err != nil {
		s.refuse(w, err)
		return
	}
	begun := time.Now()
	v := &visit{target: t, s: s, w: w, r: r}
	status, came := http.StatusSwitchingProtocols, "all went well"
	err = v.make(do)
	if exit := run.Exit(0); errors.As(err, &exit) {
		came = fmt.Sprintf("exit code %d", int(exit))
	} else if err != nil {
		f := s.failure(err)
		came = f.Detail
		if !v.switched {
			status = f.Status
			s.refuse(w, f)
		}
	}
	if err := s.write(r, status, fmt.Sprintf("leaves %s after %s: %s", where, time.Since(begun).Round(time.Millisecond), came)); err != nil {
		s.Log.Error("the end of a visit", "job", t.job, "error", err)
	}
}

// admitVisit lets a call in that can become a stream, if its token has not too
// many open.
func (s *Server) admitVisit(r *http.Request) (leave func(), err error) {
	asked := slices.ContainsFunc(strings.Split(r.Header.Get("Connection"), ","), func(option string) bool {
		return strings.EqualFold(strings.TrimSpace(option), "Upgrade")
	})
	if r.Method != http.MethodGet || r.ProtoMajor != 1 || r.ProtoMinor < 1 || !asked || r.Header.Get("Upgrade") != v1.Upgrade {
		return nil, upgradeRequired()
	}
	return s.visits.join(principal(r.Context()).CredentialID)
}

func upgradeRequired() *failure {
	return &failure{Problem: v1.Problem{
		Type: "urn:penstock:error:" + string(penstock.Unsupported), Title: string(penstock.Unsupported),
		Status: http.StatusUpgradeRequired, Code: penstock.Unsupported, Detail: "this call answers with a stream in both directions",
		Hint: "send Connection: Upgrade and Upgrade: " + v1.Upgrade + " over HTTP/1.1; a proxy in between must pass them on",
	}}
}

// make lets do work as long as the visit may last.
func (v *visit) make(do func(*visit) error) error {
	v.ctx, v.end = context.WithCancelCause(v.r.Context())
	defer context.AfterFunc(v.s.visits.open, func() { v.end(errStopping()) })()
	v.idle.Store(int64(v.s.EnterIdle))
	v.touch()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		v.watch()
	}()
	err := do(v)
	v.end(nil)
	<-watched
	return err
}

func errStopping() error {
	return &penstock.Error{Code: penstock.Unavailable, Msg: "the server is stopping"}
}

func (v *visit) touch() { v.moved.Store(time.Now().UnixNano()) }

// why is why the visit ended before what was done in it.
func (v *visit) why() error {
	cause := context.Cause(v.ctx)
	var known *penstock.Error
	switch {
	case errors.As(cause, &known):
		return cause
	case !v.switched:
		return errLeft(cause)
	}
	return errStopping() // from then on, it is the server's end that ends the request
}

func errLeft(err error) error {
	return &penstock.Error{Code: penstock.Canceled, Msg: "the caller left", Err: err}
}

// watch ends the visit once it may not go on: it looks after changes, but not
// more often than each visitPause, and each heartbeat.
func (v *visit) watch() {
	for {
		changed := v.s.Store.Changed()
		if err := v.mayStay(); err != nil {
			v.end(err)
			return
		}
		select {
		case <-v.ctx.Done():
			return
		case <-time.After(visitPause):
		}
		select {
		case <-v.ctx.Done():
			return
		case <-changed:
		case <-time.After(min(heartbeat, v.s.EnterIdle)):
		}
	}
}

func (v *visit) mayStay() error {
	limit := time.Duration(v.idle.Load())
	if time.Since(time.Unix(0, v.moved.Load())) > limit {
		return &penstock.Error{Code: penstock.OverLimit, Msg: fmt.Sprintf("no byte went for %s, which is the limit", limit)}
	}
	p, err := v.s.identify(v.r)
	if err != nil {
		return err
	}
	if err := v.s.allow(context.WithValue(v.ctx, principalKey{}, p), auth.Enter, v.job); err != nil {
		return err
	}
	var o v1.Object
	if err := v.s.Store.View(v.ctx, func(tx store.Tx) (err error) {
		o, err = tx.ByUID(v.attempt.Metadata.UID)
		return err
	}); err != nil {
		return err
	}
	a, err := v1.As[v1.AttemptSpec, v1.AttemptStatus](o)
	if err != nil {
		return err
	}
	return v.runs(a)
}

// visits are those that are open.
type visits struct {
	open  context.Context // until the server closes
	shut  context.CancelFunc
	group sync.WaitGroup

	mu     sync.Mutex
	counts map[string]int // by token
}

func newVisits() *visits {
	v := &visits{counts: map[string]int{}}
	v.open, v.shut = context.WithCancel(context.Background())
	return v
}

// join counts one more of a token, until it leaves.
func (v *visits) join(token string) (leave func(), err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch n := v.counts[token]; {
	case v.open.Err() != nil:
		return nil, errStopping()
	case n >= maxVisits:
		return nil, &penstock.Error{
			Code: penstock.OverLimit, Msg: fmt.Sprintf("this token has %d connections into tasks open; %d are allowed", n, maxVisits),
			Hint: "end some of them",
		}
	}
	v.counts[token]++
	v.group.Add(1)
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.counts[token]--; v.counts[token] == 0 {
			delete(v.counts, token)
		}
		v.group.Done()
	}, nil
}

// close ends all, and lets none in any more.
func (v *visits) close() {
	v.mu.Lock()
	v.shut()
	v.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		v.group.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(5 * visitEnd): // an executor that doesn't let go
	}
}
