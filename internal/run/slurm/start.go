package slurm

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

//go:embed batch.sh
var batchScript string

//go:embed task.sh
var taskScript string

// gang is the file that says what was submitted. It is written before sbatch is
// started, without Job, and once more when the job is known.
type gang struct {
	Tasks []part    `json:"tasks"`         // by rank
	Job   string    `json:"job,omitempty"` // the id of its first component
	At    time.Time `json:"at,omitzero"`   // when the job was known
}

// part is what a task has of the job.
type part struct {
	Component int      `json:"component"`
	Node      string   `json:"node,omitempty"` // as planned
	CPUs      int64    `json:"cpus"`
	Memory    int64    `json:"memory,omitempty"` // MiB
	Devices   int64    `json:"devices,omitempty"`
	Gres      string   `json:"gres,omitempty"`
	IDs       []string `json:"ids,omitempty"` // of the devices, in Penstock's books
}

func readGang(dir string) (gang, error) {
	var g gang
	b, err := os.ReadFile(filepath.Join(dir, gangFile))
	if err != nil {
		return g, fmt.Errorf("read attempt folder: %w", err)
	}
	if err := json.Unmarshal(b, &g); err != nil {
		return g, fmt.Errorf("read attempt folder: %s: %w", gangFile, err)
	}
	// The job that runs the attempt may be another than the one whose answer came.
	if link, err := os.Readlink(filepath.Join(dir, electedLink)); err == nil {
		if id, ok := strings.CutPrefix(link, "job-"); ok && jobForm.MatchString(id) {
			g.Job = id
		}
	}
	return g, nil
}

func (g gang) write(dir string) error {
	b, err := json.Marshal(g)
	if err != nil {
		return fmt.Errorf("encode %s: %w", gangFile, err)
	}
	if err := replace(filepath.Join(dir, gangFile), b, 0o600); err != nil {
		return fmt.Errorf("write attempt folder: %w", err)
	}
	return nil
}

// started notes the job of an attempt.
func (g gang) started(dir, job string) error {
	g.Job, g.At = job, time.Now()
	return g.write(dir)
}

var jobForm = regexp.MustCompile(`^[0-9]{1,10}$`)

