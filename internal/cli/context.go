package cli

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/penstock/penstock"
)

// Context is where the dev server is, and the token of whoever started it.
type Context struct {
	Server string `json:"server"`
	Token  string `json:"token"`
}

// ContextFile is where the dev server leaves its Context:
// $PENSTOCK_CONTEXT, or penstock/context.json in the user's configuration folder.
func ContextFile(getenv func(string) string) string {
	if path := getenv("PENSTOCK_CONTEXT"); path != "" {
		return path
	}
	config := getenv("XDG_CONFIG_HOME")
	if config == "" {
		config = filepath.Join(getenv("HOME"), ".config")
	}
	return filepath.Join(config, "penstock", "context.json")
}

// WriteContext writes the file for its owner alone, whole or not at all.
func WriteContext(path string, c Context) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".context-*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), path)
}

func readContext(path string) (Context, error) {
	var c Context
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return c, &penstock.Error{Code: penstock.Corrupt, Where: path, Msg: "the dev server's context can't be read", Hint: "start 'penstock dev' again, or remove the file", Err: err}
	}
	return c, nil
}
