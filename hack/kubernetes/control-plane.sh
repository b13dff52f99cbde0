# shellcheck shell=bash
# Sourced by hack/cluster: etcd, the API server and what acts through it alone.

start_etcd() {
	# Without fsync it loses its data when the machine does: a test cluster may.
	start etcd "$bin/etcd" --data-dir="$state/etcd" --unsafe-no-fsync --snapshot-count=10000 --log-level=warn \
		--listen-client-urls=https://127.0.0.1:2379 --advertise-client-urls=https://127.0.0.1:2379 \
		--listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
		--initial-cluster=default=http://127.0.0.1:2380 \
		--client-cert-auth --trusted-ca-file="$credentials/etcd-ca.crt" \
		--cert-file="$credentials/etcd.crt" --key-file="$credentials/etcd.key"
}

start_apiserver() {
	start kube-apiserver "$bin/kube-apiserver" \
		--bind-address=0.0.0.0 --secure-port=6443 --advertise-address="$address" \
		--tls-cert-file="$credentials/kube-apiserver.crt" --tls-private-key-file="$credentials/kube-apiserver.key" \
		--client-ca-file="$credentials/ca.crt" --anonymous-auth=false \
		--requestheader-client-ca-file="$credentials/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
		--requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
		--requestheader-extra-headers-prefix=X-Remote-Extra- \
		--proxy-client-cert-file="$credentials/front-proxy-client.crt" --proxy-client-key-file="$credentials/front-proxy-client.key" \
		--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
		--etcd-servers=https://127.0.0.1:2379 --etcd-cafile="$credentials/etcd-ca.crt" \
		--etcd-certfile="$credentials/kube-apiserver-etcd-client.crt" --etcd-keyfile="$credentials/kube-apiserver-etcd-client.key" \
		--kubelet-certificate-authority="$credentials/ca.crt" --kubelet-preferred-address-types=InternalIP \
		--kubelet-client-certificate="$credentials/kube-apiserver-kubelet-client.crt" \
		--kubelet-client-key="$credentials/kube-apiserver-kubelet-client.key" \
		--service-cluster-ip-range="$services" --allow-privileged=true --profiling=false \
		--service-account-issuer=https://kubernetes.default.svc.cluster.local \
		--service-account-key-file="$credentials/service-account.pub" \
		--service-account-signing-key-file="$credentials/service-account.key"
}

start_controllers() {
	# The clients' default limits, 20 and 50 requests a second, are for clusters
	# that share their API server; here they would be what is measured.
	start kube-controller-manager "$bin/kube-controller-manager" --kubeconfig="$credentials/kube-controller-manager.kubeconfig" \
		--authentication-kubeconfig="$credentials/kube-controller-manager.kubeconfig" \
		--authorization-kubeconfig="$credentials/kube-controller-manager.kubeconfig" \
		--client-ca-file="$credentials/ca.crt" --tls-cert-file="$credentials/kube-controller-manager-server.crt" \
		--tls-private-key-file="$credentials/kube-controller-manager-server.key" \
		--leader-elect=false --profiling=false --use-service-account-credentials=true \
		--kube-api-qps=1000 --kube-api-burst=2000 --concurrent-job-syncs=20 \
		--root-ca-file="$credentials/ca.crt" --service-account-private-key-file="$credentials/service-account.key" \
		--cluster-signing-cert-file="$credentials/ca.crt" --cluster-signing-key-file="$credentials/ca.key" \
		--service-cluster-ip-range="$services"
	start kube-scheduler "$bin/kube-scheduler" --config="$state/kube-scheduler.yaml" \
		--authentication-kubeconfig="$credentials/kube-scheduler.kubeconfig" \
		--authorization-kubeconfig="$credentials/kube-scheduler.kubeconfig" \
		--client-ca-file="$credentials/ca.crt" --tls-cert-file="$credentials/kube-scheduler-server.crt" \
		--tls-private-key-file="$credentials/kube-scheduler-server.key"
	start kwok "$bin/kwok" --kubeconfig="$credentials/kwok.kubeconfig" --config="$build/kwok-stages.yaml" \
		--manage-all-nodes=false --manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake \
		--node-lease-duration-seconds=40 --cidr="$fake_pods" --server-address=127.0.0.1:10247 -v=WARN
}

write_control_plane() {
	put "$state/kube-scheduler.yaml" <<-YAML
		apiVersion: kubescheduler.config.k8s.io/v1
		kind: KubeSchedulerConfiguration
		clientConnection: {kubeconfig: "$credentials/kube-scheduler.kubeconfig", qps: 1000, burst: 2000}
		leaderElection: {leaderElect: false}
		enableProfiling: false
	YAML
}

answers() { kube get --raw /readyz; }
