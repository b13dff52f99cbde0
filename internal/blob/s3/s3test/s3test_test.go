package s3test

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestTheServerEndsWithATestBinaryThatIsKilled(t *testing.T) {
	if os.Getenv("PENSTOCK_S3TEST_CHILD") != "" {
		_, _ = io.WriteString(os.Stdout, "\naddress "+Start(t).Endpoint+"\n")
		select {} // until it is killed
	}
	find(t)
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "PENSTOCK_S3TEST_CHILD=1", "TMPDIR="+t.TempDir()) // it can't clean up
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	address := ""
	for lines := bufio.NewScanner(out); address == "" && lines.Scan(); {
		address, _ = strings.CutPrefix(lines.Text(), "address http://")
		if !strings.HasPrefix(address, "127.") {
			address = ""
		}
	}
	if address == "" {
		t.Fatal("the child started no server")
	}
	if err := dial(address); err != nil {
		t.Fatalf("the server isn't there while the test runs: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for end := time.Now().Add(10 * time.Second); dial(address) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the server at %s outlived the test", address)
		}
	}
}

func dial(address string) error {
	c, err := net.Dial("tcp", address)
	if err == nil {
		err = c.Close()
	}
	return err
}
