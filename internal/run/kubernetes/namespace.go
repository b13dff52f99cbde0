package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// fieldManager is who we are to the API server where several edit one object.
const fieldManager = "penstock"

// maxObjects bounds what one project can leave behind in the cluster: attempts
// are kept until their job is deleted.
const maxObjects = 20_000

// ensure sets up a project's namespace, once in the life of this process. What
// an operator made before us, or has changed since, stands; only the network
// policy is ours, since it follows the server's address.
func (e *Executor) ensure(ctx context.Context, project string, server v1.Contact) error {
	name := e.namespace(project)
	e.mu.Lock()
	done := e.ensured[name]
	e.mu.Unlock()
	if done {
		return nil
	}
	meta := metav1.ObjectMeta{Namespace: name, Name: "penstock", Labels: map[string]string{
		"app.kubernetes.io/managed-by": "penstock", ownerLabel: e.Prefix, domain + "project": labelValue(project),
	}}
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: e.security(meta.Labels)}}
	_, err := call(ctx, "make namespace "+name, func(ctx context.Context) (*corev1.Namespace, error) {
		return e.client.CoreV1().Namespaces().Create(ctx, space, metav1.CreateOptions{})
	})
	if ignore(err, penstock.Exists) != nil {
		return err
	}
	if err := e.bindSelf(ctx, meta); err != nil {
		return err
	}
	if err := e.closeOff(ctx, meta, server); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ensured[name] = true
	return nil
}

// projectRole is the ClusterRole with what this package does in the namespace of
// a project, see deploy/kubernetes.
const projectRole = "penstock-project"

// bindSelf gives a server that runs as a service account its rights in a
// namespace. One that has them otherwise may not bind, and needs not.
func (e *Executor) bindSelf(ctx context.Context, meta metav1.ObjectMeta) error {
	self, err := call(ctx, "ask who this server is", func(ctx context.Context) (*authenticationv1.SelfSubjectReview, error) {
		return e.client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	})
	if err != nil {
		return err
	}
	account, ok := strings.CutPrefix(self.Status.UserInfo.Username, "system:serviceaccount:")
	home, account, _ := strings.Cut(account, ":")
	if !ok {
		return nil
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: projectRole},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: home, Name: account}},
	}
	_, err = call(ctx, "take the rights in namespace "+meta.Namespace, func(ctx context.Context) (*rbacv1.RoleBinding, error) {
		return e.client.RbacV1().RoleBindings(meta.Namespace).Create(ctx, binding, metav1.CreateOptions{})
	})
	if penstock.CodeOf(err) == penstock.Denied {
		e.Log.Info("the server can't bind itself in a project's namespace", "namespace", meta.Namespace, "error", err)
		return nil
	}
	return ignore(err, penstock.Exists)
}

const (
	// rightsTime is how long the API server may take to heed a new binding.
	rightsTime  = 5 * time.Second
	rightsPause = 100 * time.Millisecond
)

// closeOff bounds a namespace and closes its network. What was just allowed may
// still be refused for a moment.
func (e *Executor) closeOff(ctx context.Context, meta metav1.ObjectMeta, server v1.Contact) error {
	policy, err := json.Marshal(e.policy(meta, server))
	if err != nil {
		return fmt.Errorf("encode network policy: %w", err)
	}
	for deadline := time.After(rightsTime); ; {
		_, err := call(ctx, "bound namespace "+meta.Namespace, func(ctx context.Context) (*corev1.ResourceQuota, error) {
			return e.client.CoreV1().ResourceQuotas(meta.Namespace).Create(ctx, quota(meta), metav1.CreateOptions{})
		})
		if err = ignore(err, penstock.Exists); err == nil {
			_, err = call(ctx, "close the network of namespace "+meta.Namespace, func(ctx context.Context) (*networkingv1.NetworkPolicy, error) {
				yes := true
				return e.client.NetworkingV1().NetworkPolicies(meta.Namespace).Patch(ctx, meta.Name, types.ApplyPatchType, policy, metav1.PatchOptions{FieldManager: fieldManager, Force: &yes})
			})
		}
		if penstock.CodeOf(err) != penstock.Denied {
			return err
		}
		select {
		case <-deadline:
			return err
		case <-time.After(rightsPause):
		}
	}
}

// security adds the Pod Security Standard that the namespace holds its pods to.
// Folders of the node are allowed by "privileged" alone; our own pods are
// written to "restricted" in all else.
func (e *Executor) security(labels map[string]string) map[string]string {
	level := "restricted"
	if slices.ContainsFunc(e.Volumes, func(v Volume) bool { return v.HostPath != "" }) {
		level = "privileged"
	}
	out := map[string]string{"pod-security.kubernetes.io/enforce": level}
	for key, value := range labels {
		out[key] = value
	}
	return out
}

// quota bounds Jobs and pods: all else of ours comes with a Job. Each kind that
// is counted costs the API server a write for each object of it.
func quota(meta metav1.ObjectMeta) *corev1.ResourceQuota {
	hard := corev1.ResourceList{}
	for _, kind := range []corev1.ResourceName{"pods", "count/jobs.batch"} {
		hard[kind] = *resource.NewQuantity(maxObjects, resource.DecimalSI)
	}
	return &corev1.ResourceQuota{ObjectMeta: meta, Spec: corev1.ResourceQuotaSpec{Hard: hard}}
}

// policy closes the network of a project's pods, but for the server, DNS, and
// what the operator allows. Gangs have a policy each that lets them meet.
func (e *Executor) policy(meta metav1.ObjectMeta, server v1.Contact) *networkingv1.NetworkPolicy {
	servers := []networkingv1.NetworkPolicyPeer{{
		NamespaceSelector: &metav1.LabelSelector{},
		PodSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": "penstock"}},
	}}
	if u, err := url.Parse(server.URL); err == nil {
		if block := host(u.Hostname()); block != nil {
			servers = append(servers, networkingv1.NetworkPolicyPeer{IPBlock: block})
		}
	}
	allowed := []networkingv1.NetworkPolicyEgressRule{
		{To: servers},
		// To any address: a cache for DNS on the node itself belongs to no pod.
		{Ports: append(ports(corev1.ProtocolUDP, 53), ports(corev1.ProtocolTCP, 53)...)},
	}
	if len(e.Egress) > 0 {
		var peers []networkingv1.NetworkPolicyPeer
		for _, cidr := range e.Egress {
			peers = append(peers, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr}})
		}
		allowed = append(allowed, networkingv1.NetworkPolicyEgressRule{To: peers})
	}
	return &networkingv1.NetworkPolicy{
		TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}, ObjectMeta: meta,
		Spec: networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			Ingress:     []networkingv1.NetworkPolicyIngressRule{{From: servers}},
			Egress:      allowed,
		},
	}
}

// host is the block of one address, or nil for a name.
func host(name string) *networkingv1.IPBlock {
	ip := net.ParseIP(name)
	if ip == nil {
		return nil
	}
	bits := 128
	if four := ip.To4(); four != nil {
		ip, bits = four, 32
	}
	return &networkingv1.IPBlock{CIDR: (&net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)}).String()}
}

func ports(protocol corev1.Protocol, numbers ...int) []networkingv1.NetworkPolicyPort {
	var out []networkingv1.NetworkPolicyPort
	for _, n := range numbers {
		port := intstr.FromInt(n)
		out = append(out, networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: &port})
	}
	return out
}
