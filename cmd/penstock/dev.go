package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
	"github.com/penstock/penstock/internal/auth"
	"github.com/penstock/penstock/internal/cli"
	"github.com/penstock/penstock/internal/config"
	"github.com/penstock/penstock/internal/control"
	"github.com/penstock/penstock/internal/store"
	"github.com/penstock/penstock/internal/telemetry"
)

func devCommand(e cli.Env) *cobra.Command {
	c := config.Default()
	var level string
	cmd := &cobra.Command{
		Use: "dev", Short: "Run a server on this machine, with nothing to configure", Args: cobra.NoArgs,
		Long: `Dev runs server, gateway and web page on loopback, with an embedded database, a folder for bytes,
and this machine as its pool. It makes an admin token for you and leaves it, readable by you alone,
where the other commands find it.`,
		Example: "  penstock dev\n  penstock dev --data /tmp/try --listen 127.0.0.1:0",
		RunE:    func(cmd *cobra.Command, _ []string) error { return dev(cmd.Context(), e, c, level) },
	}
	cmd.Flags().StringVar(&c.DataDir, "data", devFolder(e.Getenv), "data folder")
	cmd.Flags().StringVar(&c.Listen, "listen", c.Listen, "address, on loopback; port 0 takes any free one")
	cmd.Flags().StringVar(&level, "log-level", "warn", "debug, info, warn or error")
	return cmd
}

// devFolder is where a dev server keeps its data.
func devFolder(getenv func(string) string) string {
	base := getenv("XDG_DATA_HOME")
	if base == "" {
		base = filepath.Join(getenv("HOME"), ".local", "share")
	}
	return filepath.Join(base, "penstock", "dev")
}

// devPrices are rough list prices of rented machines, so that costs show
// something from the first job on. A serious installation states its own.
var devPrices = map[penstock.Resource]penstock.Money{
	penstock.CPU: 40_000_000, penstock.Memory: 5_000_000,
	"h100": 2_990_000_000, "a100": 1_490_000_000, "l4": 700_000_000, "t4": 350_000_000,
}

func dev(ctx context.Context, e cli.Env, c config.Config, level string) error {
	c.Prices = devPrices
	if err := c.Check(); err != nil {
		return err
	}
	log, err := telemetry.NewLogger(e.Err, telemetry.LogOptions{Level: level, Format: "text"})
	if err != nil {
		return err
	}
	s, l, url, err := begin(ctx, c, log)
	if err != nil {
		return err
	}
	token, err := s.beginDev(ctx)
	if err != nil {
		return errors.Join(err, l.Close(), s.close())
	}
	context := cli.ContextFile(e.Getenv)
	if err := cli.WriteContext(context, cli.Context{Server: url, Token: token}); err != nil {
		return errors.Join(err, l.Close(), s.close())
	}
	fmt.Fprintf(e.Err, `penstock is ready at %s
  web page   %s   (log in with the token in %s)
  gateway    %s/v1
  data       %s
  try        penstock run -- echo hello
`, url, url, context, url, s.folder.path)
	return errors.Join(s.serve(ctx, l), s.close())
}

// beginDev makes sure that there are a project and an admin token.
func (s *server) beginDev(ctx context.Context) (string, error) {
	name := "me"
	if me, err := user.Current(); err == nil && me.Username != "" {
		name = me.Username
	}
	if err := s.ensure(ctx, penstock.Ref{Kind: penstock.KindProject, Name: "default"}, func() (v1.Object, error) {
		return v1.Project{
			Kind: penstock.KindProject, Metadata: v1.Metadata{Name: "default"},
			Spec: v1.ProjectSpec{Owner: name, CostCentre: "none", Environment: "dev", Members: []v1.Member{{Subject: name, Role: penstock.RoleAdmin}}},
		}.Object()
	}); err != nil {
		return "", err
	}
	return s.adminToken(ctx, name)
}

// discoverPool declares this machine, once.
func (s *server) discoverPool(ctx context.Context) error {
	if !s.config.Pool.Discover {
		return nil
	}
	return s.ensure(ctx, penstock.Ref{Kind: penstock.KindPool, Name: "local"}, func() (v1.Object, error) {
		return v1.Pool{
			Kind: penstock.KindPool, Metadata: v1.Metadata{Name: "local"},
			Spec: v1.PoolSpec{Executor: config.Local, Provider: "local", Market: "owned", Prices: s.config.Prices},
		}.Object()
	})
}

// ensure applies an object unless there is one of that name already.
func (s *server) ensure(ctx context.Context, ref penstock.Ref, make func() (v1.Object, error)) error {
	err := s.store.View(ctx, func(tx store.Tx) error {
		_, err := tx.Get(ref)
		return err
	})
	if penstock.CodeOf(err) != penstock.NotFound {
		return err
	}
	o, err := make()
	if err != nil {
		return err
	}
	_, err = s.control.Apply(ctx, "penstock", []v1.Object{o}, control.Commit)
	return err
}

// adminToken gives the token in the data folder if it is still good, or makes a
// new one. Of several servers on one database only the first ever makes one: ""
// says that this isn't it.
func (s *server) adminToken(ctx context.Context, subject string) (string, error) {
	path := s.folder.at("admin-token")
	if kept, err := os.ReadFile(path); err == nil {
		token := strings.TrimSpace(string(kept))
		if _, err := s.api.Verifier().Verify(ctx, token); err == nil {
			return token, nil
		}
	}
	token, credential, err := auth.Issue(auth.Request{Use: store.Access, Subject: subject, Role: penstock.RoleAdmin}, time.Now().UTC().Truncate(time.Microsecond))
	if err != nil {
		return "", err
	}
	ours := false
	if err := s.store.Update(ctx, func(tx store.Tx) error {
		have, err := tx.ListCredentials("")
		if err != nil {
			return err
		}
		ours = !s.shared() || !slices.ContainsFunc(have, admin)
		if !ours {
			return nil
		}
		return tx.PutCredential(credential)
	}); err != nil || !ours {
		return "", err
	}
	if err := os.WriteFile(path, []byte(token.Reveal()+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep admin token: %w", err)
	}
	return token.Reveal(), nil
}

// admin reports whether a credential is one of the whole installation's admins.
func admin(c store.Credential) bool {
	return c.Use == store.Access && c.Project == "" && c.Role == penstock.RoleAdmin && c.Revoked.IsZero()
}
