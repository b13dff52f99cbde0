package fleet

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// clusterTime bounds the whole test.
	clusterTime = 10 * time.Minute
	// realNode is the node of hack/cluster that has a kubelet; all others are fake.
	realNode = "worker-1"
)

func TestTheGangTrainsOnKubernetesIsEvictedAndResumes(t *testing.T) {
	needTorch(t)
	c := findCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), clusterTime)
	defer cancel()
	s := startServer(t, "west", c.host, c.settings())
	t.Cleanup(c.removeNamespace)
	s.discover(ctx, "kubernetes-pool.yaml")
	s.do(ctx, "apply", "-f", "kubernetes.yaml")
	s.do(ctx, "wait", "dataset/go", "--timeout", "3m")
	s.running(ctx, "train", 1)
	s.checkTooBig(ctx)

	committed := s.committed(ctx, 20)
	c.evict(ctx, s, 1)
	s.lost(ctx, "train", 1)
	s.running(ctx, "train", 2)
	if said := s.do(ctx, "explain", "train"); !strings.Contains(said, realNode) {
		t.Errorf("'penstock explain train' doesn't tell of node %s:\n%s", realNode, said)
	}
	s.do(ctx, "wait", "job/train", "--timeout", "5m")
	s.checkResumed(ctx, committed)
	s.checkModel(ctx)
	for number := 1; number <= 2; number++ {
		if nodes := s.nodes(ctx, "train", number); !slices.Equal(nodes, []string{realNode, realNode}) {
			t.Errorf("the usage of attempt %d is on the nodes %q, want twice %s", number, nodes, realNode)
		}
	}
	s.remove(ctx, "kubernetes.yaml", "kubernetes-pool.yaml")
	s.until(ctx, "the cluster has nothing of it left", func() (bool, error) {
		left := c.kubectl(t, "", "get", "all,configmaps,secrets,networkpolicies,endpointslices", "--namespace", c.namespace(),
			"--selector=penstock.dev/attempt", "--output=name", "--ignore-not-found")
		return left == "", nil
	})
}

// cluster is the one that hack/cluster started, and what this test calls its own
// in it.
type cluster struct {
	t          *testing.T
	kubeconfig string
	host       string // this machine's address for pods
	image      string // has the agent, and nothing else
	prefix     string // of namespaces
}

func findCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, prefix: "fleet-" + strings.ToLower(rand.Text()[:8])}
	out, err := exec.Command(script(), "env").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("there is no cluster: %w: %.300s", err, out)
	}
	need(t, err, "run 'hack/cluster up'")
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		switch name {
		case "KUBECONFIG":
			c.kubeconfig = value
		case "PENSTOCK_CLUSTER_HOST":
			c.host = value
		}
	}
	out, err = exec.Command(script(), "kubectl", "wait", "--for=condition=Ready", "node/"+realNode, "--timeout=20s").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("the cluster has no node that works: %w: %.300s", err, out)
	}
	need(t, err, "run 'hack/cluster up'")
	c.load()
	return c
}

func script() string { return filepath.Join(repository, "hack", "cluster") }

// load gives the node an image FROM scratch with the agent under test.
func (c *cluster) load() {
	c.t.Helper()
	program := filepath.Join(programs, "penstock-agent")
	content, err := os.ReadFile(program)
	if err != nil {
		c.t.Fatal(err)
	}
	c.image = fmt.Sprintf("penstock.local/agent-under-test:%.12x", sha256.Sum256(content))
	archive := filepath.Join(c.t.TempDir(), "image.tar")
	file, err := os.Create(archive)
	if err != nil {
		c.t.Fatal(err)
	}
	defer file.Close()
	pack := exec.Command(filepath.Join(repository, ".build", "cluster", "bin", "image"), "-name", c.image, program)
	pack.Stdout = file
	if err := pack.Run(); err != nil {
		c.t.Fatalf("make the agent's image: %v", err)
	}
	if out, err := exec.Command(script(), "import", archive).CombinedOutput(); err != nil {
		c.t.Fatalf("import the agent's image: %v\n%s", err, out)
	}
}

// settings make the cluster an executor. Its tasks find Python and PyTorch where
// this machine has them, since no registry is there that has an image with them:
// the task's image is as empty as the agent's.
func (c *cluster) settings() string {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprintf(`  west:
    kubernetes:
      kubeconfig: %[1]s
      prefix: %[2]s
      nodes: type!=kwok
      agent_image: %[3]s
      image: %[3]s
      volumes:
        - host:/usr:/usr:ro
        - host:/usr/lib:/lib:ro
        - host:/usr/lib64:/lib64:ro
        - host:/etc/alternatives:/etc/alternatives:ro
        - host:/etc/ld.so.cache:/etc/ld.so.cache:ro
        - host:%[4]s:/corpus/go:ro
`, c.kubeconfig, c.prefix, c.image, strings.TrimSpace(string(goroot)))
}

func (c *cluster) namespace() string { return c.prefix + "-west" }

// kubectl runs it as the cluster's administrator.
func (c *cluster) kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command(script(), append([]string{"kubectl"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// evict asks the API server to evict the pod of a rank, as 'kubectl drain' does:
// https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
func (c *cluster) evict(ctx context.Context, s *server, rank int) {
	c.t.Helper()
	uid := attempt(ctx, s, "train", 1).Metadata.UID
	selector := fmt.Sprintf("penstock.dev/attempt=%s,batch.kubernetes.io/job-completion-index=%d", uid, rank)
	pod := c.kubectl(c.t, "", "get", "pods", "--namespace", c.namespace(), "--selector", selector, "--output=jsonpath={.items[*].metadata.name}")
	if pod == "" || strings.Contains(pod, " ") {
		c.t.Fatalf("rank %d has the pods %q, want one", rank, pod)
	}
	body, err := json.Marshal(map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction", "metadata": map[string]string{"name": pod, "namespace": c.namespace()},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.kubectl(c.t, string(body), "create", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s/eviction", c.namespace(), pod), "--filename=-")
	c.t.Logf("pod %s was evicted", pod)
}

// removeNamespace ends whatever a test that failed has left, and shows first what
// its pods had to say.
func (c *cluster) removeNamespace() {
	kubectl := func(args ...string) string {
		out, err := exec.Command(script(), append([]string{"kubectl", "--namespace", c.namespace()}, args...)...).CombinedOutput()
		if err != nil {
			return fmt.Sprintf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	if c.t.Failed() {
		c.t.Logf("%s\n%s", kubectl("get", "pods", "--output=wide"), kubectl("get", "events", "--sort-by=.lastTimestamp"))
	}
	if out := kubectl("delete", "namespace", c.namespace(), "--ignore-not-found", "--wait=false"); strings.HasPrefix(out, "kubectl") {
		c.t.Error(out)
	}
}
