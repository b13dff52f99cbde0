package cli

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/api/v1/client"
)

// Limits of a folder of code: it is code, not data.
const (
	maxCodeFiles = 2000
	maxCodeBytes = 64 << 20
)

// notCode are folders that never belong to the code.
var notCode = []string{".git", "__pycache__", "node_modules", ".venv", ".pytest_cache"}

func packTasks(ctx context.Context, c *client.Client, tasks []v1.TaskSet, dir string, dryRun bool) error {
	for i := range tasks {
		if tasks[i].Dir == "" {
			continue
		}
		folder := tasks[i].Dir
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(dir, folder)
		}
		code, err := packCode(folder)
		if err != nil {
			return err
		}
		tasks[i].Code = &code
		if dryRun {
			continue
		}
		for _, f := range code.Files {
			open := func() (io.ReadCloser, error) { return os.Open(filepath.Join(folder, filepath.FromSlash(f.Path))) }
			if err := c.PutBlob(ctx, f.Digest, open); err != nil {
				return fmt.Errorf("upload %s: %w", f.Path, err)
			}
		}
	}
	return nil
}

// packCode lists a folder's regular files by content. Hidden files and folders
// are left out; a symbolic link is an error, since its target would be.
func packCode(folder string) (v1.Code, error) {
	var code v1.Code
	var size int64
	root, err := os.OpenRoot(folder)
	if err != nil {
		return code, &penstock.Error{Code: penstock.NotFound, Msg: "the folder with the code can't be read", Where: folder, Hint: "dir is relative to the manifest", Err: err}
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains(notCode, d.Name())) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		f, err := digestFile(root, path, d)
		if err != nil {
			return err
		}
		code.Files = append(code.Files, f)
		if size += f.Size; size > maxCodeBytes || len(code.Files) > maxCodeFiles {
			return &penstock.Error{
				Code: penstock.TooLarge, Where: folder, Msg: fmt.Sprintf("the code has over %d files or %d bytes", maxCodeFiles, maxCodeBytes),
				Hint: "put data into a Dataset",
			}
		}
		return nil
	})
	if err != nil {
		return code, err
	}
	canonical, err := json.Marshal(code.Files) // WalkDir goes in order of path
	sum := sha256.Sum256(canonical)
	code.Digest = penstock.DigestOf(sum[:])
	return code, err
}

func digestFile(root *os.Root, path string, d fs.DirEntry) (v1.File, error) {
	if !d.Type().IsRegular() {
		return v1.File{}, &penstock.Error{Code: penstock.Invalid, Where: path, Msg: "only regular files can be code", Hint: "copy what the link points to"}
	}
	f, err := root.Open(path)
	if err != nil {
		return v1.File{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return v1.File{Path: path, Size: n, Digest: penstock.DigestOf(h.Sum(nil))}, err
}
