package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/penstock/penstock"
)

// folder is a server's data folder, held by this process alone:
//
//	penstock.db   the state         run/          attempts and their logs
//	blobs/        the bytes         address       where agents find the server
//	secret keys   see package secret
//	lock          held while a server runs
type folder struct {
	path string
	lock *os.File
}

// openFolder makes the folder where it is missing and takes its lock. Two
// servers on one folder would undo each other's work.
func openFolder(path string) (*folder, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find data folder: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, &penstock.Error{Code: penstock.Unavailable, Where: path, Msg: "the data folder can't be made", Hint: "name another with --data", Err: err}
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, &penstock.Error{Code: penstock.Unavailable, Where: path, Msg: "the data folder can't be written to", Err: err}
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(lock.Name()) // only to tell
		return nil, errors.Join(&penstock.Error{
			Code: penstock.Busy, Where: path, Msg: fmt.Sprintf("another server (process %s) uses this data folder", strings.TrimSpace(string(pid))),
			Hint: "stop that one, or name another folder with --data",
		}, lock.Close())
	}
	if err := errors.Join(lock.Truncate(0), writeAll(lock, fmt.Sprintln(os.Getpid()))); err != nil {
		return nil, fmt.Errorf("write lock: %w", err)
	}
	return &folder{path, lock}, nil
}

func writeAll(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

func (f *folder) at(names ...string) string {
	return filepath.Join(append([]string{f.path}, names...)...)
}

// publish tells agents where the server listens now, whole or not at all.
func (f *folder) publish(url string) error {
	next, err := os.CreateTemp(f.path, ".address-*")
	if err != nil {
		return fmt.Errorf("publish address: %w", err)
	}
	if err := errors.Join(writeAll(next, url+"\n"), next.Close()); err != nil {
		return fmt.Errorf("publish address: %w", err)
	}
	return os.Rename(next.Name(), f.at("address"))
}

func (f *folder) close() error { return f.lock.Close() }
