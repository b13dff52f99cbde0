package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
)

// smiTime bounds nvidia-smi, which hangs when a driver does.
const smiTime = 10 * time.Second

// Nodes implements run.Executor: this machine, with its NVIDIA devices where
// nvidia-smi is installed.
func (e *Executor) Nodes(ctx context.Context) ([]v1.Node, error) {
	meminfo, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, fmt.Errorf("read memory size: %w", err)
	}
	memory, err := parseMemTotal(string(meminfo))
	if err != nil {
		return nil, err
	}
	devices, err := nvidia(ctx)
	if err != nil {
		return nil, err
	}
	node := v1.Node{Name: e.node, Devices: devices, Capacity: penstock.Resources{
		penstock.CPU: penstock.Amount(1000 * runtime.NumCPU()), penstock.Memory: penstock.Amount(memory),
	}}
	for _, d := range devices {
		node.Capacity[d.Type] = node.Capacity[d.Type].Add(1000)
	}
	return []v1.Node{node}, nil
}

// parseMemTotal reads the line "MemTotal: 16384 kB" of proc(5), meminfo, in bytes.
func parseMemTotal(meminfo string) (int64, error) {
	for line := range strings.Lines(meminfo) {
		rest, ok := strings.CutPrefix(line, "MemTotal:")
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read memory size: %w", err)
		}
		return n << 10, nil
	}
	return 0, errors.New("read memory size: /proc/meminfo has no MemTotal")
}

func nvidia(ctx context.Context) ([]v1.Device, error) {
	path, err := exec.LookPath("nvidia-smi")
	if err != nil {
		return nil, nil // no NVIDIA driver here
	}
	ctx, cancel := context.WithTimeout(ctx, smiTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, &penstock.Error{
			Code: penstock.Unavailable, Msg: "nvidia-smi could not list the devices", Err: err,
			Hint: "run nvidia-smi on the machine, or declare the pool's nodes yourself",
		}
	}
	return parseDevices(string(out))
}

// parseDevices reads nvidia-smi's lines "GPU-<uuid>, NVIDIA H100 80GB HBM3, 81559",
// with the memory in MiB.
func parseDevices(csv string) ([]v1.Device, error) {
	var devices []v1.Device
	for line := range strings.Lines(csv) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		fields := strings.Split(line, ",")
		if len(fields) != 3 {
			return nil, fmt.Errorf("read nvidia-smi: %d fields in %.80q, want 3", len(fields), line)
		}
		device := v1.Device{ID: strings.TrimSpace(fields[0]), Type: run.DeviceType(fields[1])}
		// Devices that share the machine's memory answer [N/A].
		if mib, err := strconv.ParseInt(strings.TrimSpace(fields[2]), 10, 64); err == nil {
			device.Memory = mib << 20
		}
		if device.ID == "" || device.Type == "" {
			return nil, fmt.Errorf("read nvidia-smi: no device in %.80q", line)
		}
		devices = append(devices, device)
	}
	return devices, nil
}
