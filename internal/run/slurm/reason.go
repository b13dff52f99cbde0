package slurm

import (
	"context"
	"fmt"
	"strings"
)

// waiting says in words what a job waits for.
func waiting(job entry) string {
	if job.state == "CONFIGURING" || job.state == "POWER_UP_NODE" {
		return "its nodes are being made ready"
	}
	code, more, _ := strings.Cut(job.reason, ",")
	if words, ok := reasons[strings.TrimSpace(code)]; ok {
		return words + " (" + job.reason + ")"
	}
	if more == "" && strings.HasPrefix(code, "ReqNodeNotAvail") {
		return reasons["ReqNodeNotAvail"] + " (" + job.reason + ")"
	}
	for _, limit := range []struct{ prefix, words string }{
		{"Assoc", "its account has as much as it may"}, {"QOS", "its quality of service has as much as it may"},
		{"MaxCpuPerAccount", "its account has as much as it may"}, {"MaxMemPerAccount", "its account has as much as it may"},
		{"Partition", "its partition does not take it now"}, {"Reserv", "it waits for a reservation"}, {"Licenses", "it waits for licenses"},
	} {
		if strings.HasPrefix(code, limit.prefix) {
			return limit.words + " (" + job.reason + ")"
		}
	}
	if code == "" || code == "None" {
		return "Slurm has not looked at it yet"
	}
	return "Slurm says " + job.reason
}

// reasons are words for what squeue(1) lists under JOB REASON CODES.
var reasons = map[string]string{
	"Resources":                       "it waits for resources",
	"Priority":                        "others are before it in the queue",
	"ReqNodeNotAvail":                 "a node that it was planned on is not available",
	"BadConstraints":                  "no node is what it asks for",
	"BeginTime":                       "its time has not come",
	"Dependency":                      "it waits for another job",
	"DependencyNeverSatisfied":        "it waits for another job that failed",
	"Cleaning":                        "what ran before is being cleaned up",
	"FrontEndDown":                    "no front end is available",
	"InactiveLimit":                   "it reached the limit of inactivity",
	"InvalidAccount":                  "its account is not valid",
	"InvalidQOS":                      "its quality of service is not valid",
	"JobHeldAdmin":                    "an administrator holds it back",
	"JobHeldUser":                     "a user holds it back",
	"JobLaunchFailure":                "it could not be launched",
	"NodeDown":                        "a node that it needs is down",
	"PartitionDown":                   "its partition is down",
	"PartitionInactive":               "its partition is inactive",
	"PartitionNodeLimit":              "it wants more nodes than its partition gives",
	"PartitionTimeLimit":              "its deadline is beyond the time limit of its partition",
	"Prolog":                          "its nodes are being made ready",
	"Reservation":                     "it waits for a reservation",
	"Nodes required for job are DOWN": "nodes that it was planned on are down, drained or reserved",
}

// ends are words for what squeue(1) lists under JOB STATE CODES.
var ends = map[string]string{
	"BOOT_FAIL":     "its nodes did not boot",
	"CANCELLED":     "somebody cancelled it",
	"COMPLETED":     "it ended",
	"DEADLINE":      "it reached its deadline",
	"FAILED":        "it failed",
	"LAUNCH_FAILED": "it could not be launched",
	"NODE_FAIL":     "a node of it failed",
	"OUT_OF_MEMORY": "it wanted more memory than it had",
	"PREEMPTED":     "it had to give way to another job",
	"REVOKED":       "another cluster took it",
	"TIMEOUT":       "it reached its time limit",
}

// ending says how a job ended that Slurm still knows.
func (e *Executor) ending(ctx context.Context, job entry) string {
	id := job.job
	if job.component > 0 {
		id += fmt.Sprintf("+%d", job.component)
	}
	exit := ""
	if text, err := e.commands.run(ctx, "scontrol", "--oneliner", "show", "job", id); err == nil {
		exit = fields(text)["ExitCode"]
	}
	return ended(id, job.state, job.reason, exit)
}

// ended says how a job ended. exit is CODE:SIGNAL, or empty.
func ended(id, state, reason, exit string) string {
	// "CANCELLED by 1000", as sacct has it.
	name, by, _ := strings.Cut(state, " by ")
	said := fmt.Sprintf("%s: job %s: %s", name, id, ends[name])
	if ends[name] == "" {
		said = fmt.Sprintf("%s: job %s", name, id)
	}
	if by != "" {
		said += ", namely user " + by
	}
	if code, signal, ok := strings.Cut(exit, ":"); ok && name != "COMPLETED" && (code != "0" || signal != "0") {
		said += ", with exit code " + code
		if signal != "0" {
			said += " and signal " + signal
		}
	}
	if reason != "" && reason != "None" {
		said += " (" + reason + ")"
	}
	return said
}

// vanished says what is known of a job that squeue has no more: it is over for
// longer than MinJobAge. Accounting remembers it, where there is one.
func (e *Executor) vanished(ctx context.Context, job string) string {
	text, err := e.commands.run(ctx, "sacct", "--noheader", "--parsable2", "--allocations", "--jobs="+job, "--format=State,ExitCode")
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if state, exit, ok := strings.Cut(line, "|"); err == nil && ok && state != "" {
		return ended(job, state, "", exit)
	}
	return fmt.Sprintf("job %s is over, and Slurm no longer knows how it ended", job)
}

// fields reads one line of scontrol's: NAME=VALUE, separated by spaces. A value
// may hold spaces: it goes on until the next word with a "=" whose name begins
// with a capital letter. Of a name that comes twice the first counts.
func fields(line string) map[string]string {
	all := map[string]string{}
	name := ""
	for word := range strings.FieldsSeq(line) {
		n, value, ok := strings.Cut(word, "=")
		if ok && n != "" && n[0] >= 'A' && n[0] <= 'Z' {
			name = n
			if _, twice := all[name]; twice {
				name = ""
				continue
			}
			all[name] = value
			continue
		}
		if name != "" {
			all[name] += " " + word
		}
	}
	return all
}
