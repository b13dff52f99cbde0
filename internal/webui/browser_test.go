package webui

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// needs gives the path of a program or file that the test can't do without. On
// CI its absence is a failure; elsewhere the test says loudly that it didn't run.
func needs(t *testing.T, what string, find func() (string, error)) string {
	t.Helper()
	path, err := find()
	if err == nil {
		return path
	}
	text := "NOT TESTED: the page in a browser, for want of " + what + ": " + err.Error()
	if os.Getenv("PENSTOCK_CI") != "" {
		t.Fatal(text)
	}
	t.Skip(text)
	return ""
}

// sight is what browse.mjs saw.
type sight struct {
	Faults, Requests        []string
	Login, End, Text        string
	Cookie                  string
	Canvases, CanvasesAfter int
	LivesBeside             int
	FaultsBeforeEnd         int
	Drawn                   bool
}

func TestABrowserSeesTheCurveAndTheLivePart(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED: the page in a browser, which takes seconds")
	}
	node := needs(t, "node", func() (string, error) { return exec.LookPath("node") })
	chromium := needs(t, "chromium", func() (string, error) { return exec.LookPath("chromium") })
	modules := needs(t, "hack/web/install.sh, run once", func() (string, error) {
		build, err := filepath.Abs("../../.build/web")
		if err == nil {
			_, err = os.Stat(filepath.Join(build, "node_modules", "playwright-core"))
		}
		return build, err
	})
	w := newWorld(t)
	if !w.site.assets.vendor {
		needs(t, "htmx and uPlot: run hack/web/install.sh, then build again", func() (string, error) { return "", os.ErrNotExist })
	}
	server := httptest.NewServer(w.site.handler())
	defer server.Close()

	shots := t.TempDir()
	if kept := os.Getenv("PENSTOCK_SCREENSHOTS"); kept != "" {
		shots = kept
	}
	s := w.browse(t, node, modules, chromium, server.URL, shots)

	if want := server.URL + "/login?next=" + url.QueryEscape("/jobs/vision/train-7"); s.Login != want || s.End != server.URL+"/login" {
		t.Errorf("the browser was sent to %s and at the end to %s", s.Login, s.End)
	}
	if s.Canvases != 3 || !s.Drawn || s.CanvasesAfter != s.Canvases {
		t.Errorf("%d canvases, drawn %t, %d after the page read itself again; want one for each of 3 metrics", s.Canvases, s.Drawn, s.CanvasesAfter)
	}
	if s.LivesBeside != 2 {
		t.Errorf("%d live parts after reading again, want #live and #more", s.LivesBeside)
	}
	contains(t, s.Text, "train-7", "Running", "loss", "node-1 was silent for 40 s", "step 1 loss 2.5", "<script>alert(1)</script>")
	if len(s.Faults) > 0 && s.FaultsBeforeEnd > 0 {
		t.Errorf("the browser complains: %q", s.Faults[:s.FaultsBeforeEnd])
	}
	if s.Cookie != "" {
		t.Error("scripts can read the session")
	}
	for _, target := range s.Requests {
		if !strings.HasPrefix(target, server.URL+"/") {
			t.Errorf("the page asked for %s, which isn't of this server", target)
		}
	}
	for _, name := range []string{"login", "job", "queued", "overview", "model", "endpoint", "cost", "pools"} {
		if info, err := os.Stat(filepath.Join(shots, name+".png")); err != nil || info.Size() < 5000 {
			t.Errorf("no screenshot of %s: %v", name, err)
		}
	}
}

func (w *world) browse(t *testing.T, node, modules, chromium, base, shots string) sight {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, node, filepath.Join("testdata", "browse.mjs"), modules, chromium, t.TempDir(), base, shots)
	var out, complaints bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(w.tokens["admin"]), &out, &complaints
	if err := command.Run(); err != nil {
		t.Fatalf("drive the browser: %v\n%s\n%s", err, complaints.String(), out.String())
	}
	var s sight
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		t.Fatalf("read what the browser saw: %v\n%s", err, out.String())
	}
	return s
}
