#!/bin/sh
# srun starts it once for each task of the step $1.
read -r rank local <<END
$(sed -n "$((SLURM_PROCID + 1))p" "ranks-$1")
END
[ "$local" != - ] || local=$SLURM_LOCALID
echo "$SLURMD_NODENAME" >"$rank/node"
read -r meeting <meeting

# Signals are the agent's to answer; this shell stays to tell of its end. The
# agent has a session of its own, by which what it leaves is found.
trap : TERM INT
status=143
[ -e "$rank/stop" ] || {
	setsid ./agent run --dir "$PWD/$rank" --contact "$PWD/contact.json" --rank "$rank" --local-rank "$local" \
		--node "$SLURMD_NODENAME" --master "$meeting" --cache "$PWD/../cache" >/dev/null 2>>"$rank/agent.log"
	status=$?
	./agent sweep --dir "$PWD/$rank" 2>>"$rank/agent.log"
}
echo "$status" >"$rank/over"
exit "$status"
