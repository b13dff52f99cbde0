package kubernetes_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/penstock/penstock/internal/config"
)

var overlays = []string{"overlays/single", "overlays/replicas"}

// kubectl gives the program's path, or ends the test loudly.
func kubectl(t *testing.T) string {
	t.Helper()
	built := filepath.Join("..", "..", ".build", "cluster", "bin", "kubectl")
	if path, err := filepath.Abs(built); err == nil {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	path, err := exec.LookPath("kubectl")
	if err != nil {
		absent(t, "there is no kubectl: 'hack/cluster up' builds one")
	}
	return path
}

// absent ends a test for which something is missing: in the checks that decide
// whether a change lands nothing may be.
func absent(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("PENSTOCK_CI") != "" {
		t.Fatal(why)
	}
	t.Skip("NOT TESTED: " + why)
}

// kustomized is what was rendered before: kubectl takes its time to start.
var kustomized = map[string][]byte{}

// rendered are the objects of a folder, as kustomize makes them.
func rendered(t *testing.T, folder string) []unstructured.Unstructured {
	t.Helper()
	if kustomized[folder] == nil {
		cmd := exec.CommandContext(t.Context(), kubectl(t), "kustomize", folder)
		var told bytes.Buffer
		cmd.Stderr = &told
		out, err := cmd.Output()
		if err != nil || strings.Contains(told.String(), "Warning") {
			t.Fatalf("kustomize %s: %v\n%s", folder, err, told.String())
		}
		kustomized[folder] = out
	}
	var all []unstructured.Unstructured
	for document := range bytes.SplitSeq(kustomized[folder], []byte("\n---\n")) {
		var o unstructured.Unstructured
		if err := yaml.Unmarshal(document, &o.Object); err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

// only is the one object of a kind, in its type.
func only[T any](t *testing.T, all []unstructured.Unstructured, kind string) *T {
	t.Helper()
	found := slices.DeleteFunc(slices.Clone(all), func(o unstructured.Unstructured) bool { return o.GetKind() != kind })
	if len(found) != 1 {
		t.Fatalf("there are %d of kind %s", len(found), kind)
	}
	into := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found[0].Object, into); err != nil {
		t.Fatal(err)
	}
	return into
}

func TestEveryOverlayHasSettingsThatTheServerTakes(t *testing.T) {
	for _, overlay := range overlays {
		all := rendered(t, overlay)
		path := filepath.Join(t.TempDir(), "penstock.yaml")
		if err := os.WriteFile(path, []byte(only[corev1.ConfigMap](t, all, "ConfigMap").Data["penstock.yaml"]), 0o600); err != nil {
			t.Fatal(err)
		}
		pod := only[appsv1.Deployment](t, all, "Deployment").Spec.Template.Spec
		var environ []string
		for _, v := range pod.Containers[0].Env {
			environ = append(environ, v.Name+"=postgres://penstock@db.example/penstock")
		}
		c, err := config.Load(path, environ)
		if err != nil {
			t.Errorf("%s: %v", overlay, err)
			continue
		}
		for _, file := range []string{c.TLS.Cert, c.TLS.Key, c.TLS.CA, c.SecretDir, c.DataDir, c.Store.PasswordFile, c.Blobs.S3.CredentialsFile} {
			if file != "" && !mounted(pod.Containers[0], file) {
				t.Errorf("%s: the settings name %s, where nothing is mounted", overlay, file)
			}
		}
		if replicas := overlay == "overlays/replicas"; replicas != (c.Store.URL != "") || replicas != (c.Blobs.S3.Bucket != "") {
			t.Errorf("%s keeps state in %q and files in %q", overlay, c.Store.URL, c.Blobs.S3.Bucket)
		}
	}
}

func mounted(c corev1.Container, file string) bool {
	return slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
		return file == m.MountPath || strings.HasPrefix(file, m.MountPath+"/")
	})
}

func TestServersEndBeforeTheKubeletKillsThem(t *testing.T) {
	const inFlight = 5 // seconds that cmd/penstock gives calls and the lead's return
	for _, overlay := range overlays {
		pod := only[appsv1.Deployment](t, rendered(t, overlay), "Deployment").Spec.Template.Spec
		c := pod.Containers[0]
		if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil {
			t.Fatalf("%s: no pause before the end", overlay)
		}
		if need, have := c.Lifecycle.PreStop.Sleep.Seconds+inFlight, *pod.TerminationGracePeriodSeconds; have < 2*need {
			t.Errorf("%s: %d s of grace are too near to the %d s that an orderly end takes", overlay, have, need)
		}
		for name, p := range map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
			if p == nil || p.Exec == nil || !slices.Contains(p.Exec.Command, "health") || p.TimeoutSeconds < 5 {
				t.Errorf("%s: %s probe %+v", overlay, name, p)
			}
		}
	}
}

func TestThreeReplicasAreSpreadAndDrainedOneByOne(t *testing.T) {
	all := rendered(t, "overlays/replicas")
	d := only[appsv1.Deployment](t, all, "Deployment")
	if *d.Spec.Replicas != 3 || len(d.Spec.Template.Spec.TopologySpreadConstraints) != 2 {
		t.Errorf("%d replicas with %d constraints", *d.Spec.Replicas, len(d.Spec.Template.Spec.TopologySpreadConstraints))
	}
	if b := only[policyv1.PodDisruptionBudget](t, all, "PodDisruptionBudget"); b.Spec.MaxUnavailable.IntValue() != 1 {
		t.Errorf("%s may be away at once", b.Spec.MaxUnavailable)
	}
	single := only[appsv1.Deployment](t, rendered(t, "overlays/single"), "Deployment")
	if *single.Spec.Replicas != 1 || single.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		t.Errorf("one server: %d replicas, strategy %s: two at once would fight for the data folder", *single.Spec.Replicas, single.Spec.Strategy.Type)
	}
}

// The names are what 'make image' gives, under which no registry answers.
func TestImagesAreThoseOfMakeImage(t *testing.T) {
	for _, overlay := range overlays {
		all := rendered(t, overlay)
		if image := only[appsv1.Deployment](t, all, "Deployment").Spec.Template.Spec.Containers[0].Image; image != "localhost/penstock:dev" {
			t.Errorf("%s: the server's image is %s", overlay, image)
		}
		if settings := only[corev1.ConfigMap](t, all, "ConfigMap").Data["penstock.yaml"]; !strings.Contains(settings, "agent_image: localhost/penstock-agent:dev") {
			t.Errorf("%s: the settings name another agent:\n%s", overlay, settings)
		}
	}
}

func TestMonitorCanBeAddedToAnyOverlay(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, overlay := range overlays {
		dir := t.TempDir()
		rel, err := filepath.Rel(dir, here)
		if err != nil {
			t.Fatal(err)
		}
		text := "resources: [" + filepath.Join(rel, overlay) + "]\ncomponents: [" + filepath.Join(rel, "components/monitor") + "]\n"
		if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if m := only[metav1.PartialObjectMetadata](t, rendered(t, dir), "ServiceMonitor"); m.Namespace != "penstock" {
			t.Errorf("%s: the monitor is in namespace %q", overlay, m.Namespace)
		}
	}
}

// apply sends a manifest to the cluster with kubectl.
func apply(ctx context.Context, t *testing.T, kubeconfig string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, kubectl(t), append([]string{"--kubeconfig", kubeconfig, "apply", "--server-side", "--force-conflicts"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("Warning")) {
		t.Fatalf("apply %v: %v\n%s", args, err, out)
	}
}
