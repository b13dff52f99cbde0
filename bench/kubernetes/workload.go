package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// job is a gang of like tasks, each in a pod of its own. Most gangs are one task.
type job struct {
	Name  string
	Tasks int
	GPUs  int64         // of each task
	Run   time.Duration // how long each task runs
}

// shapes are the sizes of jobs as shared clusters see them: most want one GPU,
// and of what is run the few big ones take most. Weights are of a hundred.
var shapes = []struct {
	weight, tasks int
	gpus          int64
}{
	{40, 1, 1}, {18, 1, 2}, {18, 1, 4}, {16, 1, 8},
	{4, 4, 1}, {2, 4, 4}, {2, 2, 8},
}

// workload makes n jobs, the same ones each time. They run for half of about to
// one and a half of it.
func workload(n int, about time.Duration) []job {
	random := rand.New(rand.NewPCG(2026, 11))
	jobs := make([]job, n)
	for i := range jobs {
		at := random.IntN(100)
		shape := shapes[0]
		for _, s := range shapes {
			shape = s
			if at -= s.weight; at < 0 {
				break
			}
		}
		jobs[i] = job{
			Name: fmt.Sprintf("job-%04d", i), Tasks: shape.tasks, GPUs: shape.gpus,
			Run: about/2 + time.Duration(random.Int64N(int64(about))),
		}
	}
	return jobs
}

// sum counts the pods and the GPUs of all jobs, and the gangs of several pods.
func sum(jobs []job) (pods int, gpus int64, gangs int) {
	for _, j := range jobs {
		pods += j.Tasks
		gpus += int64(j.Tasks) * j.GPUs
		if j.Tasks > 1 {
			gangs++
		}
	}
	return pods, gpus, gangs
}

// submitters is how many jobs are submitted at once.
const submitters = 8

// each submits all jobs, in order but for those that are under way at once, and
// joins what failed.
func each(jobs []job, submit func(job) error) error {
	queue := make(chan job)
	failed := make(chan error, len(jobs))
	var group sync.WaitGroup
	for range submitters {
		group.Go(func() {
			for j := range queue {
				failed <- submit(j)
			}
		})
	}
	for _, j := range jobs {
		queue <- j
	}
	close(queue)
	group.Wait()
	close(failed)
	var errs []error
	for err := range failed {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