// Start implements run.Executor.
func (e *Executor) Start(ctx context.Context, orders []v1.Order) error {
	if len(orders) == 0 {
		return &penstock.Error{Code: penstock.Invalid, Msg: "a gang has one task at least"}
	}
	attempt := orders[0].Attempt
	dir, err := e.attemptDir(attempt)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	have, err := readGang(dir)
	switch {
	case err == nil && have.Job != "":
		return nil
	case err == nil:
		// A submission was begun, and nobody knows how it went.
		if job, err := e.findJob(ctx, attempt); err != nil || job != "" {
			return errors.Join(err, record(have, dir, job))
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	l, err := e.lay(ctx, orders)
	if err != nil {
		return err
	}
	if err := e.prepare(dir, orders, l); err != nil {
		return errors.Join(err, e.drop(dir))
	}
	return e.submit(ctx, dir, orders, l)
}

// record notes a job that was found, if any was.
func record(g gang, dir, job string) error {
	if job == "" {
		return nil
	}
	return g.started(dir, job)
}

// lay makes the layout of a gang.
func (e *Executor) lay(ctx context.Context, orders []v1.Order) (layout, error) {
	names, err := e.gresNames(ctx, orders)
	if err != nil {
		return layout{}, err
	}
	demands := make([]demand, len(orders))
	for i, o := range orders {
		if o.Image != "" {
			return layout{}, &penstock.Error{
				Code: penstock.Unsupported, Msg: fmt.Sprintf("rank %d wants the container image %.80q, and tasks of this executor run on the nodes as they are", o.Rank, o.Image),
				Hint: "leave out image, or choose a pool of a Kubernetes cluster",
			}
		}
		if o.Rank != i {
			return layout{}, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("order %d is that of rank %d", i, o.Rank)}
		}
		if e.options.Placement == Planned && !nodeForm.MatchString(o.Node) {
			return layout{}, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%.80q can't be the name of a node", o.Node)}
		}
		if demands[i], err = demandOf(o, func(r penstock.Resource) string { return names[r] }); err != nil {
			return layout{}, err
		}
	}
	if e.options.Placement == Site {
		return sited(orders, demands), nil
	}
	return planned(orders, demands), nil
}

var nodeForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// prepare writes what the batch script and the tasks read.
func (e *Executor) prepare(dir string, orders []v1.Order, l layout) error {
	for rank := range orders {
		if err := os.MkdirAll(string(rankFolder(dir, rank)), 0o700); err != nil {
			return fmt.Errorf("make task folder: %w", err)
		}
	}
	contact := orders[0].Server
	if contact.URL != "" {
		contact.AddressFile = "" // a file of the server's machine
	}
	c, err := json.Marshal(contact)
	if err != nil {
		return fmt.Errorf("encode contact: %w", err)
	}
	files := map[string]string{contactFile: string(c)}
	if e.options.Placement == Planned {
		files["master"] = orders[0].Node + "\n"
	}
	for n, s := range l.steps {
		files[fmt.Sprintf("step-%d", n)] = strings.Join(l.options(n), "\n") + "\n"
		files[fmt.Sprintf("ranks-%d", n)] = s.ranks()
		if s.perNode > 0 {
			files[fmt.Sprintf("hosts-%d", n)] = s.hosts()
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := replace(filepath.Join(dir, name), []byte(files[name]), 0o600); err != nil {
			return fmt.Errorf("write attempt folder: %w", err)
		}
	}
	if err := replace(filepath.Join(dir, "task"), []byte(taskScript), 0o700); err != nil {
		return fmt.Errorf("write attempt folder: %w", err)
	}
	if err := os.Symlink(e.agent, filepath.Join(dir, "agent")); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write attempt folder: %w", err)
	}
	return nil
}

// submit hands the job over. If Slurm says no, nothing is left of the attempt;
// if nobody knows what it says, the next Start looks.
func (e *Executor) submit(ctx context.Context, dir string, orders []v1.Order, l layout) error {
	first, g := orders[0], gang{Tasks: l.parts(orders)}
	if err := g.write(dir); err != nil {
		return err
	}
	answer, err := e.commands.feed(ctx, dir, strings.NewReader(batchScript), "sbatch", e.arguments(first, l)...)
	var f *failure
	if errors.As(err, &f) && f.refused() {
		return errors.Join(refusal(f), e.drop(dir))
	}
	job, _, _ := strings.Cut(strings.TrimSpace(answer), ";") // JOB;CLUSTER
	if err != nil || !jobForm.MatchString(job) {
		if job, err := e.findJob(context.WithoutCancel(ctx), first.Attempt); err == nil && job != "" {
			return g.started(dir, job)
		}
		return unavailable("whether it took the job", err)
	}
	if err := g.started(dir, job); err != nil {
		return err
	}
	// For accounting, where this user may: it isn't for users to write.
	_, _ = e.commands.run(ctx, "scontrol", "update", "JobId="+job, "AdminComment="+comment(first))
	return nil
}

// refusal is Slurm's no to a job, in its own words.
func refusal(f *failure) error {
	_, words, found := strings.Cut(f.words, "Batch job submission failed: ")
	if !found {
		words = f.words
	}
	return &penstock.Error{
		Code: penstock.Invalid, Msg: "Slurm refused the job: " + words, Err: f,
		Hint: "see what the partition, account and QOS of this pool's executor allow (scontrol show partition)",
	}
}

// arguments are all of sbatch's.
func (e *Executor) arguments(first v1.Order, l layout) []string {
	var args []string
	for i, c := range l.components {
		if i > 0 {
			args = append(args, ":")
		}
		args = append(args, e.shared(first)...)
		args = append(args, c.arguments()...)
		args = append(args, e.options.Arguments...)
	}
	return args
}

// shared are sbatch's arguments that all components have.
func (e *Executor) shared(o v1.Order) []string {
	args := []string{
		"--parsable", "--export=ALL", "--no-requeue", "--output=" + jobLog, "--open-mode=append", "--kill-on-invalid-dep=yes",
		"--job-name=" + jobName(o), "--comment=" + comment(o),
	}
	for name, value := range map[string]string{"partition": e.options.Partition, "account": e.options.Account, "qos": e.options.QOS} {
		if value != "" {
			args = append(args, "--"+name+"="+value)
		}
	}
	slices.Sort(args[8:])
	if e.fleet.wholeCores() {
		// Slurm counts threads otherwise, and rounds up to cores.
		args = append(args, "--threads-per-core=1")
	}
	if limit := time.Duration(o.Deadline); limit > 0 {
		args = append(args, timeLimit(limit, time.Duration(o.Grace))...)
	}
	return args
}

// timeLimit is Slurm's for a job with a deadline. The control plane ends it at
// the deadline; Slurm does somewhat later, if nobody else does, and lets the
// tasks know their grace before. Its limits are whole minutes, and its signals
// come up to a minute early (sbatch(1), --signal).
func timeLimit(deadline, grace time.Duration) []string {
	minutes := int64((deadline+grace+3*time.Minute)/time.Minute) + 1
	return []string{
		"--time=" + strconv.FormatInt(minutes, 10),
		fmt.Sprintf("--signal=TERM@%d", min(int64((grace+time.Minute)/time.Second), 65535)),
	}
}

// jobName is what people see in squeue.
func jobName(o v1.Order) string {
	return plain(fmt.Sprintf("penstock-%s-%s-%d", o.Project, o.Job, o.Number), 120)
}

// commentPrefix begins the comment of each of our jobs; the attempt's UID
// follows.
const commentPrefix = "penstock attempt="

// comment has our labels as NAME=VALUE, and before them the UID by which a job
// is found again.
func comment(o v1.Order) string {
	text := commentPrefix + string(o.Attempt)
	add := func(name, value string) {
		if more := " " + plain(name, 80) + "=" + plain(value, 80); len(text)+len(more) <= maxComment {
			text += more
		}
	}
	add("project", o.Project)
	add("job", o.Job)
	add("number", strconv.Itoa(o.Number))
	for _, name := range slices.Sorted(maps.Keys(o.Labels)) {
		add(name, o.Labels[name])
	}
	return text
}

// maxComment bounds a comment: Slurm's accounting has 1024 bytes for it.
const maxComment = 1000

// plain keeps what needs no quoting in any of Slurm's outputs, and at most so
// many bytes.
func plain(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/@+", r) {
			return r
		}
		return '_'
	}, s)
	return s[:min(len(s), most)]
}

// attemptOf reads the attempt's UID from a job's comment.
func attemptOf(comment string) (penstock.UID, bool) {
	rest, ok := strings.CutPrefix(comment, commentPrefix)
	uid, _, _ := strings.Cut(rest, " ")
	return penstock.UID(uid), ok && uidForm.MatchString(uid)
}
