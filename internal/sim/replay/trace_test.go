package replay_test

import (
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/sim/replay"
)

const (
	muriHead   = "job_id,num_gpu,submit_time,iterations,model_name,batch_size,duration,interval,iteration_time,resource_time_0,resource_time_1,resource_time_2,priority\n"
	phillyHead = "timestamp,duration,num_gpus,gpu_time,cluster\n"
)

func TestMuriJobsWorkForTheirIterations(t *testing.T) {
	got, err := replay.ReadMuri(strings.NewReader(muriHead+
		"7,8,2000,1000,a2c,128,999,0,500,446,8,0,1\n"+
		"8,1,500,3,new,128,999,0,0.5,446,8,0,1\n"), "t.csv")
	if err != nil {
		t.Fatal(err)
	}
	want := []replay.Job{ // by arrival, from the first on; 1.5 % longer than 500 s
		{ID: 0, Name: "8", Where: "t.csv:3", Queue: "muri", GPUs: 1, Duration: 1522500 * time.Nanosecond, Restart: 10 * time.Second},
		{ID: 1, Name: "7", Where: "t.csv:2", Queue: "muri", GPUs: 8, Arrive: 1500 * time.Millisecond, Duration: 507500 * time.Millisecond, Restart: 46 * time.Second},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestPhillyJobsComeByTheirTimeStamps(t *testing.T) {
	got, err := replay.ReadPhilly(strings.NewReader(phillyHead+
		"2017-10-09 07:01:55,66.0,1,66.0,vc2\n"+
		"2017-10-09 07:01:00,10.5,4,42.0,vc1\n"+
		"2017-10-09 07:01:55,1.0,1,1.0,vc3\n\n"), "p.csv")
	if err != nil {
		t.Fatal(err)
	}
	want := []replay.Job{
		{ID: 0, Name: "p.csv:3", Where: "p.csv:3", Queue: "vc1", GPUs: 4, Duration: 10500 * time.Millisecond},
		{ID: 1, Name: "p.csv:2", Where: "p.csv:2", Queue: "vc2", GPUs: 1, Arrive: 55 * time.Second, Duration: 66 * time.Second},
		{ID: 2, Name: "p.csv:4", Where: "p.csv:4", Queue: "vc3", GPUs: 1, Arrive: 55 * time.Second, Duration: time.Second},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// TestABadRowIsAnErrorThatNamesItsLine is of every cell that can be wrong.
func TestABadRowIsAnErrorThatNamesItsLine(t *testing.T) {
	good := "2017-10-09 07:01:55,66.0,1,66.0,vc\n"
	for name, c := range map[string]struct {
		by         func(io.Reader, string) ([]replay.Job, error)
		text, want string
	}{
		"empty":                {replay.ReadPhilly, "", "f: there are no rows"},
		"only a header":        {replay.ReadPhilly, phillyHead, "f: there are no rows"},
		"no such column":       {replay.ReadPhilly, "timestamp,duration,num_gpus,cluster\n" + good, `f:1: there is no column "gpu_time"`},
		"another format":       {replay.ReadMuri, phillyHead + good, `f:1: there is no column "job_id"`},
		"a cell too few":       {replay.ReadPhilly, phillyHead + good + "2017-10-09 07:01:55,66.0,1,66.0\n", "f:3: wrong number of fields"},
		"a quote":              {replay.ReadPhilly, phillyHead + good + good + `2017-10-09 07:01:55,66.0,1,66.0,v"c` + "\n", "f:4: bare"},
		"a time stamp":         {replay.ReadPhilly, phillyHead + good + "2017-13-09 07:01:55,66.0,1,66.0,vc\n", `f:3: timestamp is "2017-13-09 07:01:55"`},
		"a year long ago":      {replay.ReadPhilly, phillyHead + good + "0017-10-09 07:01:55,66.0,1,66.0,vc\n", "f:3: timestamp 0017-10-09"},
		"no duration":          {replay.ReadPhilly, phillyHead + "2017-10-09 07:01:55,,1,66.0,vc\n", `f:2: duration is ""`},
		"duration 0":           {replay.ReadPhilly, phillyHead + "2017-10-09 07:01:55,0,1,0,vc\n", "f:2: duration"},
		"duration below 0":     {replay.ReadPhilly, phillyHead + "2017-10-09 07:01:55,-1,1,-1,vc\n", "f:2: duration"},
		"duration NaN":         {replay.ReadPhilly, phillyHead + "2017-10-09 07:01:55,NaN,1,1,vc\n", "f:2: duration"},
		"duration endless":     {replay.ReadPhilly, phillyHead + "2017-10-09 07:01:55,Inf,1,1,vc\n", "f:2: duration"},
		"half a GPU":           {replay.ReadPhilly, phillyHead + "2017-10-09 07:01:55,66.0,0.5,33.0,vc\n", `f:2: num_gpus is "0.5"`},
		"no GPU":               {replay.ReadPhilly, phillyHead + "2017-10-09 07:01:55,66.0,0,0,vc\n", "f:2: num_gpus"},
		"absurdly many GPUs":   {replay.ReadPhilly, phillyHead + "2017-10-09 07:01:55,66.0,99999999999999999999,0,vc\n", "f:2: num_gpus"},
		"a sum that is wrong":  {replay.ReadPhilly, phillyHead + "2017-10-09 07:01:55,66.0,2,66.0,vc\n", "f:2: gpu_time"},
		"no cluster":           {replay.ReadPhilly, phillyHead + "2017-10-09 07:01:55,66.0,1,66.0,\n", "f:2: cluster is empty"},
		"iterations":           {replay.ReadMuri, muriHead + "0,1,0,x,dqn,1,1,1,490,1,1,1,1\n", `f:2: iterations is "x"`},
		"no iteration":         {replay.ReadMuri, muriHead + "0,1,0,0,dqn,1,1,1,490,1,1,1,1\n", "f:2: iterations"},
		"an iteration of none": {replay.ReadMuri, muriHead + "0,1,0,5,dqn,1,1,1,0,1,1,1,1\n", "f:2: iteration_time"},
		"a hundred years":      {replay.ReadMuri, muriHead + "0,1,0,999999999,dqn,1,1,1,4900000,1,1,1,1\n", "hundred years"},
		"a submit before time": {replay.ReadMuri, muriHead + "0,1,-4,5,dqn,1,1,1,490,1,1,1,1\n", "f:2: submit_time"},
		"an iteration of 1 ns": {replay.ReadMuri, muriHead + "0,1,0,5,dqn,1,1,1,0.000001,1,1,1,1\n", "f:2: iteration_time"},
	} {
		jobs, err := c.by(strings.NewReader(c.text), "f")
		if penstock.CodeOf(err) != penstock.Invalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error that says %q", name, jobs, err, c.want)
		}
	}
}

func TestATraceThatIsNotThereIsSaidAloud(t *testing.T) {
	t.Setenv("PENSTOCK_TRACES", t.TempDir())
	_, err := replay.File("muri/trace1.csv")
	if penstock.CodeOf(err) != penstock.NotFound || !strings.Contains(err.Error(), "NOTHING WAS REPLAYED") || !strings.Contains(err.Error(), filepath.Join("muri", "trace1.csv")) {
		t.Errorf("it gave %v", err)
	}
}

// FuzzReaders wants an error or jobs that a replay would take, whatever is read.
func FuzzReaders(f *testing.F) {
	f.Add(muriHead + "7,8,2000,1000,a2c,128,999,0,500,446,8,0,1\n")
	f.Add(phillyHead + "2017-10-09 07:01:55,66.0,1,66.0,vc2\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, by := range []func(io.Reader, string) ([]replay.Job, error){replay.ReadMuri, replay.ReadPhilly} {
			jobs, err := by(strings.NewReader(text), "f")
			for i, j := range jobs {
				if err == nil && (j.ID != i || j.GPUs < 1 || j.Duration <= 0 || j.Arrive < 0 || i > 0 && j.Arrive < jobs[i-1].Arrive) {
					t.Errorf("read %+v", j)
				}
			}
		}
	})
}
