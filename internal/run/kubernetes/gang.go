package kubernetes

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Where things are in a pod.
const (
	taskContainer = "task"
	agentFolder   = "/penstock/bin"     // the program, put there by the init container
	taskFolder    = "/penstock/task"    // the agent's folder
	contactFolder = "/penstock/contact" // how the server is reached
	contactFile   = "contact.json"
	masterPort    = 29500 // each pod has an address of its own, so all of its ports are free
)

const (
	// delivery is what an agent has after its task's grace, to store what is left
	// and to deliver its last report, before the kubelet kills it.
	delivery = 30 * time.Second
	// keep is how long a Job that has ended stays, and with it its pods' logs. The
	// record stays for as long as the server keeps the attempt.
	keep = 7 * 24 * time.Hour
	// queueLabel names Kueue's LocalQueue.
	queueLabel = "kueue.x-k8s.io/queue-name"
)

// gang are the objects that one attempt is made of, without its record.
type gang struct {
	secret   *corev1.Secret
	service  *corev1.Service             // nil for a single task
	network  *networkingv1.NetworkPolicy // nil for a single task
	jobs     []*batchv1.Job
	attempt  *attempt
	orders   []v1.Order
	labels   map[string]string
	executor *Executor
}

// build makes the objects of a gang whose record exists.
func (e *Executor) build(a *attempt, orders []v1.Order) (*gang, error) {
	g := &gang{attempt: a, orders: orders, labels: e.labels(orders[0]), executor: e}
	if err := e.checkContact(orders[0].Server); err != nil {
		return nil, err
	}
	if e.Queue != "" && len(a.Sets) > 1 {
		return nil, &penstock.Error{
			Code: penstock.Unsupported, Msg: fmt.Sprintf("a gang of %d task sets can't be queued whole: Kueue admits each Job by itself", len(a.Sets)),
			Hint: "use one task set, or a pool without a queue",
		}
	}
	contact, err := json.Marshal(orders[0].Server)
	if err != nil {
		return nil, fmt.Errorf("encode contact: %w", err)
	}
	fixed := true
	g.secret = &corev1.Secret{ObjectMeta: g.meta(a.name), Immutable: &fixed, Data: map[string][]byte{contactFile: contact}}
	if a.world() > 1 {
		g.service, g.network = g.rendezvous(), g.together()
	}
	for i := range a.Sets {
		job, err := g.job(i)
		if err != nil {
			return nil, err
		}
		g.jobs = append(g.jobs, job)
	}
	return g, nil
}

// checkContact refuses a server that no pod can reach.
func (e *Executor) checkContact(c v1.Contact) error {
	mounted := slices.ContainsFunc(e.Volumes, func(v Volume) bool {
		return v.HostPath != "" && v.HostPath == v.Path && strings.HasPrefix(c.AddressFile, v.Path+"/")
	})
	u, err := url.Parse(c.URL)
	ip := net.IP(nil)
	if err == nil {
		ip = net.ParseIP(u.Hostname())
	}
	if mounted || err == nil && u.Host != "" && u.Hostname() != "localhost" && !ip.IsLoopback() {
		return nil
	}
	return &penstock.Error{
		Code: penstock.Invalid, Msg: fmt.Sprintf("agents in pods can't reach the server at %q", c.URL),
		Hint: "set advertise to the URL at which pods reach it",
	}
}

func (g *gang) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: g.attempt.namespace, Name: name, Labels: g.labels, OwnerReferences: g.attempt.owner()}
}

// rendezvous gives each pod a name, also before it is ready: the ranks meet at
// that of rank 0.
func (g *gang) rendezvous() *corev1.Service {
	return &corev1.Service{ObjectMeta: g.meta(g.attempt.name), Spec: corev1.ServiceSpec{
		ClusterIP: corev1.ClusterIPNone, PublishNotReadyAddresses: true,
		Selector: map[string]string{attemptLabel: string(g.attempt.Attempt)},
	}}
}

