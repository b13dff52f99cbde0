# shellcheck shell=bash
# Sourced by hack/cluster: starting and ending the cluster's processes. They all
# live in cgroups of their own, so what belongs to the cluster is known without
# trusting process ids, which are given out anew: containers and their shims,
# whose ids nobody recorded, are in there too.

group=penstock-$id # below the root of each cgroup hierarchy

# hierarchies prints where cgroup controllers are mounted: several times with
# version 1, once with version 2.
hierarchies() {
	if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
		echo /sys/fs/cgroup
	else
		findmnt -rn -t cgroup -o TARGET
	fi
}

# tracker prints the hierarchy that tells which processes are the cluster's.
tracker() {
	local hierarchy
	for hierarchy in /sys/fs/cgroup/pids /sys/fs/cgroup/cpu /sys/fs/cgroup; do
		[ -e "$hierarchy/cgroup.procs" ] && { echo "$hierarchy"; return; }
	done
	fail "there are no cgroups below /sys/fs/cgroup" "mount version 2: mount -t cgroup2 none /sys/fs/cgroup"
}

make_groups() {
	local hierarchy file controller
	for hierarchy in $(hierarchies); do
		mkdir -p "$hierarchy/$group" || fail "can't make a cgroup in $hierarchy" "is it mounted read-only? The cluster needs a machine, or a container with rights to cgroups"
		# Without its parent's processors and memory a cpuset takes no process.
		for file in cpuset.cpus cpuset.mems; do
			[ -e "$hierarchy/$group/$file" ] && [ -z "$(cat "$hierarchy/$group/$file")" ] && [ -e "$hierarchy/$file" ] &&
				cat "$hierarchy/$file" >"$hierarchy/$group/$file"
		done
		if [ -e "$hierarchy/cgroup.controllers" ]; then
			for controller in $(cat "$hierarchy/cgroup.controllers"); do
				echo "+$controller" >"$hierarchy/cgroup.subtree_control"
				echo "+$controller" >"$hierarchy/$group/cgroup.subtree_control"
			done
		fi
	done
	mkdir -p "$(tracker)/$group/system"
}

remove_groups() {
	local hierarchy
	# runc leaves some in version 2, too, where both versions are mounted.
	for hierarchy in $(findmnt -rn -t cgroup,cgroup2 -o TARGET); do
		[ -d "$hierarchy/$group" ] && find "$hierarchy/$group" -depth -type d -exec rmdir {} + 2>/dev/null
	done
	return 0
}

# members prints the ids of all processes of the cluster, containers' included.
members() {
	local top
	top=$(tracker)/$group
	[ -d "$top" ] || return 0
	find "$top" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}

# pid_of NAME prints the process id of a part of the cluster, if it runs: the
# recorded one where that is in the cluster's cgroup and is that program, else one
# that is.
pid_of() {
	local procs pid
	procs=$(tracker)/$group/system/cgroup.procs
	[ -e "$procs" ] || return 1
	for pid in $(cat "$state/pids/$1" 2>/dev/null) $(cat "$procs"); do
		grep -qx "$pid" "$procs" || continue
		[ "$(readlink "/proc/$pid/exe" | sed 's/ (deleted)$//')" = "$(program_of "$1")" ] || continue
		echo "$pid"
		return
	done
	return 1
}

# program_of NAME prints the file of a part of the cluster.
program_of() {
	case $1 in
	containerd) readlink -f "$(command -v containerd)" ;;
	*) echo "$bin/$1" ;;
	esac
}

# start NAME PROGRAM ARGUMENTS... starts a part of the cluster, in its network
# namespace and cgroup, unless it runs already.
start() {
	local name=$1 procs
	shift
	pid_of "$name" >/dev/null && return 0
	procs=$(tracker)/$group/system/cgroup.procs
	# Not 'ip netns exec': it mounts /sys anew, and the kubelet finds no cgroups there.
	(
		echo "$BASHPID" >"$procs"
		exec setsid nsenter --net="$namespace" -- "$@" >>"$state/log/$name.log" 2>&1 </dev/null 9>&-
	) &
	echo $! >"$state/pids/$name"
}

# put FILE writes what it reads, unless it stands there already: some programs end
# when their settings are written.
put() {
	cat >"$1.new"
	if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}

# all_run tells whether no part of the cluster is missing.
all_run() {
	local name
	for name in $programs; do pid_of "$name" >/dev/null || return 1; done
}

# within SECONDS WHAT COMMAND... repeats the command until it succeeds.
within() {
	local patience=$1 what=$2 until
	shift 2
	until=$((SECONDS + patience))
	until "$@" >/dev/null 2>&1; do
		((SECONDS < until)) || fail "$what took longer than $patience s" "look into $state/log; 'hack/cluster down' and 'up' begin anew"
		sleep 0.2
	done
}

# end_processes asks all to end, the kubelet first so that it starts nothing
# anew, and ends what is left after three seconds.
end_processes() {
	local pid name left
	for name in kubelet containerd; do
		pid=$(pid_of "$name") && kill "$pid" 2>/dev/null || true
	done
	left=$(members)
	# shellcheck disable=SC2086 # a list of numbers
	[ -z "$left" ] || kill $left 2>/dev/null || true
	for _ in {1..15}; do
		[ -z "$(members)" ] && return
		sleep 0.2
	done
	for _ in {1..25}; do
		left=$(members)
		[ -z "$left" ] && return
		# shellcheck disable=SC2086
		kill -KILL $left 2>/dev/null || true
		sleep 0.2
	done
	fail "processes don't end: $(members | tr '\n' ' ')" "a disk or a mount may hang: see what they wait for in /proc/PID/stack"
}
