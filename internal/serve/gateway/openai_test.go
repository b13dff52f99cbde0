package gateway_test

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/serve/gateway"
)

// client is the module of the official client. Without it the test can't run,
// which is a failure where everything must run.
func client(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../../.build/node/node_modules/openai/index.mjs")
	if err != nil {
		t.Fatal(err)
	}
	_, missing := os.Stat(path)
	if _, err := exec.LookPath("node"); err != nil {
		missing = err
	}
	if missing != nil {
		if os.Getenv("PENSTOCK_CI") != "" {
			t.Fatalf("the OpenAI client is missing (%v): run hack/openai/install.sh", missing)
		}
		t.Skipf("NOT TESTED: the OpenAI client is missing (%v): run hack/openai/install.sh", missing)
	}
	return path
}

func TestTheOfficialClientIsServed(t *testing.T) {
	module := client(t)
	slow := &model{}
	h := build(t, gateway.Limits{Drain: gateway.Drain{Events: 5000, Bytes: 1 << 20, Time: time.Minute}}, slow)
	cut := httptest.NewServer(raw{kind: "text/event-stream", body: events(begins, hello), piece: 999, end: reset})
	defer cut.Close()
	broken := writer(v1.Replica{Address: strings.TrimPrefix(cut.URL, "http://"), Ready: true})
	broken.Metadata.Name, broken.Metadata.UID = "broken", "uid-broken"
	h.store.put(t, broken)

	cmd := exec.CommandContext(t.Context(), "node", "testdata/openai.mjs", module, h.url+"/v1", key)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	type raised struct {
		Type   string
		Status int
		Code   string
	}
	type seen struct {
		Whole struct {
			Text   string
			Tokens int
		}
		Stream                string
		Usage, Aborted        int
		Missing, Unknown, Cut raised
		Models                []string
	}
	var got, want seen
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	want.Whole.Text, want.Whole.Tokens = "x", 3
	want.Stream, want.Usage, want.Aborted = "é0é1é2", 10, 3
	want.Missing = raised{"NotFoundError", 404, "model_not_found"}
	want.Unknown = raised{"AuthenticationError", 401, "invalid_api_key"}
	want.Cut = raised{"APIError", 0, "upstream_error"}
	want.Models = []string{"vision/broken", "vision/writer"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	waitSettled(t, h.store, 5)
	for _, r := range h.store.ledger(t) {
		if tokens := slow.generated[r.ID]; r.EndpointName == "writer" && tokens != [2]int64{r.PromptTokens, r.CompletionTokens} {
			t.Errorf("request %s (%s): ledger %d and %d, replica %v", r.ID, r.Outcome, r.PromptTokens, r.CompletionTokens, tokens)
		}
	}
}
