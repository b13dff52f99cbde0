// Package cli is the command line. It talks to a server through api/v1/client,
// as any outsider does; of the internal packages it uses only spec, to check
// manifests before they travel.
//
// Its manners: stdout is data and stderr is talk. On a terminal tables are
// fitted and times are "3m ago"; in a pipe they are tab-separated and RFC 3339.
// Nothing that changes something asks for it twice; --dry-run shows it first.
// An error says what happened, where, and what to do. Exit status: 0 done,
// 1 failed, 2 usage, 3 not found, 4 denied, 5 over a limit, 8 still pending,
// 130 interrupted.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/api/v1/client"
)

// Env is what a command works with besides its arguments.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	// Getenv reads the environment.
	Getenv func(string) string
	// Terminal tells whether Out is one, and how wide it is.
	Terminal bool
	Width    int
	Version  string
}

// session is the state that commands share: flags and the client they give.
type session struct {
	Env
	server, tokenFile, project, output string
}

// New makes the command tree. Commands that run a server are the caller's: this
// package knows none of what they are wired from.
func New(e Env, servers ...*cobra.Command) *cobra.Command {
	s := &session{Env: e}
	root := &cobra.Command{
		Use:   "penstock",
		Short: "One control plane for AI work on scarce accelerators",
		Long: `Penstock queues, places and runs AI work; feeds it data and keeps its checkpoints;
versions and gates the models that come out; serves them; and says what it cost.

  penstock dev                     a server on this machine, in a second
  penstock run -- echo hello       a first job
  penstock apply -f train.yaml     declared work
  penstock explain train           why it waits, and what would start it

EXIT STATUS
  0 done, 1 failed, 2 usage or invalid input, 3 not found, 4 denied,
  5 over a quota, budget or rate, 8 still pending, 130 interrupted`,
		SilenceErrors: true, SilenceUsage: true, Version: e.Version,
	}
	root.SetIn(e.In)
	root.SetOut(e.Out)
	root.SetErr(e.Err)
	flags := root.PersistentFlags()
	flags.StringVar(&s.server, "server", "", "address of the server (default $PENSTOCK_SERVER, or the dev server)")
	flags.StringVar(&s.tokenFile, "token-file", "", "file with the access token (default $PENSTOCK_TOKEN, or the dev server's)")
	flags.StringVarP(&s.project, "project", "p", "", "project (default $PENSTOCK_PROJECT, or default)")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &penstock.Error{Code: penstock.Invalid, Msg: err.Error(), Hint: "'" + c.CommandPath() + " --help' shows the flags"}
	})
	group(root, "work", "Declare and watch work:", s.applyCommand(), s.planCommand(), s.deleteCommand(), s.getCommand(), s.editCommand(),
		s.runCommand(), s.psCommand(), s.logsCommand(), s.execCommand(), s.portForwardCommand(), s.explainCommand(), s.waitCommand(), s.stopCommand(), s.reclaimCommand(), s.topCommand())
	group(root, "results", "Models and money:", s.modelCommand(), s.costCommand())
	group(root, "run", "Servers and access:", append(servers, s.tokenCommand(), s.auditCommand())...)
	return root
}

func group(root *cobra.Command, id, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: id, Title: title})
	for _, c := range commands {
		c.GroupID = id
		root.AddCommand(c)
	}
}

// Run executes the command line and gives the exit status. Errors are shown
// here and nowhere else.
func Run(ctx context.Context, root *cobra.Command, args []string, errs io.Writer) int {
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var quiet *exitError
	if errors.As(err, &quiet) {
		return quiet.status
	}
	if penstock.CodeOf(err) == penstock.Internal && ctx.Err() != nil {
		err = &penstock.Error{Code: penstock.Canceled, Msg: "interrupted"}
	}
	err = usageError(cmd, err)
	showError(errs, err)
	return penstock.InfoOf(err).Exit
}

// exitError ends with a status and nothing more to say.
type exitError struct{ status int }

func (e *exitError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// client makes the client that flags, environment and the dev server's file
// give, in that order.
func (s *session) client() (*client.Client, error) {
	found, err := readContext(ContextFile(s.Getenv))
	if err != nil {
		return nil, err
	}
	c := &client.Client{Base: first(s.server, s.Getenv("PENSTOCK_SERVER"), found.Server), Token: s.Getenv("PENSTOCK_TOKEN")}
	if c.Token == "" && c.Base == found.Server { // the dev server's token is for no other server
		c.Token = found.Token
	}
	if s.tokenFile != "" {
		b, err := os.ReadFile(s.tokenFile)
		if err != nil {
			return nil, &penstock.Error{Code: penstock.NotFound, Where: s.tokenFile, Msg: "the token file can't be read", Err: err}
		}
		c.Token = strings.TrimSpace(string(b))
	}
	if c.Base == "" {
		return nil, &penstock.Error{Code: penstock.Unavailable, Msg: "no server is known", Hint: "start one with 'penstock dev', or set PENSTOCK_SERVER and PENSTOCK_TOKEN"}
	}
	return c, nil
}

// begin gives what a command that shows something needs: the client, and the
// format that was asked for.
func (s *session) begin() (*client.Client, string, error) {
	format, err := s.format()
	if err != nil {
		return nil, "", err
	}
	c, err := s.client()
	return c, format, err
}

func (s *session) projectName() string {
	return first(s.project, s.Getenv("PENSTOCK_PROJECT"), "default")
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
