package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/config"
)

// settings are those of a server at that address; cert says that it has TLS.
func settings(address, cert string) config.Config {
	c := config.Default()
	c.Listen, c.TLS.Cert = address, cert
	return c
}

func TestHealthIsAHandshakeWhereThereIsTLS(t *testing.T) {
	asked := func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") }
	secure, plain := httptest.NewTLSServer(http.HandlerFunc(asked)), httptest.NewServer(http.HandlerFunc(asked))
	t.Cleanup(secure.Close)
	t.Cleanup(plain.Close)
	for _, c := range []config.Config{
		settings(secure.Listener.Addr().String(), "tls.crt"),
		settings(plain.Listener.Addr().String(), ""),
	} {
		if err := health(t.Context(), c); err != nil {
			t.Errorf("%s: %v", c.Listen, err)
		}
	}
	unavailable(t, t.Context(), settings(plain.Listener.Addr().String(), "tls.crt"))
}

// A process that was stopped still has a kernel that takes connections.
func TestAFrozenServerIsNotHealthy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody ever accepts
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	unavailable(t, ctx, settings(address, "tls.crt"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	unavailable(t, t.Context(), settings(address, "tls.crt"))
}

func unavailable(t *testing.T, ctx context.Context, c config.Config) {
	t.Helper()
	var e *penstock.Error
	if err := health(ctx, c); !errors.As(err, &e) || e.Code != penstock.Unavailable || e.Hint == "" {
		t.Errorf("%s: %v", c.Listen, err)
	}
}

func TestAServerThatListensEverywhereIsAskedOnLoopback(t *testing.T) {
	for listen, want := range map[string]string{
		"0.0.0.0:7070": "127.0.0.1:7070", ":7070": "127.0.0.1:7070", "[::]:7070": "[::1]:7070", "10.0.0.7:1": "10.0.0.7:1", "localhost:2": "localhost:2",
	} {
		if got, err := nearAddress(listen); err != nil || got != want {
			t.Errorf("%s is asked at %s (%v), want %s", listen, got, err, want)
		}
	}
	if got, err := nearAddress("127.0.0.1:0"); penstock.CodeOf(err) != penstock.Invalid {
		t.Errorf("port 0 is asked at %s (%v)", got, err)
	}
}
