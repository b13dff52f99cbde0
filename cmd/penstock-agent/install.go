package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/penstock/penstock"
)

// program is the name under which install leaves the agent.
const program = "penstock-agent"

// install copies this very program into the folder dir, as dir/penstock-agent
// with mode 0555. It is what an init container runs: the agent's image has no
// shell and no cp. Under its name the program is there whole or not at all, so a
// container that was restarted half way just installs again.
func install(dir string) (err error) {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	from, err := os.Open(self)
	if err != nil {
		return fmt.Errorf("read this program: %w", err)
	}
	defer func() { _ = from.Close() }() // it was only read
	next, err := os.CreateTemp(dir, "."+program+"-*")
	if err != nil {
		return uninstallable(dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(next.Name()))
		}
	}()
	_, err = io.Copy(next, from)
	// The mode is set, not asked for, so that no umask takes from it.
	if err := errors.Join(err, next.Chmod(0o555), next.Sync(), next.Close()); err != nil {
		return uninstallable(dir, err)
	}
	if err := os.Rename(next.Name(), filepath.Join(dir, program)); err != nil {
		return uninstallable(dir, err)
	}
	return syncFolder(dir)
}

func syncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return uninstallable(dir, err)
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return uninstallable(dir, err)
	}
	return nil
}

func uninstallable(dir string, err error) error {
	e := &penstock.Error{
		Code: penstock.Unavailable, Where: dir, Msg: "the agent can't be put there", Err: err,
		Hint: "the folder must be there and this user must be able to write to it; in a pod, mount an emptyDir",
	}
	if errors.Is(err, fs.ErrNotExist) {
		e.Code, e.Msg = penstock.NotFound, "there is no such folder to put the agent into"
	}
	return e
}
