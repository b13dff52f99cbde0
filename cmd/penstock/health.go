package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/config"
)

// healthPatience bounds one look, so that a probe of a frozen server ends by
// itself.
const healthPatience = 4 * time.Second

func healthCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "health", Short: "Say whether the server of this machine answers", Args: cobra.NoArgs,
		Long: `Health looks whether a server listens where its configuration says, and answers: it makes a TLS
handshake, or a mere connection where the server has no TLS. It needs no token, reads nothing and
leaves no trace in the audit log. It is made for probes that run beside the server, as Kubernetes' do.`,
		Example: "  penstock health --config /etc/penstock/penstock.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(path, os.Environ())
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), healthPatience)
			defer cancel()
			return health(ctx, c)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration file of the server (default: built-in settings)")
	return cmd
}

// health is nil if something answers at the server's address. With TLS that is
// the server's own goroutine and not only the kernel, which takes connections for
// a frozen process, too.
func health(ctx context.Context, c config.Config) error {
	address, err := nearAddress(c.Listen)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err == nil && c.TLS.Cert != "" {
		// Who answers is no question here: nothing is sent and nothing believed.
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
		if err = secure.HandshakeContext(ctx); err == nil {
			return secure.Close()
		}
	}
	if conn != nil {
		_ = conn.Close() // it was only looked at
	}
	if err != nil {
		return &penstock.Error{
			Code: penstock.Unavailable, Where: address, Msg: fmt.Sprintf("no server answers within %s", healthPatience), Err: err,
			Hint: "the server's log says why; a large database takes its time to start",
		}
	}
	return nil
}

// nearAddress is where a server on this machine is reached that listens on
// listen: one that listens everywhere does so on loopback, too.
func nearAddress(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return "", &penstock.Error{
			Code: penstock.Invalid, Where: "listen", Msg: fmt.Sprintf("%s has no port that could be asked", listen), Err: err, Hint: "give the server a port of its own",
		}
	}
	switch ip := net.ParseIP(host); {
	case host == "" || ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
	case ip.Equal(net.IPv6unspecified):
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}
