package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// meter reads what was used by this process and, if it isn't 0, by a PostgreSQL
// server: its first process and that one's children.
type meter struct{ server int }

// use is time that passed and time of CPUs that was used.
type use struct{ wall, cpu time.Duration }

func (u use) since(before use) use { return use{wall: u.wall - before.wall, cpu: u.cpu - before.cpu} }

var origin = time.Now()

func (m meter) read() use {
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return use{}
	}
	cpu := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	if m.server != 0 {
		cpu += family(m.server)
	}
	return use{wall: time.Since(origin), cpu: cpu}
}

// tick is the unit of /proc's CPU times, fixed for user space: see proc_pid_stat(5)
// and sysconf(3), _SC_CLK_TCK.
const tick = 10 * time.Millisecond

// family is the CPU time of a process, its children, and those of them that are
// over.
func family(pid int) (cpu time.Duration) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it is over
		}
		// The name, in parentheses, may have anything in it.
		name := strings.LastIndexByte(string(text), ')')
		fields := strings.Fields(string(text[name+1:]))
		own := strings.HasPrefix(string(text), strconv.Itoa(pid)+" ")
		if len(fields) < 15 || !own && fields[1] != strconv.Itoa(pid) {
			continue
		}
		ticks := fields[11:13] // utime, stime
		if own {
			ticks = fields[11:15] // and those of children that are over
		}
		for _, text := range ticks {
			n, err := strconv.ParseInt(text, 10, 64)
			if err == nil {
				cpu += time.Duration(n) * tick
			}
		}
	}
	return cpu
}

// syncTime is how long the disk takes to keep a page: the median of a hundred.
func syncTime(folder string) (time.Duration, error) {
	f, err := os.Create(filepath.Join(folder, "sync"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	took := make([]time.Duration, 100)
	for i := range took {
		began := time.Now()
		if _, err := f.Write(make([]byte, 8192)); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, fmt.Errorf("sync %s: %w", f.Name(), err)
		}
		took[i] = time.Since(began)
	}
	return time.Duration(quantile(took, 0.5) * float64(time.Millisecond)), nil
}

// quantile is in milliseconds: of n in order the one at ⌈q·n⌉, counted from one.
func quantile(took []time.Duration, q float64) float64 {
	if len(took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(took))
	i := max(0, int(math.Ceil(q*float64(len(sorted))))-1)
	return sorted[i].Seconds() * 1e3
}

func round(x float64) float64 { return math.Round(x*100) / 100 }
