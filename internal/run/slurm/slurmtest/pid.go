package slurmtest

import (
	"errors"

	"golang.org/x/sys/unix"
)

// openPID opens a process, to be waited for although it is nobody's child here:
// pidfd_open(2).
func openPID(pid int) (int, error) { return unix.PidfdOpen(pid, 0) }

// awaitPID waits up to 10 s until an opened process has ended.
func awaitPID(fd int) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return errors.New("it lives on after 10 s")
		default:
			return nil
		}
	}
}
