package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
	"github.com/penstock/penstock/internal/spec"
)

// maxManifest bounds what is read of one file.
const maxManifest = 1 << 20

func (s *session) applyCommand() *cobra.Command {
	var files []string
	var key string
	var dryRun bool
	c := &cobra.Command{
		Use: "apply -f FILE", Short: "Make what the manifests declare so",
		Long: `Apply makes what the manifests declare so, all or none. What is so already stays untouched.
The files of a task's dir are uploaded by content, so the work runs the code that was applied.`,
		Example: "  penstock apply -f train.yaml\n  penstock apply -f examples/tour --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dryRun {
				return s.plan(cmd.Context(), files)
			}
			results, err := s.apply(cmd.Context(), files, v1.ApplyRequest{}, key)
			if err != nil {
				return err
			}
			return s.printResults(results)
		},
	}
	c.Flags().StringArrayVarP(&files, "file", "f", nil, "manifest, folder of manifests, or - for stdin (may be given again)")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change, as plan does")
	c.Flags().StringVar(&key, "idempotency-key", "", "a repeated call with the same key is done once")
	s.outputFlag(c)
	return c
}

func (s *session) outputFlag(c *cobra.Command) {
	c.Flags().StringVarP(&s.output, "output", "o", "table", formats)
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(strings.Split(formats, "|"), cobra.ShellCompDirectiveNoFileComp))
}

func (s *session) planCommand() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use: "plan -f FILE", Short: "Show what apply would change, and change nothing", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.plan(cmd.Context(), files) },
	}
	c.Flags().StringArrayVarP(&files, "file", "f", nil, "manifest, folder of manifests, or - for stdin (may be given again)")
	s.outputFlag(c)
	return c
}

func (s *session) plan(ctx context.Context, files []string) error {
	results, err := s.apply(ctx, files, v1.ApplyRequest{DryRun: true}, "")
	if err != nil {
		return err
	}
	format, err := s.format()
	if err != nil || format != "table" && format != "wide" {
		return errors.Join(err, s.printDocument(format, results))
	}
	count := map[string]int{}
	for _, r := range results {
		count[r.Action]++
		sign := map[string]string{"created": "+", "changed": "~", "unchanged": " "}[r.Action]
		fmt.Fprintf(s.Out, "%s %s\n", sign, r.Ref)
		for _, d := range r.Diff {
			switch {
			case d.From == "":
				fmt.Fprintf(s.Out, "    + %s: %s\n", d.Path, d.To)
			case d.To == "":
				fmt.Fprintf(s.Out, "    - %s: %s\n", d.Path, d.From)
			default:
				fmt.Fprintf(s.Out, "    ~ %s: %s → %s\n", d.Path, d.From, d.To)
			}
		}
	}
	fmt.Fprintf(s.Err, "plan: %d to create, %d to change, %d unchanged; nothing was changed\n", count["created"], count["changed"], count["unchanged"])
	return nil
}

func (s *session) printResults(results []v1.ApplyResult) error {
	format, err := s.format()
	if err != nil {
		return err
	}
	if format == "json" || format == "yaml" {
		return s.printDocument(format, results)
	}
	for _, r := range results {
		fmt.Fprintf(s.Out, "%s\t%s\n", r.Ref, r.Action)
	}
	return nil
}

// apply reads, checks and sends manifests; code is uploaded first.
func (s *session) apply(ctx context.Context, files []string, in v1.ApplyRequest, key string) ([]v1.ApplyResult, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	manifests, err := s.readManifests(files)
	if err != nil {
		return nil, err
	}
	for i, m := range manifests {
		if m.object, err = s.withCode(ctx, c, m.object, m.dir, in.DryRun); err != nil {
			return nil, err
		}
		manifests[i] = m
		in.Objects = append(in.Objects, m.object)
	}
	results, err := c.Apply(ctx, in, key)
	return results, locate(manifests, err)
}

// manifest is one object and where it stands.
type manifest struct {
	object    v1.Object
	file, dir string
	content   []byte
	index     int
}

// locate adds file and line to an error that the server found in one object.
// The server's Where is the object's Ref and the path of the field.
func locate(manifests []manifest, err error) error {
	var e *penstock.Error
	if !errors.As(err, &e) {
		return err
	}
	ref, path, _ := strings.Cut(e.Where, " ")
	for _, m := range manifests {
		if m.object.Ref().String() != ref {
			continue
		}
		located := *e
		located.Where = spec.Locate(m.file, m.content, m.index, path)
		located.Msg = ref + ": " + e.Msg
		if path != "" {
			located.Msg = ref + ": " + path + ": " + e.Msg
		}
		return &located
	}
	return err
}

func (s *session) readManifests(files []string) ([]manifest, error) {
	if len(files) == 0 {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: "no manifest was named", Hint: "give -f FILE, a folder, or - for stdin"}
	}
	var all []manifest
	var faults []error
	for _, file := range files {
		paths, err := manifestPaths(file)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			content, err := s.readManifest(path)
			if err != nil {
				return nil, err
			}
			objects, err := spec.Parse(path, content)
			if err != nil {
				faults = append(faults, err)
			}
			for i, o := range objects {
				if o.Metadata.Project == "" && !o.Kind.Global() {
					o.Metadata.Project = s.projectName()
				}
				all = append(all, manifest{o, path, filepath.Dir(path), content, i})
			}
		}
	}
	return all, errors.Join(faults...)
}

// manifestPaths lists the manifests of a folder in order of name.
func manifestPaths(path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, &penstock.Error{Code: penstock.NotFound, Msg: "there is no manifest " + path, Err: err}
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("read folder of manifests: %w", err)
	}
	var paths []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, ext) {
			paths = append(paths, filepath.Join(path, e.Name()))
		}
	}
	if len(paths) == 0 {
		return nil, &penstock.Error{Code: penstock.NotFound, Msg: "there is no .yaml, .yml or .json in " + path}
	}
	return paths, nil
}

func (s *session) readManifest(path string) ([]byte, error) {
	from := s.In
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, &penstock.Error{Code: penstock.NotFound, Msg: "the manifest can't be read", Err: err}
		}
		defer f.Close()
		from = f
	}
	content, err := io.ReadAll(io.LimitReader(from, maxManifest+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(content) > maxManifest {
		return nil, &penstock.Error{Code: penstock.TooLarge, Where: path, Msg: fmt.Sprintf("a manifest may have %d bytes", maxManifest)}
	}
	return content, nil
}

// withCode uploads the folders that a job's or pipeline's tasks name, and puts
// their files into the spec.
func (s *session) withCode(ctx context.Context, c *client.Client, o v1.Object, dir string, dryRun bool) (v1.Object, error) {
	switch o.Kind {
	case penstock.KindJob:
		job, err := v1.As[v1.JobSpec, v1.JobStatus](o)
		if err == nil {
			err = packTasks(ctx, c, job.Spec.Tasks, dir, dryRun)
		}
		if err == nil {
			o.Spec, err = json.Marshal(job.Spec)
		}
		return o, err
	case penstock.KindPipeline:
		p, err := v1.As[v1.PipelineSpec, v1.PipelineStatus](o)
		for i := range p.Spec.Steps {
			if err == nil {
				err = packTasks(ctx, c, p.Spec.Steps[i].Job.Tasks, dir, dryRun)
			}
		}
		if err == nil {
			o.Spec, err = json.Marshal(p.Spec)
		}
		return o, err
	}
	return o, nil
}
