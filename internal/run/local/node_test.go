package local

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

func TestDevicesAreReadFromNvidiaSMI(t *testing.T) {
	got, err := parseDevices("GPU-5c0d, NVIDIA H100 80GB HBM3, 81559\nGPU-77aa, NVIDIA H100 80GB HBM3, 81559\n\nGPU-9, NVIDIA GB10, [N/A]\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []v1.Device{
		{ID: "GPU-5c0d", Type: "h100", Memory: 81559 << 20},
		{ID: "GPU-77aa", Type: "h100", Memory: 81559 << 20},
		{ID: "GPU-9", Type: "gb10"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"No devices were found", "GPU-1, NVIDIA L4", ", NVIDIA L4, 1", "GPU-1, NVIDIA, 1"} {
		if devices, err := parseDevices(bad); err == nil {
			t.Errorf("%q gives %v", bad, devices)
		}
	}
}

func TestANodeHasItsDevicesAsCapacity(t *testing.T) {
	bin := t.TempDir()
	script := "#!/bin/sh\necho 'GPU-1, NVIDIA L4, 23034'\necho 'GPU-2, NVIDIA L4, 23034'\n"
	if err := os.WriteFile(filepath.Join(bin, "nvidia-smi"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	e, err := New(Options{Dir: t.TempDir(), AgentPath: "/bin/sh", Node: "here"})
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := e.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := nodes[0].Capacity["l4"]; got != 2000 || len(nodes[0].Devices) != 2 {
		t.Errorf("capacity is %d of l4 with devices %v, want 2000 with two", got, nodes[0].Devices)
	}
}

func TestABrokenNvidiaSMIIsAnErrorAndNotZeroDevices(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "nvidia-smi"), []byte("#!/bin/sh\nexit 9\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	e, err := New(Options{Dir: t.TempDir(), AgentPath: "/bin/sh", Node: "here"})
	if err != nil {
		t.Fatal(err)
	}
	if nodes, err := e.Nodes(t.Context()); penstock.CodeOf(err) != penstock.Unavailable {
		t.Errorf("got %v, %v", nodes, err)
	}
}

func TestMemoryIsReadFromMeminfo(t *testing.T) {
	got, err := parseMemTotal("MemTotal:       16374956 kB\nMemFree:  1 kB\n")
	if got != 16374956<<10 || err != nil {
		t.Errorf("got %d, %v", got, err)
	}
	if _, err := parseMemTotal("MemFree: 1 kB\n"); err == nil {
		t.Error("no MemTotal, and no error")
	}
}
