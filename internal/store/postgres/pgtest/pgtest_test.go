package pgtest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// orphan makes a child of this test start a server, tell its folder, and wait
// to be killed.
const orphan = "PENSTOCK_TEST_ORPHAN"

func TestMain(m *testing.M) {
	if os.Getenv(orphan) == "" {
		os.Exit(m.Run())
	}
	s, err := Open(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.Folder())
	fmt.Println(s.PID())
	select {}
}

// ask runs statements, of which the last gives one text.
func ask(t *testing.T, url string, statements ...string) (answer string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	last := len(statements) - 1
	for _, statement := range statements[:last] {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := conn.QueryRow(t.Context(), statements[last]).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", statements[last], err)
	}
	return answer
}

func TestAKilledAndAStoppedServerComeBackWithWhatWasCommitted(t *testing.T) {
	s := Private(t)
	url := s.Database(t)
	ask(t, url, "CREATE TABLE kept (n TEXT)", "INSERT INTO kept VALUES ('here')", "SELECT n FROM kept")
	for what, end := range map[string]func(testing.TB){"killed": s.Kill, "stopped": s.Stop} {
		end(t)
		if _, err := pgx.Connect(t.Context(), url); err == nil {
			t.Errorf("a server that was %s answers", what)
		}
		s.Restart(t)
		if got := ask(t, url, "SELECT n FROM kept"); got != "here" {
			t.Errorf("%s, it has %q", what, got)
		}
	}
}

func TestTestsHaveDatabasesOfTheirOwn(t *testing.T) {
	s := Shared(t)
	a, b := s.Database(t), s.Database(t)
	if a == b || ask(t, a, "SELECT current_database()") == ask(t, b, "SELECT current_database()") {
		t.Errorf("%s and %s are the same", a, b)
	}
	if Shared(t) != s {
		t.Error("the binary has two shared servers")
	}
}

func TestAServerEndsWithTheProcessThatStartedItWhateverEndsThat(t *testing.T) {
	need(t)
	child := exec.Command(os.Args[0])
	child.Env, child.Stderr = append(os.Environ(), orphan+"=1"), os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	folder, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait()
	gone := func() bool {
		_, folderErr := os.Stat(strings.TrimSpace(folder))
		// A process that nobody waits for may stay as an entry without a program.
		program, _ := os.ReadFile("/proc/" + strings.TrimSpace(pid) + "/cmdline")
		return os.IsNotExist(folderErr) && len(program) == 0
	}
	for deadline := time.Now().Add(patience); !gone(); time.Sleep(10 * time.Millisecond) { // polls: they are other processes
		if time.Now().After(deadline) {
			t.Fatalf("server %s in %s outlives its test", strings.TrimSpace(pid), strings.TrimSpace(folder))
		}
	}
}
