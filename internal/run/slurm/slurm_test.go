package slurm_test

import (
	"testing"
	"time"

	"github.com/penstock/penstock/internal/run/slurm"
	"github.com/penstock/penstock/internal/run/slurm/slurmtest"
)

func open(t *testing.T, o slurm.Options) *slurm.Executor {
	t.Helper()
	o.Conf, o.Poll = slurmtest.Shared(t).Conf, 50*time.Millisecond
	e, err := slurm.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
