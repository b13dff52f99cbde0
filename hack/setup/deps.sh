#!/bin/sh
# deps.sh installs what the tour and the browser tests need from outside Go and
# npm, on Debian 12. It asks for nothing that is there already.
#
#   hack/setup/deps.sh torch      PyTorch, for the tour's training job
#   hack/setup/deps.sh chromium   the browser, for pictures and browser tests
#   hack/setup/deps.sh race       the C compiler that Go's race detector links with
#   hack/setup/deps.sh postgres   PostgreSQL: each test starts one of its own
#   hack/setup/deps.sh slurm      a whole Slurm, for hack/slurm
#   hack/setup/deps.sh cluster    what a Kubernetes node needs, for hack/cluster
#   hack/setup/deps.sh all        all of them
set -eu

say() { printf 'deps: %s\n' "$*"; }

usage() {
	echo 'usage: deps.sh torch|chromium|race|postgres|slurm|cluster|all' >&2
	exit 2
}

# fail MESSAGE HINT
fail() {
	printf 'deps: %s\n      %s\n' "$1" "$2" >&2
	exit 1
}

# The serial OpenBLAS belongs to PyTorch: with the reference BLAS that Debian
# takes otherwise, the tour's training takes several times as long, and a BLAS
# with threads of its own would fight the other ranks for the cores.
packages_for() {
	case $1 in
	torch) echo python3-torch python3-numpy libopenblas0-serial ;;
	chromium) echo chromium ;;
	race) echo gcc libc6-dev ;;
	postgres) echo postgresql ;;
	slurm) echo slurmctld slurmd slurm-client slurmrestd munge ;;
	cluster) echo containerd runc containernetworking-plugins iproute2 nftables ;;
	all) for each in torch chromium race postgres slurm cluster; do packages_for $each; done ;;
	*) usage ;;
	esac
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# apt LOG ARGUMENTS runs apt-get and shows its words only where it went wrong.
apt() {
	log=$1
	shift
	$root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1
}

[ $# = 1 ] || usage
wanted=$(packages_for "$1")
command -v apt-get >/dev/null || fail "there is no apt-get here" "this script knows Debian 12 only; install by hand: $wanted"

missing=
for package in $wanted; do
	installed "$package" || missing="$missing $package"
done
if [ -z "$missing" ]; then
	say "nothing to do:" $wanted "stand already"
	exit 0
fi

root=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || fail "installing$missing needs root, and there is no sudo" "run this script as root"
	root=sudo
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
say "fetching the package lists"
apt "$log" update || { cat "$log" >&2; fail "apt-get update failed" "is the network up, and are this machine's apt sources and proxy right? see above"; }
say "installing$missing"
case $missing in
*python3-torch*) say "PyTorch is about 200 MB to fetch and 1 GB on disk: a few minutes" ;;
*chromium*) say "chromium is about 120 MB to fetch and 400 MB on disk: a few minutes" ;;
esac
# $missing is a list of names from this file: it is meant to be split.
# shellcheck disable=SC2086
apt "$log" install --no-install-recommends $missing || { cat "$log" >&2; fail "apt-get install failed" "see above; after a broken fetch it is safe to run this again"; }
say "done"
