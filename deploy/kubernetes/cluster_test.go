package kubernetes_test

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// The server's account, and a namespace of a project that the tests make with it.
const (
	account = "system:serviceaccount:penstock:penstock"
	project = "penstock-deploytest"
)

// cluster is the real one of hack/cluster, seen by its administrator and by the
// server's account. What the tests install there stays: it is the same each time.
type cluster struct {
	kubeconfig    string
	admin, server kubernetes.Interface
}

func connect(t *testing.T) cluster {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join("..", "..", "hack", "cluster"), "env").Output()
	if err != nil {
		absent(t, "there is no cluster: start one with 'hack/cluster up'")
	}
	var c cluster
	for line := range strings.Lines(string(out)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "export KUBECONFIG="); ok {
			c.kubeconfig = strings.Trim(path, `'"`)
		}
	}
	admin, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	admin.QPS = -1 // the server's own fairness bounds us
	server := rest.CopyConfig(admin)
	server.Impersonate = rest.ImpersonationConfig{UserName: account, Groups: groups()}
	if c.admin, err = kubernetes.NewForConfig(admin); err == nil {
		c.server, err = kubernetes.NewForConfig(server)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func groups() []string {
	return []string{"system:serviceaccounts", "system:serviceaccounts:penstock", "system:authenticated"}
}

// once is of the test binary: what is installed is the same for all tests.
var once sync.Once

// installed applies what is the cluster's of the installation, and waits until
// the API server heeds the policies, which it learns a moment later.
func installed(t *testing.T) cluster {
	t.Helper()
	c := connect(t)
	once.Do(func() { install(t, c) })
	return c
}

func install(t *testing.T, c cluster) {
	t.Helper()
	for _, file := range []string{"namespace.yaml", "account.yaml", "admission.yaml"} {
		apply(t.Context(), t, c.kubeconfig, "-n", "penstock", "-f", filepath.Join("base", file))
	}
	for _, refused := range []func() error{
		func() error { return c.namespace(t.Context(), "penstock-none", nil) },
		func() error { return c.bind(t.Context(), "kube-system", "penstock-project", "penstock") },
	} {
		deadline := time.Now().Add(30 * time.Second)
		for refused() == nil {
			if time.Now().After(deadline) {
				t.Fatal("30 s after they were applied, the policies refuse nothing")
			}
			time.Sleep(100 * time.Millisecond) // polls: policies have no event to wait for
		}
	}
}

// namespace asks, as the server, for a namespace; nothing is kept of it.
func (c cluster) namespace(ctx context.Context, name string, labels map[string]string) error {
	_, err := c.server.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// bind asks, as the server, for a binding in a namespace to a role, for a service
// account of the namespace penstock.
func (c cluster) bind(ctx context.Context, namespace, role, to string) error {
	_, err := c.server.RbacV1().RoleBindings(namespace).Create(ctx, binding(role, to), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

func binding(role, to string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "penstock"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Name: to, Namespace: "penstock"}},
	}
}

func ours() map[string]string {
	return map[string]string{"app.kubernetes.io/managed-by": "penstock", "pod-security.kubernetes.io/enforce": "restricted"}
}

// opened makes, as the server, a project's namespace and binds it there.
func opened(t *testing.T) cluster {
	t.Helper()
	c := installed(t)
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: project, Labels: ours()}}
	if _, err := c.server.CoreV1().Namespaces().Create(t.Context(), n, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	if _, err := c.server.RbacV1().RoleBindings(project).Create(t.Context(), binding("penstock-project", "penstock"), metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	return c
}

func TestTheClusterAcceptsEveryOverlayWithoutAWarning(t *testing.T) {
	c := installed(t)
	for _, overlay := range overlays {
		apply(t.Context(), t, c.kubeconfig, "--dry-run=server", "-k", overlay)
	}
}

// A Deployment is never refused by Pod Security; its pods are.
func TestServersPassPodSecurityRestricted(t *testing.T) {
	c := installed(t)
	for _, overlay := range overlays {
		template := only[appsv1.Deployment](t, rendered(t, overlay), "Deployment").Spec.Template
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "penstock-", Labels: template.Labels}, Spec: template.Spec}
		pods := c.admin.CoreV1().Pods("penstock")
		dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
		if _, err := pods.Create(t.Context(), pod, dry); err != nil {
			t.Errorf("%s: %v", overlay, err)
		}
		pod.Spec.Containers[0].SecurityContext = nil // is the level enforced at all?
		if _, err := pods.Create(t.Context(), pod, dry); err == nil || !strings.Contains(err.Error(), "PodSecurity") {
			t.Errorf("%s: a pod without security context: %v", overlay, err)
		}
	}
}

// right is one thing that may be done or not: "create pods/binding".
type right struct{ namespace, text string }

func (c cluster) may(t *testing.T, r right) bool {
	t.Helper()
	words := strings.Fields(r.text)
	resource, sub, _ := strings.Cut(words[1], "/")
	name, group, _ := strings.Cut(resource, ".")
	a := &authorizationv1.ResourceAttributes{Namespace: r.namespace, Verb: words[0], Group: group, Resource: name, Subresource: sub}
	if len(words) > 2 {
		a.Name = words[2]
	}
	answer, err := c.admin.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: account, Groups: groups(), ResourceAttributes: a},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Allowed
}

