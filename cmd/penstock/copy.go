package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/audit"
	"github.com/penstock/penstock/internal/cli"
	"github.com/penstock/penstock/internal/config"
	"github.com/penstock/penstock/internal/secret"
	"github.com/penstock/penstock/internal/store/sqldb"
)

func storeCommand(e cli.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "store", Short: "Look after the state of an installation, while no server uses it"}
	cmd.AddCommand(storeCopyCommand(e))
	return cmd
}

func storeCopyCommand(e cli.Env) *cobra.Command {
	var from, to, output string
	cmd := &cobra.Command{
		Use: "copy", Short: "Copy a whole installation to another database, bucket or folder", Args: cobra.NoArgs,
		Long: `Copy puts all that one installation knows into another that is empty: files first, then the key that
seals secrets, then the state in one transaction. Each file is checked against its digest, each table is
read back and compared, and the audit log is verified at the end. What went wrong leaves the state of the
target empty; files that are there already are not sent again, so repeating goes on where it stopped.

A place is a data folder, or a settings file (docs/config.md) that names a database and a bucket. Stop the
servers of a data folder first. A database may be in use: the copy is of one moment, which makes it a
backup, too.`,
		Example: `  penstock store copy --from ~/.local/share/penstock/dev --to /etc/penstock/penstock.yaml
  penstock store copy --from /etc/penstock/penstock.yaml --to /backup/2026-11-25`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			done, err := copyInstallation(cmd.Context(), from, to, e.Err)
			if err != nil {
				return err
			}
			return done.print(e.Out, output)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "data folder or settings file to read (required)")
	cmd.Flags().StringVar(&to, "to", "", "data folder or settings file to fill (required)")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	_ = cmd.MarkFlagRequired("from") // the flags are there
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

// copied is what a copy did.
type copied struct {
	Blobs  copiedBlobs    `json:"blobs"`
	Tables []sqldb.Copied `json:"tables"`
	Audit  audit.Report   `json:"audit"`
}

// copiedBlobs counts files and their bytes; those in Present were there before.
type copiedBlobs struct {
	Count   int64 `json:"count"`
	Bytes   int64 `json:"bytes"`
	Present int64 `json:"present"`
}

func (c copied) print(w io.Writer, output string) error {
	if output == "json" {
		return json.NewEncoder(w).Encode(c)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tROWS\tDIGEST, THE SAME ON BOTH SIDES")
	for _, table := range c.Tables {
		fmt.Fprintf(t, "%s\t%d\t%s\n", table.Table, table.Rows, table.Digest)
	}
	fmt.Fprintf(t, "files\t%d\t%d bytes, each by its digest; %d were there before\n", c.Blobs.Count, c.Blobs.Bytes, c.Blobs.Present)
	fmt.Fprintf(t, "audit\t%d\tchain verified to %s\n", c.Audit.Entries, c.Audit.Head.Hash)
	return t.Flush()
}

// place is one side of a copy: of a server only what it keeps.
func place(ctx context.Context, path string) (*server, error) {
	c := config.Default()
	c.DataDir = path
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		if c, err = config.Load(path, nil); err != nil {
			return nil, err
		}
	}
	s := &server{config: c, log: slog.New(slog.DiscardHandler)}
	// A database and a bucket may be in use; a data folder has one user.
	if !s.shared() {
		if s.folder, err = openFolder(c.DataDir); err != nil {
			return nil, err
		}
	}
	if s.store, err = s.openStore(ctx); err == nil {
		s.blobs, err = s.openBlobs(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// source is a place that must be one already.
func source(ctx context.Context, path string) (*server, error) {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		_, err = os.Stat(filepath.Join(path, databaseFile))
	}
	if err != nil {
		return nil, &penstock.Error{
			Code: penstock.NotFound, Where: path, Msg: "there is no installation to copy", Err: err,
			Hint: "name the data folder of a server, or the settings file that it runs with",
		}
	}
	return place(ctx, path)
}

func copyInstallation(ctx context.Context, from, to string, talk io.Writer) (done copied, err error) {
	a, err := source(ctx, from)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	b, err := place(ctx, to)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if done.Blobs, err = copyBlobs(ctx, a.blobs, b.blobs, talk); err != nil {
		return done, err
	}
	if err := os.MkdirAll(b.secretDir(), 0o700); err != nil {
		return done, fmt.Errorf("make folder for the key: %w", err)
	}
	if err := secret.Hand(a.secretDir(), b.secretDir()); err != nil {
		return done, err
	}
	err = sqldb.Copy(ctx, a.store, b.store, func(t sqldb.Copied) {
		done.Tables = append(done.Tables, t)
		fmt.Fprintf(talk, "%s: %d rows\n", t.Table, t.Rows)
	})
	if err != nil {
		return done, err
	}
	if done.Audit, err = audit.Verify(ctx, b.store); err != nil {
		return done, err
	}
	return done, done.Audit.Err()
}

// copyWorkers is how many files travel at once.
const copyWorkers = 8

// copyBlobs copies each file that isn't there, and says now and then how far it is.
func copyBlobs(ctx context.Context, from, to blobStore, talk io.Writer) (copiedBlobs, error) {
	var count, size, present atomic.Int64
	tell := time.NewTicker(5 * time.Second)
	defer tell.Stop()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(copyWorkers)
	err := from.Walk(ctx, func(d penstock.Digest, bytes int64) error {
		select {
		case <-tell.C:
			fmt.Fprintf(talk, "files: %d so far, %d bytes\n", count.Load(), size.Load())
		default:
		}
		group.Go(func() error {
			have, err := to.Size(ctx, d)
			if err == nil && have == bytes {
				present.Add(1)
			} else if err := copyBlob(ctx, from, to, d); err != nil {
				return fmt.Errorf("copy file %s: %w", d, err)
			}
			count.Add(1)
			size.Add(bytes)
			return nil
		})
		return ctx.Err()
	})
	failed := group.Wait()
	if failed == nil {
		failed = err
	}
	return copiedBlobs{Count: count.Load(), Bytes: size.Load(), Present: present.Load()}, failed
}

func copyBlob(ctx context.Context, from, to blobStore, d penstock.Digest) error {
	r, err := from.Open(ctx, d, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	return to.Put(ctx, d, r)
}