// together lets the tasks of a gang reach each other, in a namespace that
// forbids all that isn't allowed.
func (g *gang) together() *networkingv1.NetworkPolicy {
	members := metav1.LabelSelector{MatchLabels: map[string]string{attemptLabel: string(g.attempt.Attempt)}}
	peers := []networkingv1.NetworkPolicyPeer{{PodSelector: &members}}
	return &networkingv1.NetworkPolicy{ObjectMeta: g.meta(g.attempt.name), Spec: networkingv1.NetworkPolicySpec{
		PodSelector: members,
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Ingress:     []networkingv1.NetworkPolicyIngressRule{{From: peers}},
		Egress:      []networkingv1.NetworkPolicyEgressRule{{To: peers}},
	}}
}

// master is where the ranks meet: this pod alone, or the name of rank 0.
func (a *attempt) master() string {
	host := "127.0.0.1"
	if a.world() > 1 {
		host = a.job(0) + "-0." + a.name + "." + a.namespace + ".svc"
	}
	return net.JoinHostPort(host, strconv.Itoa(masterPort))
}

// job is one task set. It never starts a pod again: that is the server's to
// decide, for the whole gang.
func (g *gang) job(set int) (*batchv1.Job, error) {
	e, p := g.executor, g.attempt.Sets[set]
	template, err := g.pod(set)
	if err != nil {
		return nil, err
	}
	count, zero, ttl := int32(p.Count), int32(0), int32(keep/time.Second)
	indexed, replacement, suspend := batchv1.IndexedCompletion, batchv1.Failed, e.Queue != ""
	meta := g.meta(g.attempt.job(set))
	meta.Labels = template.Labels
	if suspend {
		meta.Labels = maps.Clone(meta.Labels)
		meta.Labels[queueLabel] = e.Queue
	}
	return &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{
		Completions: &count, Parallelism: &count, CompletionMode: &indexed, BackoffLimit: &zero,
		// A pod counts as failed only when it is dead, not already when it is told
		// to end.
		PodReplacementPolicy: &replacement, TTLSecondsAfterFinished: &ttl, Suspend: &suspend, Template: template,
	}}, nil
}

func (g *gang) pod(set int) (corev1.PodTemplateSpec, error) {
	e, a := g.executor, g.attempt
	p := a.Sets[set]
	needs, affinity, err := e.needs(p, a)
	if err != nil {
		return corev1.PodTemplateSpec{}, err
	}
	image := g.orders[p.First].Image
	if image == "" {
		image = e.Image
	}
	if image == "" {
		return corev1.PodTemplateSpec{}, &penstock.Error{
			Code: penstock.Invalid, Msg: fmt.Sprintf("task set %s names no image, and its pool has none", p.Name), Hint: "set image in the task set",
		}
	}
	labels := maps.Clone(g.labels)
	labels[setLabel], labels[firstLabel] = labelValue(p.Name), strconv.Itoa(p.First)
	no, enforce, grace := false, true, int64((time.Duration(a.Grace)+delivery+time.Second-1)/time.Second)
	spec := corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: &grace, PriorityClassName: e.PriorityClass,
		AutomountServiceAccountToken: &no, EnableServiceLinks: &no, SchedulerName: e.Scheduler, Affinity: affinity, Tolerations: e.tolerations(),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: &enforce, RunAsUser: &e.User, RunAsGroup: &e.User, FSGroup: &e.User,
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		InitContainers: []corev1.Container{e.installer(needs)},
		Containers:     []corev1.Container{e.task(a, p, image, needs)},
		Volumes:        append(podVolumes(a.name), e.extraVolumes()...),
	}
	if e.RuntimeClass != "" {
		spec.RuntimeClassName = &e.RuntimeClass
	}
	if e.Placement == Planned {
		spec.SchedulerName = schedulerName
	}
	if a.world() > 1 {
		spec.Subdomain = a.name
	}
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: e.Annotations}, Spec: spec}, nil
}

// confined is what no container of ours may do.
func confined() *corev1.SecurityContext {
	no := false
	return &corev1.SecurityContext{AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
}

// installer copies the agent into the pod. It takes what the task will take, but
// for devices: that costs nothing, and some sites refuse containers without.
func (e *Executor) installer(needs corev1.ResourceList) corev1.Container {
	small := corev1.ResourceList{}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if q, ok := needs[name]; ok {
			small[name] = q
		}
	}
	return corev1.Container{
		Name: "agent", Image: e.AgentImage, Args: []string{"install", agentFolder}, SecurityContext: confined(),
		Resources:    corev1.ResourceRequirements{Requests: small, Limits: small},
		VolumeMounts: []corev1.VolumeMount{{Name: "agent", MountPath: agentFolder}},
	}
}

