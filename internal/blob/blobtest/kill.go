package blobtest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/penstock/penstock"
)

// What the parent tells its child in the environment.
const (
	folderVariable = "PENSTOCK_BLOBTEST_FOLDER"
	digestVariable = "PENSTOCK_BLOBTEST_DIGEST"
)

// putForParent puts what comes on standard input, if this process was started
// to be killed while it does so.
func putForParent(t *testing.T, a Adapter) bool {
	folder := os.Getenv(folderVariable)
	if folder == "" {
		return false
	}
	s := a.Open(t, folder)
	if err := s.Put(t.Context(), penstock.Digest(os.Getenv(digestVariable)), os.Stdin); err != nil {
		t.Errorf("put: %v", err)
	}
	return true
}

// testKill kills a process that puts: before its last byte has come, when the
// blob can't be there, and around the moment in which it becomes one, where
// only the whole blob or nothing may be found. Putting again must help.
func testKill(t *testing.T, p place) {
	size := len(p.adapter.big(0))
	for _, sent := range []int{1 << 20, size - 1} {
		t.Run(fmt.Sprintf("after %d bytes", sent), func(t *testing.T) {
			folder := t.TempDir()
			b := p.adapter.big(uint64(sent))
			child := startPut(t, folder, digest(b))
			child.send(b[:sent])
			child.kill()
			s := p.adapter.Open(t, folder)
			wantUnseen(t, s, digest(b)) // what it had begun may lie there for a while
			put(t, s, b)
			wantBlob(t, s, b)
			wantList(t, s, b)
		})
	}
	for i := range 8 {
		t.Run(fmt.Sprintf("at the end, %d", i), func(t *testing.T) {
			folder := t.TempDir()
			b := p.adapter.big(uint64(i))
			child := startPut(t, folder, digest(b))
			child.send(b)
			child.end()
			spin(i)
			child.kill()
			s := p.adapter.Open(t, folder)
			if _, err := s.Size(t.Context(), digest(b)); err == nil {
				wantBlob(t, s, b)
			} else {
				wantUnseen(t, s, digest(b)) // what it had begun may lie there for a while
			}
			put(t, s, b)
			wantBlob(t, s, b)
			wantList(t, s, b)
		})
	}
}

// spin lets a little time go by, more with each i, so that the kills hit
// different places.
func spin(i int) {
	for range i * i {
		digest(make([]byte, 1<<18))
	}
}

type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

func startPut(t *testing.T, folder string, d penstock.Digest) *child {
	t.Helper()
	top, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.Command(os.Args[0], "-test.run=^"+top+"$")
	cmd.Env = append(os.Environ(), folderVariable+"="+folder, digestVariable+"="+string(d))
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("start child: %v", err)
	}
	return &child{t, cmd, stdin}
}

// send returns when the child has read all but what a pipe holds, 64 KiB.
func (c *child) send(b []byte) {
	c.t.Helper()
	if _, err := c.stdin.Write(b); err != nil {
		c.t.Fatalf("send to child: %v", err)
	}
}

func (c *child) end() {
	c.t.Helper()
	if err := c.stdin.Close(); err != nil {
		c.t.Fatalf("close child's input: %v", err)
	}
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended by itself
	_ = c.cmd.Wait()
}
