package spec

import (
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// runDigits is room for the number of a run in <pipeline>-<run>-<step>.
const runDigits = 6

func (c *checker) pipeline(name string, s *v1.PipelineSpec) {
	if len(s.Triggers) == 0 {
		c.fault("spec.triggers", "give one at least: monitor, dataset or every", "must not be empty")
	}
	for i, t := range s.Triggers {
		c.trigger(at("spec.triggers", i), t)
	}
	if len(s.Steps) == 0 {
		c.fault("spec.steps", "give one at least, with name and job", "must not be empty")
	}
	names := seen{}
	for i := range s.Steps {
		step, path := &s.Steps[i], at("spec.steps", i)
		names.add(c, path+".name", step.Name)
		if long := len(name) + len(step.Name) + runDigits + 2; c.name(path+".name", step.Name) && long > longestName(penstock.KindJob) {
			c.fault(path+".name", "take a shorter name for the step or the pipeline",
				"%s-<run>-%s is longer than the %d characters of a job's name", name, step.Name, longestName(penstock.KindJob))
		}
		c.job(path+".job", "", &step.Job)
	}
	c.selfTrigger(s)
}

func (c *checker) trigger(path string, t v1.Trigger) {
	given := 0
	if t.Monitor != "" {
		given++
		c.name(path+".monitor", t.Monitor)
	}
	if t.Dataset != "" {
		given++
		c.name(path+".dataset", t.Dataset)
	}
	if t.Every != 0 {
		given++
		atLeast(c, path+".every", time.Duration(t.Every), time.Second)
	}
	if given != 1 {
		c.fault(path, "", "must have exactly one of monitor, dataset and every, not %d", given)
	}
}

// selfTrigger refuses a pipeline that would start itself for ever: a step makes
// a version of the dataset that triggers it.
func (c *checker) selfTrigger(s *v1.PipelineSpec) {
	made := map[string]string{}
	for _, step := range s.Steps {
		for _, o := range step.Job.Outputs {
			if o.Dataset != "" {
				made[o.Dataset] = step.Name
			}
		}
	}
	for i, t := range s.Triggers {
		if step := made[t.Dataset]; step != "" {
			c.fault(at("spec.triggers", i)+".dataset", "write to another dataset", "circular: step %s makes a version of %s, which starts the pipeline again", step, t.Dataset)
		}
	}
}
