package spec

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// What a job gets that says nothing, and the most that it may ask for.
const (
	standardGrace   = 30 * time.Second
	maxGrace        = time.Hour
	standardKeep    = 2
	standardBackoff = 10 * time.Second
	maxBackoff      = 5 * time.Minute // what the doubling stops at
	standardSplit   = "train"
)

// job checks a JobSpec at a path: of a Job, or of a step of a Pipeline. name is
// the job's own name, or "".
func (c *checker) job(where, name string, s *v1.JobSpec) {
	c.tasks(where+".tasks", s)
	c.class(where, s)
	if s.Pool != "" || c.given(where+".pool") {
		c.name(where+".pool", s.Pool)
	}
	c.inputs(where, s)
	if s.Checkpoints != nil {
		defaulted(c, where+".checkpoints.keep", &s.Checkpoints.Keep, standardKeep)
		between(c, where+".checkpoints.keep", s.Checkpoints.Keep, 1, 1000)
	}
	c.outputs(where+".outputs", s)
	c.parameters(where+".parameters", s.Parameters)
	c.names(where+".secrets", s.Secrets)
	c.names(where+".after", s.After)
	if i := slices.Index(s.After, name); i >= 0 && name != "" {
		c.fault(where+".after", "", "the job can't wait for itself, %s", name)
	}
	c.lifetime(where, s)
}

func (c *checker) lifetime(where string, s *v1.JobSpec) {
	between(c, where+".priority", s.Priority, -maxPriority, maxPriority)
	atLeast(c, where+".deadline", time.Duration(s.Deadline), 0)
	between(c, where+".retries.max", s.Retries.Max, 0, 100)
	if s.Retries.Max > 0 {
		defaulted(c, where+".retries.backoff", &s.Retries.Backoff, v1.Duration(standardBackoff))
	}
	c.duration(where+".retries.backoff", s.Retries.Backoff, 0, maxBackoff)
	defaulted(c, where+".grace", &s.Grace, v1.Duration(standardGrace))
	c.duration(where+".grace", s.Grace, time.Millisecond, maxGrace)
}

func (c *checker) class(where string, s *v1.JobSpec) {
	classes := make([]string, 0, len(penstock.Classes()))
	for _, class := range penstock.Classes() {
		classes = append(classes, string(class))
	}
	if s.Class != "" && !slices.Contains(classes, string(s.Class)) {
		c.fault(where+".class", suggest(string(s.Class), classes), "%.60q is not a class of work", string(s.Class))
		return
	}
	for i, t := range s.Tasks {
		if t.Serve != nil && s.Class != "" && s.Class != penstock.ClassOnlineInference {
			c.fault(at(where+".tasks", i)+".serve", "leave serve or class out", "only %s serves, and class is %s", penstock.ClassOnlineInference, s.Class)
		}
	}
}

func (c *checker) tasks(where string, s *v1.JobSpec) {
	if len(s.Tasks) == 0 {
		c.fault(where, "give one task set at least, with name and command", "must not be empty")
	}
	sets := seen{}
	for i := range s.Tasks {
		c.taskSet(at(where, i), &s.Tasks[i])
		sets.add(c, at(where, i)+".name", s.Tasks[i].Name)
	}
	if world := worldSize(s); world > maxTasks {
		c.fault(where, "", "has %d tasks in all, more than %d", world, maxTasks)
	}
}

// worldSize is how many tasks the gang has.
func worldSize(s *v1.JobSpec) int {
	n := 0
	for _, t := range s.Tasks {
		n += min(max(t.Replicas, 0), maxTasks+1)
	}
	return n
}

// imageForm is what a reference to an image may look like: only the registry
// knows whether there is one.
var imageForm = regexp.MustCompile(`^[a-z0-9][a-zA-Z0-9._:/@-]{0,511}$`)

func (c *checker) taskSet(where string, t *v1.TaskSet) {
	c.name(where+".name", t.Name)
	defaulted(c, where+".replicas", &t.Replicas, 1)
	between(c, where+".replicas", t.Replicas, 1, maxTasks)
	c.command(where+".command", t.Command)
	c.standardNeeds(where+".resources", &t.Resources)
	c.environment(where+".env", t.Env)
	if t.Image != "" && !imageForm.MatchString(t.Image) {
		c.fault(where+".image", "write it as registries do, such as registry.example/team/train:1.4", "%.80q can't name a container image", t.Image)
	}
	c.folder(where, t)
	if t.Serve == nil {
		return
	}
	if r := t.Serve.Ready; !strings.HasPrefix(r, "/") || strings.HasPrefix(r, "//") || strings.ContainsFunc(r, notInURL) {
		c.fault(where+".serve.ready", "write for instance /health", "%.80q is not the path of a URL", r)
	}
}

