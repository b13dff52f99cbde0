package replay

import (
	"io"
	"time"
)

// stretch is by how much Muri's simulator slows every iteration of every policy
// down, in thousandths (jobs.py, itertime_overhead_list[0]).
const stretch = 1015

// ReadMuri reads a trace of Muri's simulator (SIGCOMM'22): job_id, num_gpu,
// submit_time in ms, iterations, model_name, iteration_time in ms. A job works
// for all its iterations, each 1.5 % longer than profiled, as it does there; the
// column duration isn't what is simulated. Restart is what starting the model
// was measured to take (run_sim.py, overhead_dict).
func ReadMuri(in io.Reader, name string) ([]Job, error) {
	var jobs []Job
	err := rows(in, name, []string{"job_id", "num_gpu", "submit_time", "iterations", "model_name", "iteration_time"}, func(r *row) {
		iterations := r.whole("iterations", 1, 1<<40)
		each := r.positive("iteration_time", r.span("iteration_time", time.Millisecond).Truncate(time.Microsecond))
		j := Job{
			Name: r.text("job_id"), Where: r.where, Queue: "muri",
			GPUs:     int(r.whole("num_gpu", 1, mostGPUs)),
			Arrive:   r.span("submit_time", time.Millisecond),
			Duration: each / 1000 * stretch,
		}
		if r.err == nil && iterations > int64(mostTime/j.Duration) {
			r.fail("%d iterations of %s are more than a hundred years", iterations, j.Duration)
		}
		j.Duration *= time.Duration(iterations)
		j.Restart = muriRestart(r.text("model_name"), j.GPUs)
		jobs = append(jobs, j)
	})
	Sort(jobs)
	return jobs, err
}

// muriRestart is how long a model takes to start, as Muri's authors measured it
// on 1 and on 8 GPUs; one that they didn't measure counts 10 s, as theirs does.
func muriRestart(model string, gpus int) time.Duration {
	single, many, known := 0, 0, true
	switch model {
	case "vgg16", "vgg19":
		single, many = 7, 9
	case "resnet18":
		single, many = 4, 7
	case "shufflenet_v2_x1_0":
		single, many = 4, 5
	case "a2c":
		single, many = 38, 46
	case "dqn":
		single, many = 5, 6
	default:
		known = false
	}
	switch {
	case !known:
		return 10 * time.Second
	case gpus < 8:
		return time.Duration(single) * time.Second
	}
	return time.Duration(many) * time.Second
}
