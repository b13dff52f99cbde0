package replay

import (
	"io"
	"math"
	"time"
)

// ReadPhilly reads Microsoft's Philly job list as ElasticFlow prepared it:
// timestamp, duration in s, num_gpus, gpu_time in GPU-seconds, cluster. Rows come
// in no order; the virtual cluster is the queue.
func ReadPhilly(in io.Reader, name string) ([]Job, error) {
	var jobs []Job
	var epoch time.Time
	err := rows(in, name, []string{"timestamp", "duration", "num_gpus", "gpu_time", "cluster"}, func(r *row) {
		at, err := time.Parse(time.DateTime, r.text("timestamp"))
		if err != nil {
			r.fail("timestamp is %.40q, and takes one like %q", r.text("timestamp"), time.DateTime)
		}
		if len(jobs) == 0 {
			epoch = at
		}
		if at.Sub(epoch).Abs() > mostTime {
			r.fail("timestamp %s is more than a hundred years from that of the first row", at.Format(time.DateTime))
		}
		j := Job{
			Name: r.where, Where: r.where, Queue: r.text("cluster"),
			GPUs:     int(r.whole("num_gpus", 1, mostGPUs)),
			Arrive:   at.Sub(epoch),
			Duration: r.positive("duration", r.span("duration", time.Second)),
		}
		held, want := r.span("gpu_time", time.Second), j.Duration.Seconds()*float64(j.GPUs)
		if math.Abs(held.Seconds()-want) > 1 {
			r.fail("gpu_time is %.40q s, and %d GPUs for %s are %.0f s", r.text("gpu_time"), j.GPUs, j.Duration, want)
		}
		if j.Queue == "" {
			r.fail("cluster is empty")
		}
		jobs = append(jobs, j)
	})
	Sort(jobs)
	return jobs, err
}
