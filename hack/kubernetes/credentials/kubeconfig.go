package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
)

// layout is a kubeconfig (https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/)
// with everything in it, so that the file can be carried elsewhere alone.
const layout = `apiVersion: v1
kind: Config
clusters:
- name: penstock
  cluster:
    server: https://%s:6443
    certificate-authority-data: %s
users:
- name: %s
  user:
    client-certificate-data: %s
    client-key-data: %s
contexts:
- name: penstock
  context: {cluster: penstock, user: %[3]s}
current-context: penstock
`

// kubeconfig writes NAME.kubeconfig for the client that NAME.crt and NAME.key are of.
func kubeconfig(s settings, name string) error {
	path := filepath.Join(s.dir, name+".kubeconfig")
	if exists(s.dir, name+".kubeconfig") {
		return nil
	}
	var data [3]string
	for i, file := range []string{"ca.crt", name + ".crt", name + ".key"} {
		raw, err := os.ReadFile(filepath.Join(s.dir, file))
		if err != nil {
			return fmt.Errorf("read a credential: %w", err)
		}
		data[i] = base64.StdEncoding.EncodeToString(raw)
	}
	content := fmt.Sprintf(layout, s.address, data[0], name, data[1], data[2])
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write a kubeconfig: %w", err)
	}
	return nil
}
