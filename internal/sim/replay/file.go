package replay

import (
	"io"
	"os"
	"path/filepath"

	"github.com/penstock/penstock"
)

// File is where a public trace lies, such as "muri/trace1.csv": below
// $PENSTOCK_TRACES, by default ../shared/traces. The project doesn't contain
// traces; that one isn't there is an error that says how to give another.
func File(name string) (string, error) {
	folder := os.Getenv("PENSTOCK_TRACES")
	if folder == "" {
		folder = filepath.Join("..", "shared", "traces")
	}
	path := filepath.Join(folder, filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		return "", &penstock.Error{Code: penstock.NotFound, Msg: "NOTHING WAS REPLAYED: there is no trace " + path, Hint: "set PENSTOCK_TRACES to the folder of the public traces, or give a file with -trace", Err: err}
	}
	return path, nil
}

// Read reads a trace from a file by one of the readers of this package.
func Read(path string, by func(in io.Reader, name string) ([]Job, error)) ([]Job, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return by(f, path)
}
