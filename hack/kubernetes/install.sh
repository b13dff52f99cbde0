#!/usr/bin/env bash
# Builds the programs of the test cluster (Kubernetes, etcd, CoreDNS, KWOK) into
# .build/cluster/bin. They are built from a Go module of their own, so that
# their dependencies don't enter ours, and from one module, so that what the
# compiler cached for one serves the others. Running it again when they stand
# changes nothing.
set -euo pipefail

usage="usage: hack/kubernetes/install.sh

Builds .build/cluster/bin/* from the versions in hack/kubernetes/go.mod.
Needs Go and, the first time, the module proxy; takes 10 minutes of two cores once."

case "${1-}" in
"") ;;
-h | --help) echo "$usage"; exit 0 ;;
*) echo "$usage" >&2; exit 2 ;;
esac

cd "$(dirname "$0")"
build=$(cd ../.. && pwd)/.build/cluster
say() { echo "hack/kubernetes/install.sh: $1"; }
fail() { echo "hack/kubernetes/install.sh: $1" >&2; exit 1; }

theirs="kube-apiserver kube-scheduler kube-controller-manager kwok kubectl kubelet kube-proxy"
ours="etcd coredns credentials fleet image pause"
programs="$ours $theirs"

# source_of PROGRAM says which package the program is built from.
source_of() {
	case $1 in
	kwok) echo sigs.k8s.io/kwok/cmd/kwok ;;
	kube*) echo "k8s.io/kubernetes/cmd/$1" ;;
	*) echo "./$1" ;;
	esac
}

# stamp is what the programs depend on; it stands beside them once they are built.
stamp() { cat go.mod go.sum ./*/*.go kwok.yaml install.sh | sha256sum; }

# version_of MODULE, without what makes it a version of a Go module.
version_of() {
	go list -mod=readonly -m -f '{{.Version}}' "$1" ||
		fail "the module $1 can't be read. Run 'go mod download' in hack/kubernetes to see whether the module proxy answers"
}

# versions lists what was built, for 'hack/cluster status'.
versions() {
	local program
	for program in $theirs; do [ "$program" = kwok ] || echo "$program $version"; done
	echo "kwok $(version_of sigs.k8s.io/kwok)"
	echo "etcd $(version_of go.etcd.io/etcd/server/v3)"
	echo "coredns $(version_of github.com/coredns/coredns)"
}

# stages joins KWOK's rules for nodes and pods with our own.
stages() {
	local module stage
	module=$(go list -mod=readonly -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
	for stage in node/fast/node-initialize node/heartbeat-with-lease/node-heartbeat-with-lease pod/fast/pod-ready; do
		cat "$module/$stage.yaml"
		echo ---
	done
	cat kwok.yaml
}

all_built() {
	local program
	for program in $programs; do [ -x "$build/bin/$program" ] || return 1; done
	[ "$(cat "$build/installed" 2>/dev/null)" = "$(stamp)" ]
}

all_built && exit 0
command -v go >/dev/null || fail "go is missing. Install the version that go.mod names"

version=$(version_of k8s.io/kubernetes)
minor=${version#v1.}
minor=${minor%%.*}
# Kubernetes asks its own version of the linker; without it the server says v0.0.0 and clients refuse it.
flags="-s -w -X k8s.io/component-base/version.gitVersion=$version"
flags+=" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor"

mkdir -p "$build/bin"
rm -f "$build/installed"
wanted=$(stamp)
say "building $programs (minutes, once)"
for program in $programs; do
	CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "$flags" -o "$build/bin/$program.new" "$(source_of "$program")" ||
		fail "$program did not build. If the module proxy answered and the disk isn't full, see the compiler's words above; running this again goes on where it stopped"
	# A cluster that runs the old one at this moment keeps it.
	mv "$build/bin/$program.new" "$build/bin/$program"
done
stages >"$build/kwok-stages.yaml"
versions >"$build/versions"
echo "$wanted" >"$build/installed"
