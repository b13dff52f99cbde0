// Program credentials makes what the parts of the test cluster know each other
// by: three certificate authorities (etcd has its own, so that no client of the
// API server is one of etcd, and so have proxies that speak for users), a key for
// the tokens of service accounts, a certificate for each server, and a kubeconfig
// with a client certificate for each client. Nothing in the cluster is believed
// without a signature.
//
//	credentials -dir DIR -address IP -service IP -node NAME
//
// What stands in the folder already is kept: a cluster that is half up goes on
// with the credentials it began with.
package main

import (
	"crypto/x509/pkix"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// Users and groups that Kubernetes' own roles know:
// https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings.
var clients = []client{
	{file: "admin", user: "penstock-admin", group: "system:masters"},
	{file: "kube-controller-manager", user: "system:kube-controller-manager"},
	{file: "kube-scheduler", user: "system:kube-scheduler"},
	{file: "kube-proxy", user: "system:kube-proxy"},
	{file: "coredns", user: "system:coredns"},
	{file: "kwok", user: "system:kwok"},
}

type client struct{ file, user, group string }

type settings struct {
	dir     string
	address net.IP // where the API server and the kubelet listen
	service net.IP // the first of the Services' addresses, the API server's
	node    string // the real node's name
}

func main() {
	s, err := parse(os.Args[1:])
	if err == nil {
		err = makeAll(s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "credentials:", err)
		os.Exit(1)
	}
}

func parse(args []string) (settings, error) {
	flags := flag.NewFlagSet("credentials", flag.ExitOnError)
	dir := flags.String("dir", "", "`folder` to write into, made with mode 0700")
	address := flags.String("address", "", "`IP` address of the API server and of the real node")
	service := flags.String("service", "", "`IP` address of the Service named kubernetes")
	node := flags.String("node", "", "`name` of the real node")
	if err := flags.Parse(args); err != nil {
		return settings{}, err
	}
	s := settings{dir: *dir, address: net.ParseIP(*address), service: net.ParseIP(*service), node: *node}
	if s.dir == "" || s.node == "" || s.address == nil || s.service == nil {
		return settings{}, errors.New("-dir, -address, -service and -node are needed; -address and -service are IP addresses")
	}
	return s, nil
}

func makeAll(s settings) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of credentials: %w", err)
	}
	if err := serviceAccountKey(s.dir); err != nil {
		return err
	}
	etcd, err := openAuthority(s.dir, "etcd-ca")
	if err != nil {
		return err
	}
	loopback := net.IPv4(127, 0, 0, 1)
	if err := etcd.server("etcd", []string{"localhost"}, []net.IP{loopback}); err != nil {
		return err
	}
	if err := etcd.client("kube-apiserver-etcd-client", pkix.Name{CommonName: "kube-apiserver"}); err != nil {
		return err
	}
	proxy, err := openAuthority(s.dir, "front-proxy-ca")
	if err != nil {
		return err
	}
	if err := proxy.client("front-proxy-client", pkix.Name{CommonName: "front-proxy-client"}); err != nil {
		return err
	}
	return clusterCredentials(s, loopback)
}

func clusterCredentials(s settings, loopback net.IP) error {
	ca, err := openAuthority(s.dir, "ca")
	if err != nil {
		return err
	}
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	if err := ca.server("kube-apiserver", names, []net.IP{s.address, s.service, loopback}); err != nil {
		return err
	}
	if err := ca.server("kubelet-server", []string{s.node}, []net.IP{s.address, loopback}); err != nil {
		return err
	}
	// The metrics of these two are read over the network.
	for _, name := range []string{"kube-controller-manager-server", "kube-scheduler-server"} {
		if err := ca.server(name, []string{"localhost"}, []net.IP{s.address, loopback}); err != nil {
			return err
		}
	}
	// The Node authorizer knows a kubelet by this user and this group.
	all := append([]client{{file: "kubelet", user: "system:node:" + s.node, group: "system:nodes"}}, clients...)
	for _, c := range all {
		name := pkix.Name{CommonName: c.user}
		if c.group != "" {
			name.Organization = []string{c.group}
		}
		if err := ca.client(c.file, name); err != nil {
			return err
		}
		if err := kubeconfig(s, c.file); err != nil {
			return err
		}
	}
	// The API server asks kubelets for logs; the role that allows it is bound to this user at up.
	return ca.client("kube-apiserver-kubelet-client", pkix.Name{CommonName: "system:kube-apiserver-kubelet-client"})
}

// exists tells whether all of the files stand in the folder.
func exists(dir string, files ...string) bool {
	for _, file := range files {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			return false
		}
	}
	return true
}
