package postgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sys/unix"

	"github.com/penstock/penstock"
)

// Settings of each session: https://www.postgresql.org/docs/15/runtime-config-client.html.
// A URL that has one of them overrules it.
func settings() map[string]string {
	return map[string]string{
		"application_name":  "penstock",
		"statement_timeout": "30s",
		// Behind a queue of writers that is that long something is wrong.
		"lock_timeout": "10s",
		// A process that is frozen in the midst of an Update holds up every other
		// one for that long. Between two statements there is only computing.
		"idle_in_transaction_session_timeout": "5s",
		// Pages are short: to start workers or a compiler takes longer than to read one.
		"max_parallel_workers_per_gather": "0",
		"jit":                             "off",
		// A statement whose client is gone ends, and lets go of its locks.
		"client_connection_check_interval": "1s",
		"tcp_keepalives_idle":              "10",
		"tcp_keepalives_interval":          "5",
		"tcp_keepalives_count":             "3",
	}
}

// unanswered is after how long without an acknowledgement the network is taken
// for dead.
const unanswered = 20 * time.Second

// connector makes connections.
type connector struct {
	config       *pgx.ConnConfig
	passwordFile string
	// id tells this process's notifications from those of others.
	id string
}

func newConnector(o Options) (*connector, error) {
	u, err := url.Parse(o.URL)
	if err != nil || !schemes(u.Scheme) {
		// Not the URL itself: whoever got it wrong may have put a secret in it.
		return nil, invalid("the database's address isn't a URL", "it looks like postgres://USER@HOST/DATABASE?sslmode=verify-full")
	}
	if _, has := u.User.Password(); has || u.Query().Has("password") {
		return nil, invalid("the database's URL has a password in it", "write the password to a file that only the server may read, and give that file's path")
	}
	if o.Pool != 0 && o.Pool < writers+1 {
		return nil, invalid(fmt.Sprintf("a pool of %d connections is too small", o.Pool), fmt.Sprintf("let it have %d at least", writers+1))
	}
	config, err := pgx.ParseConfig(o.URL)
	if err != nil {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: "the database's URL can't be used", Hint: "see the parameters at https://www.postgresql.org/docs/15/libpq-connect.html", Err: err}
	}
	defaults := settings()
	maps.Copy(defaults, config.RuntimeParams)
	config.RuntimeParams = defaults
	if config.ValidateConnect == nil {
		// Of several hosts only the primary is of use, and after a failover that is
		// another one.
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 5 * time.Second
	}
	config.DialFunc = dial
	return &connector{config: config, passwordFile: o.PasswordFile, id: rand.Text()}, nil
}

func invalid(msg, hint string) error {
	return &penstock.Error{Code: penstock.Invalid, Msg: msg, Hint: hint}
}

// dial makes a connection that breaks when the other side has silently gone.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control: func(network, _ string, c syscall.RawConn) (err error) {
			if network == "unix" {
				return nil
			}
			controlErr := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unanswered.Milliseconds()))
			})
			if err == nil {
				err = controlErr
			}
			return err
		},
	}
	return d.DialContext(ctx, network, address)
}

// authorize puts the password that the file has now into a connection's
// configuration.
func (c *connector) authorize(_ context.Context, config *pgx.ConnConfig) error {
	if c.passwordFile == "" {
		return nil
	}
	password, err := os.ReadFile(c.passwordFile)
	if err != nil {
		return &penstock.Error{
			Code: penstock.Unavailable, Msg: "the file with the database's password can't be read",
			Where: c.passwordFile, Hint: "it must be readable for the user that the server runs as", Err: err,
		}
	}
	config.Password = string(bytes.TrimRight(password, " \t\r\n"))
	return nil
}

// connect makes one connection apart from the pools.
func (c *connector) connect(ctx context.Context) (*pgx.Conn, error) {
	config := c.config.Copy()
	if err := c.authorize(ctx, config); err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, config)
}

// pool makes a pool of at most n connections. They are renewed every half hour,
// so that after a failover they come to be spread again.
func (c *connector) pool(n int) *sql.DB {
	db := stdlib.OpenDB(*c.config.Copy(), stdlib.OptionBeforeConnect(c.authorize))
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	db.SetConnMaxLifetime(30 * time.Minute)
	return db
}

// schemes are those of libpq's URLs.
func schemes(scheme string) bool { return scheme == "postgres" || scheme == "postgresql" }

// place is a URL without what may be a secret in it.
func place(text string) string {
	u, err := url.Parse(text)
	if err != nil || !schemes(u.Scheme) {
		return ""
	}
	return u.Scheme + "://" + u.Host + u.Path
}