func (e *Executor) task(a *attempt, p part, image string, needs corev1.ResourceList) corev1.Container {
	mounts := []corev1.VolumeMount{
		{Name: "agent", MountPath: agentFolder, ReadOnly: true},
		{Name: "task", MountPath: taskFolder},
		{Name: "contact", MountPath: contactFolder, ReadOnly: true},
	}
	for i, v := range e.Volumes {
		mounts = append(mounts, corev1.VolumeMount{Name: volumeName(i), MountPath: v.Path, ReadOnly: v.ReadOnly})
	}
	return corev1.Container{
		Name: taskContainer, Image: image, SecurityContext: confined(), VolumeMounts: mounts, WorkingDir: taskFolder,
		Command: []string{agentFolder + "/penstock-agent"},
		Args: []string{
			"run", "--dir", taskFolder, "--contact", contactFolder + "/" + contactFile, "--master", a.master(),
			"--first", strconv.Itoa(p.First), "--rank", "$(JOB_COMPLETION_INDEX)", "--node", "$(PENSTOCK_NODE)",
		},
		Env: []corev1.EnvVar{{Name: "PENSTOCK_NODE", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}}},
		// What an agent that gives up has to say is the end of its log.
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		Resources:                corev1.ResourceRequirements{Requests: needs, Limits: needs},
	}
}

func podVolumes(secret string) []corev1.Volume {
	mode := int32(0o400) // the kubelet adds the group's right to read
	return []corev1.Volume{
		{Name: "agent", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "task", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "contact", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret, DefaultMode: &mode}}},
	}
}

func volumeName(i int) string { return "extra-" + strconv.Itoa(i) }

func (e *Executor) extraVolumes() []corev1.Volume {
	var out []corev1.Volume
	for i, v := range e.Volumes {
		volume := corev1.Volume{Name: volumeName(i)}
		if v.Claim != "" {
			volume.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ClaimName: v.Claim, ReadOnly: v.ReadOnly}
		} else {
			volume.HostPath = &corev1.HostPathVolumeSource{Path: v.HostPath}
		}
		out = append(out, volume)
	}
	return out
}

func (e *Executor) tolerations() []corev1.Toleration {
	var out []corev1.Toleration
	for _, t := range e.Tolerations {
		k := corev1.Toleration{Key: t.Key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffect(t.Effect)}
		if t.Value != "" {
			k.Operator, k.Value = corev1.TolerationOpEqual, t.Value
		}
		out = append(out, k)
	}
	return out
}

// needs are what a task of a set takes in Kubernetes' words, and where the
// site's scheduler has to look for its accelerator.
func (e *Executor) needs(p part, a *attempt) (corev1.ResourceList, *corev1.Affinity, error) {
	out := corev1.ResourceList{}
	var terms []corev1.NodeSelectorTerm
	for _, name := range p.Needs.Names() {
		amount := int64(p.Needs[name])
		switch {
		case amount == 0:
		case name == penstock.CPU:
			out[corev1.ResourceCPU] = *resource.NewMilliQuantity(amount, resource.DecimalSI)
		case name == penstock.Memory:
			out[corev1.ResourceMemory] = *resource.NewQuantity(amount, resource.BinarySI)
		case amount%1000 != 0:
			return nil, nil, &penstock.Error{
				Code: penstock.Unsupported, Msg: fmt.Sprintf("task set %s wants %s of a %s, and Kubernetes gives whole ones only", p.Name, name.Format(penstock.Amount(amount)), name),
				Hint: "ask for a whole one, or for a type that the cluster shares or cuts up: a name with -shared or -mig-",
			}
		default:
			kind, err := e.findAccelerator(name, p, a)
			if err != nil {
				return nil, nil, err
			}
			out[kind.resource] = *resource.NewQuantity(amount/1000, resource.DecimalSI)
			terms = kind.terms()
		}
	}
	if e.Placement == Planned {
		return out, nil, nil
	}
	return out, e.affinity(terms), nil
}
