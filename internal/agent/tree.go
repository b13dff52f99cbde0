package agent

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// regularFiles lists the files below a folder in order of path. Anything but
// files and folders is refused: a link would store bytes from somewhere else.
func regularFiles(root *os.Root, folder string) ([]string, error) {
	var files []string
	err := fs.WalkDir(root.FS(), folder, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return nil
		case d.Type()&fs.ModeSymlink != 0:
			return &penstock.Error{
				Code: penstock.Invalid, Where: name, Msg: "it is a symbolic link, which can't be stored",
				Hint: "write the file itself there, for instance with cp -L",
			}
		case !d.Type().IsRegular():
			return &penstock.Error{Code: penstock.Invalid, Where: name, Msg: "it is neither a file nor a folder", Hint: "remove it before the task ends"}
		}
		files = append(files, name)
		return nil
	})
	return files, err
}

// collect stores the files of one output, and lists them with paths below it.
func collect(ctx context.Context, c *client, root *os.Root, name string) (v1.Collected, error) {
	folder := path.Join(outputFolder, name)
	names, err := regularFiles(root, folder)
	if err != nil {
		return v1.Collected{}, fmt.Errorf("collect output %s: %w", name, err)
	}
	out := v1.Collected{Name: name, Files: make([]v1.File, 0, len(names))}
	for _, full := range names {
		file, err := describe(root, full)
		if err != nil {
			return v1.Collected{}, fmt.Errorf("collect output %s: %w", name, err)
		}
		file.Path = full[len(folder)+1:]
		out.Files = append(out.Files, file)
	}
	err = each(ctx, out.Files, func(ctx context.Context, file v1.File) error {
		return c.upload(ctx, file, func() (io.ReadCloser, error) { return root.Open(path.Join(folder, file.Path)) })
	})
	if err != nil {
		return v1.Collected{}, fmt.Errorf("store output %s: %w", name, err)
	}
	return out, nil
}

func describe(root *os.Root, name string) (v1.File, error) {
	f, err := root.Open(name)
	if err != nil {
		return v1.File{}, err
	}
	defer f.Close()
	digest, size, err := digestOf(f)
	return v1.File{Path: name, Size: size, Digest: digest}, err
}
