package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock/internal/cli"
	"github.com/penstock/penstock/internal/config"
	"github.com/penstock/penstock/internal/telemetry"
)

func serveCommand(e cli.Env) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "serve", Short: "Run a server from a configuration file", Args: cobra.NoArgs,
		Long: `Serve runs a server as its configuration says: see docs/config.md. Settings are read from the
file, then from PENSTOCK_... variables. It refuses to listen beyond loopback without TLS; there is no
way to run it without authentication. The first start leaves an admin token in the data folder.`,
		Example: "  penstock serve --config /etc/penstock/penstock.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(path, os.Environ())
			if err != nil {
				return err
			}
			return serve(cmd.Context(), e, c)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration file (default: built-in settings)")
	return cmd
}

func serve(ctx context.Context, e cli.Env, c config.Config) error {
	log, err := telemetry.NewLogger(e.Err, telemetry.LogOptions{Level: c.Log.Level, Format: c.Log.Format})
	if err != nil {
		return err
	}
	s, l, url, err := begin(ctx, c, log)
	if err != nil {
		return err
	}
	token, err := s.adminToken(ctx, "admin")
	if err != nil {
		return errors.Join(err, l.Close(), s.close())
	}
	where := "the server that started first on this database made the admin token"
	if token != "" {
		where = "the admin token is in " + s.folder.at("admin-token")
	}
	fmt.Fprintf(e.Err, "penstock is ready at %s; %s\n", url, where)
	return errors.Join(s.serve(ctx, l), s.close())
}
