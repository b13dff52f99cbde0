package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// narrator tells what is done, and keeps what was found true or false.
type narrator struct {
	out    io.Writer
	facts  []string
	faults []error
}

func (n *narrator) begin(number int, title string) {
	n.facts, n.faults = nil, nil
	fmt.Fprintf(n.out, "\n%d  %s\n", number, title)
}

// tell says what the tour does that no command does.
func (n *narrator) tell(format string, args ...any) {
	fmt.Fprintf(n.out, "   ! %s\n", fmt.Sprintf(format, args...))
}

// command shows a command line and who runs it.
func (n *narrator) command(as, args string) {
	prompt := "$"
	if as != "" {
		prompt = as + " $"
	}
	fmt.Fprintf(n.out, "   %s penstock %s\n", prompt, args)
}

// shown is how many lines of an output are shown.
const shown = 14

// output shows what a command wrote, tab-separated values as a table. Secrets
// never are: a token stands alone on its line.
func (n *narrator) output(stdout, stderr string) {
	w := tabwriter.NewWriter(n.out, 0, 0, 2, ' ', 0)
	lines := strings.Split(strings.TrimSpace(stdout+"\n"+stderr), "\n")
	for i, line := range lines {
		if i == shown {
			fmt.Fprintf(w, "       ... %d lines more\n", len(lines)-shown)
			break
		}
		if strings.HasPrefix(line, "pst_") || strings.HasPrefix(line, "psk_") {
			line = line[:4] + "..."
		}
		if line != "" {
			fmt.Fprintf(w, "       %s\n", line)
		}
	}
	_ = w.Flush() // a terminal that is gone ends the tour by signal
}

// check holds the tour to a statement with its numbers: it is a fact of the
// report, or the step's fault.
func (n *narrator) check(holds bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !holds {
		n.faults = append(n.faults, fmt.Errorf("this is not so: %s", text))
		fmt.Fprintf(n.out, "   ✗ %s\n", text)
		return
	}
	n.facts = append(n.facts, text)
	fmt.Fprintf(n.out, "   ✓ %s\n", text)
}

// verdict is what the step found wrong.
func (n *narrator) verdict() error { return errors.Join(n.faults...) }
