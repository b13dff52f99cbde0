// Package runtime says which program serves an endpoint: it turns an Endpoint
// and the model version that it points to into the Job that runs the replicas.
// It is pure.
package runtime

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// The runtimes that an Endpoint can name.
const (
	Llama   = "llama"
	Command = "command"
)

// ModelMount is the name under PENSTOCK_MODELS where every runtime finds the
// model's files.
const ModelMount = "model"

// What a replica takes where the Endpoint doesn't say.
const (
	defaultCPU    penstock.Amount = 1000
	defaultMemory penstock.Amount = 512 << 20
)

// Job is the job that serves e with version: one task set "serve" with a task
// for each replica, which are ready when GET /health answers 200. The version
// is pinned by digest, so that the job keeps serving the same bytes when an
// alias moves. Resources that e leaves out are 1 CPU and 512Mi of memory.
func Job(e v1.Endpoint, version v1.ModelVersion) (v1.JobSpec, error) {
	model, selector, _ := strings.Cut(e.Spec.Model, "@")
	pinned := strings.HasPrefix(selector, "sha256:")
	if version.Spec.Model != model || version.Spec.Digest == "" || (pinned && selector != string(version.Spec.Digest)) {
		return v1.JobSpec{}, &penstock.Error{
			Code: penstock.Invalid, Where: e.Ref().String(),
			Msg:  fmt.Sprintf("version %s of model %q can't serve %q", version.Spec.Digest.Short(), version.Spec.Model, e.Spec.Model),
			Hint: "give the version that the endpoint names",
		}
	}
	resources := penstock.Resources{penstock.CPU: defaultCPU, penstock.Memory: defaultMemory}
	maps.Copy(resources, e.Spec.Resources)
	command, err := command(e, version, resources[penstock.CPU])
	if err != nil {
		return v1.JobSpec{}, err
	}
	return v1.JobSpec{
		Class: penstock.ClassOnlineInference,
		Tasks: []v1.TaskSet{{
			Name: "serve", Replicas: max(1, e.Spec.Replicas), Command: command, Resources: resources,
			Serve: &v1.Serve{Ready: "/health"},
		}},
		Models:   []v1.ModelRef{{Name: ModelMount, Model: model + "@" + string(version.Spec.Digest)}},
		Priority: e.Spec.Priority,
	}, nil
}

func command(e v1.Endpoint, version v1.ModelVersion, cpu penstock.Amount) ([]string, error) {
	switch e.Spec.Runtime.Name {
	case Llama:
		return llama(e, version, cpu)
	case Command:
		if len(e.Spec.Runtime.Command) == 0 {
			return nil, &penstock.Error{
				Code: penstock.Invalid, Where: e.Ref().String(), Msg: "the runtime command has no command",
				Hint: "give spec.runtime.command: a server that listens on PENSTOCK_PORT and answers GET /health",
			}
		}
		return slices.Clone(e.Spec.Runtime.Command), nil
	}
	return nil, &penstock.Error{
		Code: penstock.Unsupported, Where: e.Ref().String(), Msg: fmt.Sprintf("there is no runtime %.40q", e.Spec.Runtime.Name),
		Hint: "use llama or command",
	}
}

// llama is the command line of penstock-llama. It is told how many threads to
// use: where nothing enforces the CPU share, its threads would take the machine.
func llama(e v1.Endpoint, version v1.ModelVersion, cpu penstock.Amount) ([]string, error) {
	file, err := modelFile(e, version)
	if err != nil {
		return nil, err
	}
	threads := max(1, (int64(cpu)+999)/1000)
	args := []string{"penstock-llama", "--name", e.Metadata.Name, "--file", file, "--threads", strconv.FormatInt(threads, 10)}
	if e.Spec.Runtime.Context > 0 {
		args = append(args, "--context", strconv.Itoa(e.Spec.Runtime.Context))
	}
	return args, nil
}

// modelFile is the version's file to load, so that a missing one is an error
// here and not a replica that never gets ready.
func modelFile(e v1.Endpoint, version v1.ModelVersion) (string, error) {
	var found []string
	for _, file := range version.Spec.Files {
		if file.Path == e.Spec.Runtime.File {
			return file.Path, nil
		}
		if !strings.Contains(file.Path, "/") && path.Ext(file.Path) == ".gguf" {
			found = append(found, file.Path)
		}
	}
	if e.Spec.Runtime.File == "" && len(found) == 1 {
		return found[0], nil
	}
	msg := fmt.Sprintf("version %s has %d *.gguf files at its top; one is needed", version.Spec.Digest.Short(), len(found))
	if e.Spec.Runtime.File != "" {
		msg = fmt.Sprintf("version %s has no file %q", version.Spec.Digest.Short(), e.Spec.Runtime.File)
	}
	return "", &penstock.Error{
		Code: penstock.Invalid, Where: e.Ref().String(), Msg: msg,
		Hint: "name one of the version's files in spec.runtime.file",
	}
}
