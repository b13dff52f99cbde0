package kubernetes

import (
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/run"
	"github.com/penstock/penstock/internal/run/runtest"
)

// account makes the options of a server that runs as the service account of
// deploy/kubernetes, with the rights that it has there and no others.
func (w *world) account(t *testing.T, o Options) Options {
	t.Helper()
	root := filepath.Join("..", "..", "..")
	base := filepath.Join(root, "deploy", "kubernetes", "base")
	apply := exec.CommandContext(t.Context(), filepath.Join(root, "hack", "cluster"), "kubectl", "apply", "-n", "penstock",
		"-f", filepath.Join(base, "namespace.yaml"), "-f", filepath.Join(base, "account.yaml"), "-f", filepath.Join(base, "admission.yaml"))
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("apply the server's rights: %v\n%s", err, out)
	}
	config, err := clientcmd.LoadFromFile(w.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range config.AuthInfos {
		user.Impersonate = "system:serviceaccount:penstock:penstock"
		user.ImpersonateGroups = []string{"system:serviceaccounts", "system:serviceaccounts:penstock", "system:authenticated"}
	}
	o.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, o.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestLeastRightsAreEnough goes through all that an executor does, in real pods
// of a namespace that enforces "restricted", with the rights of deploy/kubernetes.
func TestLeastRightsAreEnough(t *testing.T) {
	w := need(t)
	o := w.options(t)
	o.Volumes = nil // nothing of this machine: what runs is what the image has
	e := executor(t, w.account(t, o))
	if nodes, err := e.Nodes(t.Context()); err != nil || len(nodes) != 1 {
		t.Fatalf("nodes: %v (%v)", nodes, err)
	}
	server := runtest.NewServerAt(t, w.host)
	address := server.URL()
	order := func(uid string, world int) []v1.Order {
		orders := sleepers(uid, []string{realNode, realNode}[:world]...)
		for i := range orders {
			orders[i].Server = v1.Contact{URL: address, Token: server.Contact().Token}
			orders[i].Command = []string{"penstock-agent", "version"}
		}
		return orders
	}

	two := order("rights-1", 2)
	server.Keep(two)
	start(t, e, two)
	says(t, all(t, e, "rights-1", run.Gone, 2), "delivered its last report")
	log, err := e.Logs(t.Context(), "rights-1", 1, run.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if said, err := io.ReadAll(log); !strings.Contains(string(said), "go1.") || err != nil {
		t.Errorf("its log is %q (%v)", said, err)
	}
	if err := e.Forget(t.Context(), "rights-1"); err != nil {
		t.Error(err)
	}

	server.Down() // an agent that waits for its server runs as long as the test likes
	one := order("rights-2", 1)
	start(t, e, one)
	all(t, e, "rights-2", run.Running, 1)
	if err := e.Exec(t.Context(), "rights-2", 0, []string{agentFolder + "/penstock-agent", "version"}, run.Streams{Out: io.Discard}); err != nil {
		t.Errorf("exec: %v", err)
	}
	if c, err := e.Dial(t.Context(), "rights-2", 0, 1); err != nil {
		t.Errorf("dial: %v", err)
	} else {
		_ = c.Close()
	}
	if err := e.Stop(t.Context(), "rights-2", time.Second); err != nil {
		t.Error(err)
	}
	says(t, all(t, e, "rights-2", run.Gone, 1), "stopped")
	if err := e.Forget(t.Context(), "rights-2"); err != nil {
		t.Error(err)
	}
}
