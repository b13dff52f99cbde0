#!/bin/sh
# The batch script of every attempt; nothing in it varies. What does stands in
# the files of the attempt's folder, in which sbatch was started.
cd -- "$SLURM_SUBMIT_DIR" || exit 1
umask 077

# A submission whose answer was lost may have been repeated: the first job to
# start is the one, any other has nothing to do.
ln -s "job-$SLURM_JOB_ID" elected 2>/dev/null
[ "$(readlink elected)" = "job-$SLURM_JOB_ID" ] || exit 0
[ ! -e stop ] || exit 0

# The gang meets at the first node, on a port of this job's.
first=$(cat master 2>/dev/null || scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(scontrol --oneliner show node "$first" | tr ' ' '\n' | sed -n 's/^NodeAddr=//p')
echo "${address:-$first}:$((20000 + SLURM_JOB_ID % 12000))" >meeting

# What sbatch was told of the job, srun would take for what each step wants.
unset SLURM_NTASKS SLURM_NPROCS SLURM_NNODES SLURM_NTASKS_PER_NODE SLURM_TASKS_PER_NODE SLURM_CPUS_PER_TASK \
	SLURM_MEM_PER_NODE SLURM_MEM_PER_CPU SLURM_GPUS SLURM_GPUS_PER_TASK SLURM_TRES_PER_TASK SLURM_DISTRIBUTION

step=0
while [ -e "step-$step" ]; do
	set --
	while IFS= read -r option; do set -- "$@" "$option"; done <"step-$step"
	# A task that fails is for the control plane to judge, not for srun.
	srun --export=ALL --exact --mem=0 --kill-on-bad-exit=0 --wait=0 --input=none "$@" ./task "$step" &
	step=$((step + 1))
done
wait
