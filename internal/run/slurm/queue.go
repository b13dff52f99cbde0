package slurm

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/penstock/penstock"
)

// entry is one job, or one component of a heterogeneous one, as squeue has it.
type entry struct {
	job       string // the id of the first component
	component int
	state     string // such as RUNNING: squeue(1), JOB STATE CODES
	reason    string // such as Resources: squeue(1), JOB REASON CODES
	comment   string
}

// squeueFormat: id, with +N for a component; state; reason; comment.
const squeueFormat = "%i|%T|%r|%k"

// parseQueue reads squeue's lines of squeueFormat.
func parseQueue(text string) ([]entry, error) {
	var all []entry
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		f := strings.SplitN(line, "|", 4)
		if len(f) != 4 || f[1] == "" {
			return nil, fmt.Errorf("read squeue: %d fields in %.120q, want 4", len(f), line)
		}
		// An array's job is 12_3 or 12_[1-5]: none of ours, but of the same user.
		id, plus, _ := strings.Cut(f[0], "+")
		if strings.Contains(id, "_") {
			continue
		}
		if !jobForm.MatchString(id) {
			return nil, fmt.Errorf("read squeue: no job id in %.120q", line)
		}
		e := entry{job: id, state: f[1], reason: f[2], comment: f[3]}
		if plus != "" {
			n, err := strconv.Atoi(plus)
			if err != nil {
				return nil, fmt.Errorf("read squeue: no component in %.120q", line)
			}
			e.component = n
		}
		all = append(all, e)
	}
	return all, nil
}

// over: nothing of the job runs any more, nor ever will.
func (e entry) over() bool { return slices.Contains(endStates, e.state) }

var endStates = []string{
	"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT",
}

// waits: it has no nodes yet, or they are being made ready.
func (e entry) waits() bool {
	return slices.Contains([]string{"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT", "POWER_UP_NODE"}, e.state)
}

// queue asks squeue of this user's jobs, and keeps the answer for a moment:
// Slurm's controllers suffer from being asked.
type queue struct {
	commands commands
	keep     time.Duration

	mu      sync.Mutex
	at      time.Time // when the answer was asked for
	entries []entry
}

// since gives the jobs as they were at some moment after t.
func (q *queue) since(ctx context.Context, t time.Time) ([]entry, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.at.After(t) && time.Since(q.at) < q.keep {
		return q.entries, nil
	}
	at := time.Now()
	text, err := q.commands.run(ctx, "squeue", "--noheader", "--all", "--states=all", "--user="+strconv.Itoa(os.Getuid()), "--format="+squeueFormat)
	if err != nil {
		return nil, unavailable("what its jobs do", err)
	}
	entries, err := parseQueue(text)
	if err != nil {
		return nil, err
	}
	q.at, q.entries = at, entries
	return entries, nil
}

// findJob finds the job of an attempt by its comment. Of several the first one
// counts: the others will do nothing. It is empty if there is none.
func (e *Executor) findJob(ctx context.Context, attempt penstock.UID) (string, error) {
	all, err := e.queue.since(ctx, time.Now())
	if err != nil {
		return "", err
	}
	jobs := jobsOf(all, attempt)
	if len(jobs) == 0 {
		return "", nil
	}
	return jobs[0], nil
}

// jobsOf lists the jobs of an attempt, oldest first.
func jobsOf(all []entry, attempt penstock.UID) []string {
	var jobs []string
	for _, entry := range all {
		if uid, ok := attemptOf(entry.comment); ok && uid == attempt && entry.component == 0 {
			jobs = append(jobs, entry.job)
		}
	}
	slices.SortFunc(jobs, func(a, b string) int { return number(a) - number(b) })
	return jobs
}

func number(job string) int {
	n, _ := strconv.Atoi(job) // of jobForm
	return n
}
