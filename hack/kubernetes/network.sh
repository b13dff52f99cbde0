# shellcheck shell=bash
# Sourced by hack/cluster: a network namespace with one cable to this machine.
#
#	this machine 10.90.N.1 ──── 10.90.N.2 namespace: API server, kubelet ──── pods 10.91.N.x
#
# There is no route from the namespace to anywhere else. N comes from the state
# folder's name, so that two checkouts have two clusters.

mark=penstock-cluster # the file that holds N, and says whose the folder is
namespace_name=penstock-$id
namespace=/run/netns/$namespace_name
cable=pstk-$id
services=10.96.0.0/16
first_service=10.96.0.1
fake_pods=10.92.0.1/16

# choose_network sets N for good: it is kept in the state folder.
choose_network() {
	if [ ! -s "$state/$mark" ]; then
		local n=$((16#${id:0:2})) tries
		for tries in {0..255}; do
			n=$(((n + tries) % 256))
			[ -z "$(ip route show root 10.90.$n.0/24)$(ip route show root 10.91.$n.0/24)" ] && break
		done
		echo "$n" >"$state/$mark"
	fi
	number=$(cat "$state/$mark")
	read_network
}

read_network() {
	number=$(cat "$state/$mark" 2>/dev/null) || number=
	host=10.90.$number.1
	address=10.90.$number.2
	pods=10.91.$number.0/24
}

inside() { nsenter --net="$namespace" -- "$@"; }

make_network() {
	[ -e "$namespace" ] || ip netns add "$namespace_name" ||
		fail "can't make a network namespace" "the cluster needs the capability CAP_SYS_ADMIN: run it as root, and in a container with that right"
	ip -n "$namespace_name" link set lo up
	if ! ip link show "$cable" >/dev/null 2>&1; then
		ip link add "$cable" type veth peer name eth0 netns "$namespace_name"
	fi
	ip address replace "$host/24" dev "$cable"
	ip link set "$cable" up
	ip -n "$namespace_name" address replace "$address/24" dev eth0
	ip -n "$namespace_name" link set eth0 up
	ip route replace "$pods" via "$address" dev "$cable" src "$host"
	inside sysctl -q -w net.ipv4.ip_forward=1
}

remove_network() {
	ip link delete "$cable" 2>/dev/null || true
	if [ -e "$namespace" ]; then ip netns delete "$namespace_name"; fi
}