// Each line is a call of internal/run/kubernetes.
func TestServerMayDoAllThatItsExecutorDoes(t *testing.T) {
	c := opened(t)
	for _, text := range []string{
		"list nodes", "watch nodes", "list pods", "watch pods", "list jobs.batch", "watch jobs.batch", "list configmaps", "watch configmaps",
		"create namespaces", "bind clusterroles.rbac.authorization.k8s.io penstock-project",
	} {
		if !c.may(t, right{"", text}) {
			t.Errorf("it can't %s", text)
		}
	}
	for _, text := range []string{
		"create resourcequotas", "patch networkpolicies.networking.k8s.io", "create networkpolicies.networking.k8s.io", "get networkpolicies.networking.k8s.io",
		"create configmaps", "get configmaps", "patch configmaps", "delete configmaps", "create secrets", "get secrets", "create services", "get services",
		"create jobs.batch", "get jobs.batch", "delete jobs.batch", "list events", "get pods", "deletecollection pods", "create pods/binding", "get pods/log",
		"get pods/exec", "create pods/exec", "get pods/portforward", "create pods/portforward", "create rolebindings.rbac.authorization.k8s.io",
	} {
		if !c.may(t, right{project, text}) {
			t.Errorf("it can't %s in a project's namespace", text)
		}
	}
}

func TestServerMayDoNothingThatItsExecutorDoesNot(t *testing.T) {
	c := opened(t)
	for _, r := range []right{
		{"", "get secrets"}, {"", "list secrets"}, {"", "patch nodes"}, {"", "update nodes"}, {"", "delete nodes"}, {"", "create nodes/proxy"}, {"", "get nodes/proxy"},
		{"", "create clusterroles.rbac.authorization.k8s.io"}, {"", "update clusterroles.rbac.authorization.k8s.io penstock-fleet"},
		{"", "escalate clusterroles.rbac.authorization.k8s.io"}, {"", "bind clusterroles.rbac.authorization.k8s.io cluster-admin"},
		{"", "create clusterrolebindings.rbac.authorization.k8s.io"}, {"", "patch namespaces"}, {"", "update namespaces"}, {"", "delete namespaces"},
		{"", "delete validatingadmissionpolicies.admissionregistration.k8s.io"}, {"", "impersonate users"}, {"", "create serviceaccounts/token"},
		{project, "list secrets"}, {project, "create pods"}, {project, "create serviceaccounts"}, {project, "delete rolebindings.rbac.authorization.k8s.io"},
	} {
		if c.may(t, r) {
			t.Errorf("it can %s in %q", r.text, r.namespace)
		}
	}
	for _, namespace := range []string{"kube-system", "default", "penstock"} {
		for _, text := range []string{
			"get secrets", "list secrets", "create secrets", "get pods/log", "create pods", "delete pods", "create pods/binding", "create pods/exec", "get pods/exec",
			"create jobs.batch", "create configmaps", "patch configmaps", "get configmaps kubeadm-config", "patch networkpolicies.networking.k8s.io", "create serviceaccounts/token",
		} {
			if c.may(t, right{namespace, text}) {
				t.Errorf("it can %s in %s", text, namespace)
			}
		}
	}
}

// With these a server that was taken over can't open any door but those that it
// has.
func TestServerCantBindItselfWhereNoProjectIs(t *testing.T) {
	c := opened(t)
	for _, x := range []struct{ namespace, role, to, refusal string }{
		{project, "penstock-project", "penstock", ""},
		{project, "penstock-project", "default", "nobody but itself"},
		{project, "cluster-admin", "penstock", "attempting to grant RBAC permissions"},
		{"kube-system", "penstock-project", "penstock", "namespaces of its projects only"},
		{"default", "penstock-project", "penstock", "namespaces of its projects only"},
		{"penstock", "penstock-project", "penstock", "namespaces of its projects only"},
	} {
		err := c.bind(t.Context(), x.namespace, x.role, x.to)
		if apierrors.IsAlreadyExists(err) {
			err = nil // as far as anybody asks here, it was allowed
		}
		if (err == nil) != (x.refusal == "") || err != nil && !strings.Contains(err.Error(), x.refusal) {
			t.Errorf("%+v: %v", x, err)
		}
	}
}

func TestServerMakesNamespacesOfProjectsOnly(t *testing.T) {
	c := installed(t)
	for _, x := range []struct {
		labels  map[string]string
		refusal string
	}{
		{ours(), ""},
		{nil, "namespaces of its projects only"},
		{map[string]string{"app.kubernetes.io/managed-by": "penstock"}, "level restricted"},
		{map[string]string{"app.kubernetes.io/managed-by": "penstock", "pod-security.kubernetes.io/enforce": "privileged"}, "level restricted"},
		{map[string]string{"app.kubernetes.io/managed-by": "helm", "pod-security.kubernetes.io/enforce": "restricted"}, "namespaces of its projects only"},
	} {
		err := c.namespace(t.Context(), "penstock-another", x.labels)
		if (err == nil) != (x.refusal == "") || err != nil && !strings.Contains(err.Error(), x.refusal) {
			t.Errorf("labels %v: %v", x.labels, err)
		}
	}
	admin := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "penstock-another"}}
	if _, err := c.admin.CoreV1().Namespaces().Create(t.Context(), admin, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Errorf("the policy holds for others, too: %v", err)
	}
}