func notInURL(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' || r == '\\' }

// environment keeps a task from changing what Penstock tells it.
func (c *checker) environment(where string, env map[string]string) {
	reserved := []string{"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}
	for _, name := range sortedKeys(env) {
		inner := under(where, name)
		switch {
		case !envForm.MatchString(name):
			c.fault(inner, "use letters, digits and '_', not starting with a digit", "%.80q can't be the name of a variable", name)
		case strings.HasPrefix(name, "PENSTOCK_") || slices.Contains(reserved, name):
			c.fault(inner, "take another name", "%s is set by Penstock", name)
		}
		c.argument(inner, env[name])
	}
}

// parameters become PENSTOCK_PARAM_<NAME>, so two that differ in case are one.
func (c *checker) parameters(where string, parameters map[string]string) {
	variables := seen{}
	for _, name := range sortedKeys(parameters) {
		inner := under(where, name)
		if !envForm.MatchString(name) {
			c.fault(inner, "use letters, digits and '_', not starting with a digit", "%.80q can't be the name of a parameter", name)
		}
		variables.add(c, inner, strings.ToUpper(name))
		c.argument(inner, parameters[name])
	}
}

// folder checks the folder with a task's code, and the files that the command
// line made of it. Over the API one without the other would start the task in an
// empty folder.
func (c *checker) folder(where string, t *v1.TaskSet) {
	dir := t.Dir
	switch {
	case dir == "":
	case strings.ContainsRune(dir, 0):
		c.fault(where+".dir", "", "can't hold a NUL")
	case path.Clean(dir) != dir && "./"+path.Clean(dir) != dir:
		c.fault(where+".dir", "write "+path.Clean(dir), "%.80q is not the shortest form of the path", dir)
	case c.file == "" && t.Code == nil:
		c.fault(where+".dir", "apply the manifest with the command line, which uploads them", "the files of %.80q didn't come with it", dir)
	}
	if t.Code == nil {
		return
	}
	c.digest(where+".code.digest", t.Code.Digest)
	paths := seen{}
	for i, f := range t.Code.Files {
		inner := at(where+".code.files", i)
		c.inside(inner+".path", f.Path)
		paths.add(c, inner+".path", f.Path)
		c.digest(inner+".digest", f.Digest)
		atLeast(c, inner+".size", f.Size, 0)
	}
}

func (c *checker) names(where string, list []string) {
	once := seen{}
	for i, name := range list {
		if c.name(at(where, i), name) {
			once.add(c, at(where, i), name)
		}
	}
}

func (c *checker) inputs(where string, s *v1.JobSpec) {
	data := seen{}
	for i := range s.Data {
		d, inner := &s.Data[i], at(where+".data", i)
		c.name(inner+".name", d.Name)
		data.add(c, inner+".name", d.Name)
		c.name(inner+".dataset", d.Dataset)
		if d.Version != "" || c.given(inner+".version") {
			c.digest(inner+".version", d.Version)
		}
		defaulted(c, inner+".split", &d.Split, standardSplit)
		c.name(inner+".split", d.Split)
	}
	if s.Feed != nil {
		c.feed(where+".feed", s.Feed, data, worldSize(s))
	}
	models := seen{}
	for i, m := range s.Models {
		inner := at(where+".models", i)
		c.name(inner+".name", m.Name)
		models.add(c, inner+".name", m.Name)
		c.reference(inner+".model", m.Model)
	}
}

func (c *checker) feed(where string, f *v1.Feed, data seen, world int) {
	if _, ok := data[f.Data]; !ok {
		c.fault(where+".data", suggest(f.Data, data.names()), "%.80q is not a name under data", f.Data)
	}
	between(c, where+".window", f.Window, 1, 1<<20)
	between(c, where+".batch", f.Batch, 1, 1<<20)
	if world > 0 && world <= maxTasks && f.Batch%world != 0 {
		c.fault(where+".batch", "", "%d samples can't be shared evenly by %d tasks", f.Batch, world)
	}
}

func (c *checker) outputs(where string, s *v1.JobSpec) {
	models := make([]string, 0, len(s.Models))
	for _, m := range s.Models {
		models = append(models, m.Name)
	}
	once := seen{}
	for i, o := range s.Outputs {
		inner, given := at(where, i), 0
		c.name(inner+".name", o.Name)
		once.add(c, inner+".name", o.Name)
		if o.Model != "" {
			given++
			c.target(inner+".model", penstock.KindModel, o.Model)
		}
		if o.Dataset != "" {
			given++
			c.target(inner+".dataset", penstock.KindDataset, o.Dataset)
		}
		if o.Metrics != nil {
			given++
			c.inside(inner+".metrics.file", o.Metrics.File)
			if !slices.Contains(models, o.Metrics.Model) {
				c.fault(inner+".metrics.model", suggest(o.Metrics.Model, models), "%.80q is not a name under models", o.Metrics.Model)
			}
		}
		if given != 1 {
			c.fault(inner, "say what the folder becomes", "must have exactly one of model, dataset and metrics, not %d", given)
		}
	}
}

// target checks the name of what an output becomes a version of.
func (c *checker) target(where string, kind penstock.Kind, name string) {
	if longest := longestName(kind); c.name(where, name) && len(name) > longest {
		c.fault(where, "", "has %d characters, more than the %d that the name of a %s may have", len(name), longest, kind)
	}
}
