package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Port is the number in the name of the server's Unix socket; there is no TCP
// port.
const Port = 5432

// role owns the server and its databases.
const role = "penstock"

// Server is one PostgreSQL server. Its methods may be called by many
// goroutines.
type Server struct {
	folder   string // has the data, the socket and the log
	bin      string
	settings []string
	attr     *syscall.SysProcAttr
	made     atomic.Int64

	mu     sync.Mutex
	server *exec.Cmd     // nil while it doesn't run
	ended  chan struct{} // closed once it is gone

	watcher *exec.Cmd
	watched io.Closer
}

// find gives the folder of the newest PostgreSQL's programs that is installed
// and new enough.
func find() (bin string, err error) {
	if initdb, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(initdb), nil
	}
	// Debian keeps them out of the PATH, in a folder for each version.
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	newest := 0
	for _, initdb := range found {
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(initdb))))
		if err == nil && version > newest {
			newest, bin = version, filepath.Dir(initdb)
		}
	}
	if newest < 15 {
		return "", errors.Join(errors.New("PostgreSQL 15 or later isn't installed here; run hack/setup/deps.sh postgres"), err)
	}
	return bin, nil
}

// Open makes a server in a new temporary folder and starts it. Settings come
// after those of the tests ("fsync=off"), and overrule them.
func Open(ctx context.Context, settings ...string) (s *Server, err error) {
	s = &Server{settings: append([]string{
		"listen_addresses=", "fsync=off", "full_page_writes=off", "max_connections=200", "port=" + strconv.Itoa(Port),
	}, settings...)}
	if s.bin, err = find(); err != nil {
		return nil, err
	}
	if s.folder, err = os.MkdirTemp("", "penstock-pg-"); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.Close(), os.RemoveAll(s.folder))
	}
	return s, nil
}

func (s *Server) prepare(ctx context.Context) error {
	if err := s.own(); err != nil {
		return err
	}
	if err := s.watch(); err != nil {
		return err
	}
	initdb := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"), "--pgdata="+s.data(), "--auth=trust", "--username="+role,
		"--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en")
	initdb.Dir, initdb.SysProcAttr = s.folder, s.attr
	if said, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, said)
	}
	return s.start(ctx)
}

// own gives the folder to whom the server runs as: PostgreSQL refuses root. It
// is in a session of its own, so that an interrupt on the terminal, which the
// tests may want to answer, doesn't reach it.
func (s *Server) own() error {
	s.attr = &syscall.SysProcAttr{Setsid: true}
	if os.Getuid() != 0 {
		return nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return err
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return err
	}
	s.attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(s.folder, int(uid), int(gid))
}

// mourn is what the watcher does once its standard input ends, which is when
// the process that started it is gone, or wants it. The server gets 10 s to end.
const mourn = `cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null
for i in $(seq 100); do
	[ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || break
	sleep 0.1
done
exec rm -rf -- "$1"`

// watch starts the watcher.
func (s *Server) watch() error {
	watcher := exec.Command("/bin/sh", "-c", mourn, "pgtest", s.folder)
	watcher.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	watched, err := watcher.StdinPipe()
	if err != nil {
		return err
	}
	if err := watcher.Start(); err != nil {
		return err
	}
	s.watcher, s.watched = watcher, watched
	return nil
}

// Close ends the server and removes its folder.
func (s *Server) Close() error {
	if s.watcher == nil {
		return nil
	}
	return errors.Join(s.stop(), s.watched.Close(), s.watcher.Wait())
}

func (s *Server) data() string { return filepath.Join(s.folder, "data") }

// Folder has the server's files: data, the log, and the socket.
func (s *Server) Folder() string { return s.folder }

// Socket is the path of the server's Unix socket, for a proxy in between.
func (s *Server) Socket() string { return filepath.Join(s.folder, ".s.PGSQL."+strconv.Itoa(Port)) }

// URL is that of a database by its name.
func (s *Server) URL(database string) string {
	u := url.URL{Scheme: "postgres", Path: "/" + database, RawQuery: url.Values{
		"host": {s.folder}, "port": {strconv.Itoa(Port)}, "user": {role},
	}.Encode()}
	// Without a host between the slashes there would be one slash only.
	return "postgres://" + u.RequestURI()
}

// Create makes an empty database and gives its name.
func (s *Server) Create(ctx context.Context) (name string, err error) {
	name = "test" + strconv.FormatInt(s.made.Add(1), 10)
	return name, s.exec(ctx, "CREATE DATABASE "+name)
}

// Drop removes a database, whoever is still connected to it.
func (s *Server) Drop(ctx context.Context, name string) error {
	return s.exec(ctx, "DROP DATABASE "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
}

func (s *Server) exec(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

func (s *Server) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server != nil
}

// PID is the process id of the server (the postmaster), 0 while there is none.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return 0
	}
	return s.server.Process.Pid
}

// start starts the server and waits until it answers. What a killed server
// leaves behind may be in the way for a moment, so one that ends is started
// again until ctx ends.
func (s *Server) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return errors.New("the server runs already")
	}
	for {
		if err := s.launch(); err != nil {
			return err
		}
		err := s.ready(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			log, _ := os.ReadFile(filepath.Join(s.folder, "log"))
			return errors.Join(fmt.Errorf("the server doesn't answer: %w; its log:\n%s", err, log), s.end(syscall.SIGQUIT))
		}
	}
}

func (s *Server) launch() error {
	log, err := os.OpenFile(filepath.Join(s.folder, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-D", s.data(), "-k", s.folder}
	for setting := range slices.Values(s.settings) {
		args = append(args, "-c", setting)
	}
	server := exec.Command(filepath.Join(s.bin, "postgres"), args...)
	server.Dir, server.SysProcAttr, server.Stdout, server.Stderr = s.folder, s.attr, log, log
	if err := server.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		server.Wait() // how it ended is in its log
		close(ended)
	}()
	s.server, s.ended = server, ended
	return nil
}

// ready waits until the server answers, ends or ctx does.
func (s *Server) ready(ctx context.Context) error {
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.ended:
			s.server = nil
			return err
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond): // polls: it is another process
		}
	}
}

func (s *Server) stop() error { return s.signal(syscall.SIGINT) }
func (s *Server) kill() error { return s.signal(syscall.SIGKILL) }

func (s *Server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil
	}
	return s.end(sig)
}

// end signals the server and waits until it is gone.
func (s *Server) end(sig syscall.Signal) error {
	if s.server == nil {
		return nil
	}
	if err := s.server.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.ended:
		s.server = nil
		return nil
	case <-time.After(patience):
		return fmt.Errorf("the server (process %d) is still there %v after %v", s.server.Process.Pid, patience, sig)
	}
}
