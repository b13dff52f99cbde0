package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// slowly is how often everybody is woken anyway: a notification that was lost
	// costs that much time, and nothing else.
	slowly = 5 * time.Second
	// redial is the pause before the listener connects again.
	redial = 500 * time.Millisecond
)

// listener hears of other processes' commits, on a connection of its own.
type listener struct {
	connector *connector
	wake      func()
	stop      context.CancelFunc
	done      chan struct{}
}

// listen starts listening. It wakes once, for what was before, and after each
// reconnection, for what was in between.
func listen(ctx context.Context, c *connector, wake func()) (*listener, error) {
	l := &listener{connector: c, wake: wake, done: make(chan struct{})}
	conn, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.Background())
	l.stop = stop
	go l.run(run, conn)
	return l, nil
}

func (l *listener) close() {
	l.stop()
	<-l.done
}

func (l *listener) dial(ctx context.Context) (*pgx.Conn, error) {
	conn, err := l.connector.connect(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	l.wake()
	return conn, nil
}

// run listens until ctx ends. Why a connection broke or can't be made isn't
// told: everybody is woken slowly meanwhile, and whoever reads gets the error.
func (l *listener) run(ctx context.Context, conn *pgx.Conn) {
	defer close(l.done)
	var woken time.Time
	for ctx.Err() == nil {
		if conn != nil {
			l.hear(ctx, conn)
			l.hangUp(conn)
		}
		if time.Since(woken) > slowly {
			l.wake()
			woken = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(redial):
		}
		conn, _ = l.dial(ctx)
	}
}

// hear wakes on notifications of others until the connection breaks or ctx ends.
// A process wakes itself when it commits.
func (l *listener) hear(ctx context.Context, conn *pgx.Conn) {
	for {
		wait, cancel := context.WithTimeout(ctx, slowly)
		n, err := conn.WaitForNotification(wait)
		quiet := wait.Err() != nil
		cancel()
		switch {
		case err == nil && n.Payload != l.connector.id:
			l.wake()
		case err == nil:
		case ctx.Err() != nil || !quiet || !l.answers(ctx, conn):
			return
		default:
			l.wake()
		}
	}
}

// answers tells whether the other side is still there.
func (l *listener) answers(ctx context.Context, conn *pgx.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, slowly)
	defer cancel()
	return conn.Ping(ctx) == nil
}

func (l *listener) hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx) // it is of no use any more, whatever this says
}
