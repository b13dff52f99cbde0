package kubernetes

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/penstock/penstock/internal/run"
)

// podState tells how a task stands by its pod. A pod on a node that nobody hears
// of still runs, for all that is known: it is gone once the cluster says that it
// is dead, or that its node is.
func podState(pod *corev1.Pod) run.Observation {
	status := taskStatus(pod)
	switch {
	case over(pod):
		return run.Observation{State: run.Gone, Detail: endOf(pod)}
	case status != nil && status.State.Terminated != nil:
		return run.Observation{State: run.Running, Detail: "its agent is gone, and other containers of its pod aren't: they are ended"}
	case status != nil && status.State.Running != nil, pod.Status.Phase == corev1.PodUnknown:
		return run.Observation{State: run.Running, Detail: disruption(pod)}
	}
	return run.Observation{State: run.Pending, Detail: waitOf(pod)}
}

// taskStatus is that of the container in which the agent runs, or nil.
func taskStatus(pod *corev1.Pod) *corev1.ContainerStatus {
	i := slices.IndexFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == taskContainer })
	if i < 0 {
		return nil
	}
	return &pod.Status.ContainerStatuses[i]
}

// lingers: the task has ended, and something that a site puts into every pod runs
// on. Native sidecars end by themselves. Where nothing else runs, the kubelet is
// about to say that the pod is over.
func lingers(pod *corev1.Pod) bool {
	return taskEnded(pod) && slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.State.Running != nil })
}

// taskEnded: the task has, and its pod isn't over yet.
func taskEnded(pod *corev1.Pod) bool {
	status := taskStatus(pod)
	return !over(pod) && status != nil && status.State.Terminated != nil
}

// waitOf says what a pod waits for.
func waitOf(pod *corev1.Pod) string {
	if pod.Spec.NodeName == "" {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
				return c.Reason + ": " + c.Message
			}
		}
		if pod.Spec.SchedulerName == schedulerName {
			return "it waits to be bound, with all of its gang"
		}
		return "it waits for the scheduler " + pod.Spec.SchedulerName
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && w.Reason != "" && w.Reason != "PodInitializing" {
			return strings.TrimSuffix(fmt.Sprintf("%s on %s: %s", w.Reason, pod.Spec.NodeName, w.Message), ": ")
		}
	}
	return "its pod starts on " + pod.Spec.NodeName
}

// endOf says what is known of how a pod ended.
func endOf(pod *corev1.Pod) string {
	if pod.Status.Reason != "" || pod.Status.Message != "" {
		return strings.Trim(pod.Status.Reason+": "+pod.Status.Message, ": ")
	}
	how := ""
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		t := s.State.Terminated
		if t == nil || s.Name != taskContainer && t.ExitCode == 0 {
			continue
		}
		how = terminated(t)
		if s.Name != taskContainer {
			how = "container " + s.Name + ": " + how
			break
		}
	}
	why := disruption(pod)
	if why == "" && !pod.DeletionTimestamp.IsZero() && how != lastReport {
		why = podDeleted
	}
	return strings.Trim(why+"; "+how, "; ")
}

const (
	lastReport = "its agent delivered its last report"
	podDeleted = "its pod was deleted"
)

func terminated(t *corev1.ContainerStateTerminated) string {
	switch {
	case t.Reason == "OOMKilled":
		return "it was killed by the kernel: it wanted more than its memory (OOMKilled)"
	case t.ExitCode == 0:
		return lastReport
	case t.ExitCode > 128:
		return fmt.Sprintf("its agent was killed by signal %d before it could deliver its last report", t.ExitCode-128)
	}
	return fmt.Sprintf("its agent left with exit code %d: %s", t.ExitCode, complaint(t.Message))
}

// complaint is what an agent had to say at the end of its log.
func complaint(log string) string {
	if i := strings.LastIndex(log, "penstock-agent: "); i >= 0 {
		log = log[i+len("penstock-agent: "):]
	}
	return strings.Join(strings.Fields(log[max(0, len(log)-500):]), " ")
}

// disruption is why the cluster ends a pod, or "".
func disruption(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			return c.Reason + ": " + c.Message
		}
	}
	return ""
}

// lastSeen is what is left to say of a pod whose object is deleted.
func lastSeen(pod *corev1.Pod) string {
	if over(pod) {
		return endOf(pod)
	}
	return cmp.Or(disruption(pod), podDeleted)
}
