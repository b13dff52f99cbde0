package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// The folders and the file that the workload sees, within the task's folder.
const (
	dataFolder       = "data"
	modelFolder      = "models"
	checkpointFolder = "checkpoints"
	outputFolder     = "outputs"
	secretFolder     = "secrets"
	homeFolder       = "home"
	tempFolder       = "tmp"
	workFolder       = "work"
	metricFile       = "metrics.jsonl"
)

// stager prepares the folder of a task before its command starts.
type stager struct {
	root  *os.Root // the task's folder
	cache cache
	order v1.Order
}

// prepare makes all that the contract promises to the command.
func (s stager) prepare(ctx context.Context) error {
	for _, dir := range []string{dataFolder, modelFolder, checkpointFolder, outputFolder, secretFolder, homeFolder, tempFolder, workFolder} {
		if err := s.root.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	if err := s.root.WriteFile(metricFile, nil, 0o600); err != nil {
		return fmt.Errorf("make metrics file: %w", err)
	}
	if err := s.makeOutputs(); err != nil {
		return err
	}
	if err := s.writeSecrets(); err != nil {
		return err
	}
	for folder, sets := range map[string][]v1.Staged{dataFolder: s.order.Data, modelFolder: s.order.Models} {
		for _, set := range sets {
			if err := s.lay(ctx, folder, set); err != nil {
				return err
			}
		}
	}
	if s.order.Code != nil {
		// The files' modes don't travel, so each may be executed.
		if err := s.copy(ctx, workFolder, s.order.Code.Files, 0o700); err != nil {
			return fmt.Errorf("stage code: %w", err)
		}
	}
	return s.restore(ctx)
}

func (s stager) makeOutputs() error {
	for _, name := range s.order.Outputs {
		if err := checkElement(name); err != nil {
			return err
		}
		if err := s.root.MkdirAll(path.Join(outputFolder, name), 0o700); err != nil {
			return fmt.Errorf("make output folder: %w", err)
		}
	}
	return nil
}

func (s stager) writeSecrets() error {
	for name, keys := range s.order.Secrets {
		if err := checkElement(name); err != nil {
			return err
		}
		if err := s.root.MkdirAll(path.Join(secretFolder, name), 0o700); err != nil {
			return fmt.Errorf("make secret folder: %w", err)
		}
		for key, value := range keys {
			if err := checkElement(key); err != nil {
				return err
			}
			if err := s.root.WriteFile(path.Join(secretFolder, name, key), []byte(value), 0o400); err != nil {
				return fmt.Errorf("write secret %s: %w", name, err)
			}
		}
	}
	return nil
}

// lay puts a set of files under its name: links to the cache, read-only.
func (s stager) lay(ctx context.Context, folder string, set v1.Staged) error {
	if err := checkElement(set.Name); err != nil {
		return err
	}
	base := path.Join(folder, set.Name)
	if err := s.root.MkdirAll(base, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	return each(ctx, set.Files, func(ctx context.Context, file v1.File) error {
		if err := checkPath(file.Path); err != nil {
			return err
		}
		cached, err := s.cache.get(ctx, file)
		if err != nil {
			return fmt.Errorf("stage %s of %s: %w", file.Path, set.Name, err)
		}
		if err := s.link(cached, path.Join(base, file.Path)); err != nil {
			return fmt.Errorf("stage %s of %s: %w", file.Path, set.Name, err)
		}
		return nil
	})
}

// link makes name, within the task's folder, a second name of the cached file,
// or a copy of it where the cache is on another file system.
func (s stager) link(cached, name string) error {
	if err := s.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	dir, err := s.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unix.Linkat(unix.AT_FDCWD, cached, int(dir.Fd()), path.Base(name), 0)
	if !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EMLINK) && !errors.Is(err, unix.EPERM) {
		return err
	}
	src, err := os.Open(cached)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := s.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o444)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// restore lays out the checkpoint as the trainer left it.
func (s stager) restore(ctx context.Context) error {
	if s.order.Restore == nil {
		return nil
	}
	name := stepFolder(s.order.Restore.Step)
	err := s.copy(ctx, name+".tmp", s.order.Restore.Files, 0o600)
	if err == nil {
		err = s.root.Rename(name+".tmp", name)
	}
	if err != nil {
		return fmt.Errorf("restore step %d: %w", s.order.Restore.Step, err)
	}
	return nil
}

func stepFolder(step int64) string {
	return path.Join(checkpointFolder, "step-"+strconv.FormatInt(step, 10))
}

// copy lays out files that are the task's own, to be written to as it likes: so
// they are no links to the cache.
func (s stager) copy(ctx context.Context, base string, files []v1.File, mode fs.FileMode) error {
	if err := s.root.MkdirAll(base, 0o700); err != nil {
		return err
	}
	return each(ctx, files, func(ctx context.Context, file v1.File) error {
		if err := checkPath(file.Path); err != nil {
			return err
		}
		if _, err := penstock.ParseDigest(string(file.Digest)); err != nil {
			return err
		}
		name := path.Join(base, file.Path)
		if err := s.root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return err
		}
		dst, err := s.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		return errors.Join(s.cache.client.download(ctx, file, dst), dst.Close())
	})
}

// checkElement says whether name can be one element of a path.
func checkElement(name string) error {
	if filepath.IsLocal(name) && name != "." && !strings.ContainsAny(name, "/\\\x00") {
		return nil
	}
	return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%.80q can't be the name of a file or folder", name)}
}

// checkPath says whether p is relative, clean and stays where it is put.
func checkPath(p string) error {
	if fs.ValidPath(p) && p != "." && filepath.IsLocal(p) {
		return nil
	}
	return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%.80q is not a clean relative path", p)}
}
