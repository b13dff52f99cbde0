package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock"
)

// usageError puts cobra's complaints about arguments and commands into the form
// of all others.
func usageError(cmd *cobra.Command, err error) error {
	var known *penstock.Error
	if errors.As(err, &known) {
		return err
	}
	text := err.Error()
	if rest, ok := strings.CutPrefix(text, "unknown command "); ok {
		name, _, _ := strings.Cut(strings.TrimPrefix(rest, `"`), `"`)
		return unknownCommand(cmd, name)
	}
	for _, start := range []string{"accepts ", "requires "} {
		if strings.HasPrefix(text, start) {
			return &penstock.Error{Code: penstock.Invalid, Msg: cmd.CommandPath() + " " + strings.Replace(text, "arg(s)", "arguments", 1), Hint: "usage: " + cmd.UseLine()}
		}
	}
	return err
}

func unknownCommand(cmd *cobra.Command, name string) error {
	hint := "'" + cmd.CommandPath() + " --help' lists the commands"
	if near := cmd.SuggestionsFor(name); len(near) > 0 && len(name) > 3 {
		hint = "did you mean " + strings.Join(near, " or ") + "? " + hint
	}
	return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%s has no command %q", cmd.CommandPath(), name), Hint: hint}
}

// parent is a command that only has commands below it.
func parent(c *cobra.Command, below ...*cobra.Command) *cobra.Command {
	c.AddCommand(below...)
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return unknownCommand(cmd, args[0])
	}
	return c
}

// showError prints each error of a joined one with its place and hint.
func showError(w io.Writer, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			showError(w, one)
		}
		return
	}
	fmt.Fprintf(w, "penstock: error: %s\n", strings.Map(printable, describe(err)))
	var e *penstock.Error
	if errors.As(err, &e) && e.Hint != "" {
		fmt.Fprintf(w, "penstock: hint: %s\n", strings.Map(printable, e.Hint))
	}
}

// describe is an error in one line: where, what, and of a foreign cause only
// the part that says something new.
func describe(err error) string {
	var e *penstock.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	if e != err { //nolint:errorlint // this very error, not one below it
		return strings.TrimSuffix(err.Error(), e.Error()) + describe(e)
	}
	bare := *e
	bare.Err = nil
	text := bare.Error()
	if why := cause(e); why != "" {
		text += ": " + why
	}
	return text
}

// cause is the reason behind e, without what e says already.
func cause(e *penstock.Error) string {
	var below *penstock.Error
	var errno syscall.Errno
	var call *url.Error
	switch {
	case e.Err == nil || e.Code == penstock.NotFound && errors.Is(e.Err, fs.ErrNotExist):
		return ""
	case errors.As(e.Err, &below):
		return describe(e.Err)
	case errors.As(e.Err, &errno):
		return errno.Error()
	case errors.As(e.Err, &call):
		return call.Err.Error()
	}
	return e.Err.Error()
}
