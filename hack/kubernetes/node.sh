# shellcheck shell=bash
# Sourced by hack/cluster: the one real machine of the cluster, with containerd,
# a kubelet, kube-proxy and the DNS server of its pods.

node=worker-1
socket=$state/containerd/containerd.sock

write_node() {
	mkdir -p "$state/containerd" "$state/cni"
	write_containerd
	write_kubelet
	put "$state/cni/10-pods.conflist" <<-JSON
		{"cniVersion": "1.0.0", "name": "penstock-$id", "plugins": [
		  {"type": "ptp", "mtu": 1500, "ipam": {"type": "host-local", "dataDir": "$state/cni/addresses",
		    "ranges": [[{"subnet": "$pods"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
		  {"type": "portmap", "capabilities": {"portMappings": true}}]}
	JSON
	put "$state/kube-proxy.yaml" <<-YAML
		apiVersion: kubeproxy.config.k8s.io/v1alpha1
		kind: KubeProxyConfiguration
		mode: nftables
		clientConnection: {kubeconfig: "$credentials/kube-proxy.kubeconfig"}
		hostnameOverride: $node
		clusterCIDR: $pods
		healthzBindAddress: 127.0.0.1:10256
		metricsBindAddress: 127.0.0.1:10249
		# The tables of connections belong to the whole machine.
		conntrack: {maxPerCore: 0, min: 0}
	YAML
	put "$state/Corefile" <<-COREFILE
		.:53 {
		  bind $address
		  errors
		  ready 127.0.0.1:8181
		  kubernetes cluster.local in-addr.arpa {
		    kubeconfig $credentials/coredns.kubeconfig
		    ttl 1
		  }
		}
	COREFILE
}

write_containerd() {
	put "$state/containerd.toml" <<-TOML
		version = 2
		root = "$state/containerd/root"
		state = "$state/containerd/state"
		[grpc]
		  address = "$socket"
		[plugins."io.containerd.internal.v1.opt"]
		  path = "$state/containerd/opt"
		[plugins."io.containerd.grpc.v1.cri"]
		  sandbox_image = "penstock.local/pause:1"
		  restrict_oom_score_adj = true
		  netns_mounts_under_state_dir = true
		  disable_apparmor = true
		  [plugins."io.containerd.grpc.v1.cri".cni]
		    bin_dir = "/usr/lib/cni"
		    conf_dir = "$state/cni"
		  [plugins."io.containerd.grpc.v1.cri".containerd]
		    snapshotter = "overlayfs"
	TOML
}

write_kubelet() {
	put "$state/kubelet.yaml" <<-YAML
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		address: $address
		healthzBindAddress: 127.0.0.1
		readOnlyPort: 0
		tlsCertFile: $credentials/kubelet-server.crt
		tlsPrivateKeyFile: $credentials/kubelet-server.key
		authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $credentials/ca.crt}}
		authorization: {mode: Webhook}
		containerRuntimeEndpoint: unix://$socket
		podLogsDir: $state/pod-logs
		# Machines with version 1 are what this has to run on, too.
		failCgroupV1: false
		cgroupDriver: cgroupfs
		cgroupRoot: /$group
		enforceNodeAllocatable: []
		failSwapOn: false
		makeIPTablesUtilChains: false
		clusterDNS: [$address]
		clusterDomain: cluster.local
		resolvConf: ""
		# A disk that is full for other reasons shall not evict what is tested.
		imageGCHighThresholdPercent: 100
		evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: 100Mi}
		shutdownGracePeriod: 0s
	YAML
}

start_containerd() {
	start containerd "$(command -v containerd)" --config "$state/containerd.toml"
}

# start_node starts what needs the API server and containerd.
start_node() {
	within 30 containerd ctr -a "$socket" version
	"$bin/image" -name penstock.local/pause:1 "$bin/pause" | ctr -a "$socket" -n k8s.io images import - >/dev/null
	start kubelet "$bin/kubelet" --config="$state/kubelet.yaml" --kubeconfig="$credentials/kubelet.kubeconfig" \
		--hostname-override="$node" --node-ip="$address" --root-dir="$state/kubelet" --cert-dir="$state/certificates"
	start kube-proxy "$bin/kube-proxy" --config="$state/kube-proxy.yaml"
	start coredns "$bin/coredns" -conf "$state/Corefile"
}

# advertise_gpus gives the real machine eight GPUs that aren't there, as
# https://kubernetes.io/docs/tasks/administer-cluster/extended-resource-node/ tells.
advertise_gpus() {
	kube label --overwrite node "$node" nvidia.com/gpu.product=NVIDIA-FAKE nvidia.com/gpu.count=8 \
		nvidia.com/gpu.memory=8192 nvidia.com/gpu.present=true topology.kubernetes.io/zone=zone-real
	kube patch node "$node" --subresource=status --type=merge \
		-p '{"status":{"capacity":{"nvidia.com/gpu":"8"},"allocatable":{"nvidia.com/gpu":"8"}}}'
}

node_is_ready() { kube wait --for=condition=Ready "node/$node" --timeout=0; }

# unmount takes what kubelet, containerd and CNI mounted below the state folder
# away. Nothing may be deleted before: a mount may be a folder of this machine.
unmount() {
	local mounts
	for _ in {1..5}; do
		mounts=$(awk -v below="$state/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
		[ -z "$mounts" ] && return
		# Names are octal where they hold blanks; ours don't.
		echo "$mounts" | while read -r mount; do umount "$mount" 2>/dev/null || umount --lazy "$mount" || true; done
	done
	fail "something stays mounted below $state: $(echo "$mounts" | head -1)" "unmount it by hand, then run 'hack/cluster down' again"
}

# sweep removes what kubelet and containerd leave in folders that can't be named
# otherwise.
sweep() {
	local link sandbox
	for link in /var/log/containers/*; do
		case $(readlink "$link") in "$state"/*) rm "$link" ;; esac
	done
	for sandbox in "$state"/containerd/root/io.containerd.grpc.v1.cri/sandboxes/*; do
		rm -f /var/lib/cni/results/*-"$(basename "$sandbox")"-*
	done
}
