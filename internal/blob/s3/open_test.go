package s3

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock/penstock"
	"github.com/penstock/penstock/internal/blob/s3/s3test"
)

// wantRefused wants that Open fails with words that say what and what to do,
// and none of the secrets.
func wantRefused(t *testing.T, o Options, words string, secrets ...string) {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err == nil {
		t.Fatal("the store opened", s.Close())
	}
	var e *penstock.Error
	if !errors.As(err, &e) || e.Hint == "" || !strings.Contains(err.Error(), words) {
		t.Errorf("got error %v, hint %q; want %q and a hint", err, e.Hint, words)
	}
	wantSecret(t, err, secrets...)
}

func wantSecret(t *testing.T, err error, secrets ...string) {
	t.Helper()
	shown := fmt.Sprintf("%v %+v %#v", err, err, err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		shown += fmt.Sprintf(" %v %#v", e, e)
	}
	for _, secret := range secrets {
		if strings.Contains(shown, secret) {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}

func TestOpenTellsWhatIsWrongAndWhatToDo(t *testing.T) {
	server := s3test.Start(t)
	wrong := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(wrong, []byte("[default]\naws_access_key_id = "+server.AccessKey+"\naws_secret_access_key = not-the-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("not-the-secret\n[default\n=x"), 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := server.Stranger(t)
	tls := newProxy(t, server, func(h http.Handler) *httptest.Server { return httptest.NewTLSServer(h) })
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	for words, change := range map[string]func(*Options){
		`there is no bucket "missing"`:     func(o *Options) { o.Bucket = "missing" },
		"may not do this in bucket":        func(o *Options) { o.Credentials.File = stranger },
		"doesn't accept the keys":          func(o *Options) { o.Credentials.File = wrong },
		"isn't in region eu-west-1":        func(o *Options) { o.Region = "eu-west-1" },
		"is not to be trusted":             func(o *Options) { o.Endpoint = tls.URL },
		"has no keys":                      func(o *Options) { o.Credentials.File = garbage },
		"credentials file can't be read":   func(o *Options) { o.Credentials.File = garbage + "-not" },
		"no keys are in the environment":   func(o *Options) { o.Credentials = Credentials{} },
		"holds a user name":                func(o *Options) { o.Endpoint = "http://user:not-the-secret@localhost" },
		"isn't the URL of a service":       func(o *Options) { o.Endpoint = "localhost:9000" },
		"something after its host":         func(o *Options) { o.Endpoint += "/bucket" },
		"no bucket is named":               func(o *Options) { o.Bucket = "" },
		"one of dots":                      func(o *Options) { o.Prefix = "a/../b" },
		"parts of 5 bytes":                 func(o *Options) { o.PartSize = 5 },
		"the CA file can't be read":        func(o *Options) { o.CAFile = garbage + "-not" },
		"holds no certificate":             func(o *Options) { o.CAFile = garbage },
		`there is no style "x"`:            func(o *Options) { o.Style = "x" },
		`there is no encryption "x"`:       func(o *Options) { o.Encryption = "x" },
		"the encryption isn't sse-kms":     func(o *Options) { o.KMSKey = "x" },
		`no source of credentials "x"`:     func(o *Options) { o.Credentials.From = "x" },
		"token of a web identity is named": func(o *Options) { o.Credentials.From = FromWebIdentity },
	} {
		t.Run(words, func(t *testing.T) {
			o := options(server)
			change(&o)
			wantRefused(t, o, words, server.SecretKey, server.AccessKey, "not-the-secret")
		})
	}
}

// TestAClockThatIsOffIsTold runs the client in a bubble with a clock of its own.
func TestAClockThatIsOffIsTold(t *testing.T) {
	o := options(s3test.Start(t))
	for _, off := range []time.Duration{20 * time.Minute, -20 * time.Minute} {
		now := time.Now()
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(now.Add(off).Sub(time.Now())) // in the bubble this takes no time
			_, err := Open(t.Context(), o)
			var e *penstock.Error
			if !errors.As(err, &e) || !strings.Contains(e.Msg, "20m") && !strings.Contains(e.Msg, "19m5") || !strings.Contains(e.Hint, "clock") {
				t.Errorf("%s off: got error %v, want one that tells of the clock", off, err)
			}
		})
	}
}

func TestACustomAuthorityIsTrusted(t *testing.T) {
	server := s3test.Start(t)
	p := newProxy(t, server, func(h http.Handler) *httptest.Server { return httptest.NewTLSServer(h) })
	o := options(server)
	o.Endpoint, o.CAFile = p.URL, filepath.Join(t.TempDir(), "ca.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	if err := os.WriteFile(o.CAFile, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, o)
	for _, b := range [][]byte{nil, random(1, 1000), random(2, bigSize)} {
		put(t, s, b)
		wantBlob(t, s, b)
	}
}

func TestNoSecretIsInWhatAServerEchoes(t *testing.T) {
	s, p := faulty(t, nil)
	keys, err := s.keys.Get() //nolint:staticcheck
	if err != nil {
		t.Fatal(err)
	}
	p.set(always(echo, anyRequest))
	_, err = read(t.Context(), s, digest(nil), 0, -1)
	wantCode(t, err, penstock.Unavailable)
	wantSecret(t, err, keys.AccessKeyID, keys.SecretAccessKey)
	o := s.options
	wantRefused(t, o, "refuses it", keys.AccessKeyID, keys.SecretAccessKey)
}

func TestKeysThatAreChangedInTheirFileAreUsed(t *testing.T) {
	server := s3test.Start(t)
	o := options(server)
	o.Credentials.File = filepath.Join(t.TempDir(), "credentials")
	right, err := os.ReadFile(server.CredentialsFile)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte, at time.Time) {
		if err := errors.Join(os.WriteFile(o.Credentials.File, b, 0o600), os.Chtimes(o.Credentials.File, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	write(right, now)
	s := mustOpen(t, o)
	write(bytes.Replace(right, []byte(server.SecretKey), []byte("revoked"), 1), now.Add(time.Second))
	_, err = s.page(t.Context(), "", 1)
	wantCode(t, err, penstock.Unavailable)
	write(right, now.Add(2*time.Second))
	wantOnly(t, s)
}

func TestKeysComeFromTheEnvironment(t *testing.T) {
	server := s3test.Start(t)
	t.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
	t.Setenv("AWS_SESSION_TOKEN", "")
	o := options(server)
	o.Credentials = Credentials{}
	mustOpen(t, o)
}

// TestKeysComeForAWebIdentity has an STS of its own, which gives the real
// server's keys for the right token.
func TestKeysComeForAWebIdentity(t *testing.T) {
	server := s3test.Start(t)
	token := "token-of-the-pod"
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("WebIdentityToken") != "token-of-the-pod" || r.FormValue("Action") != "AssumeRoleWithWebIdentity" || r.FormValue("RoleArn") != "arn:aws:iam::1:role/x" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Code>InvalidIdentityToken</Code><Message>`+r.FormValue("WebIdentityToken")+`</Message></Error></ErrorResponse>`)
			return
		}
		_, _ = fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
			server.AccessKey, server.SecretKey, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	defer sts.Close()
	file := filepath.Join(t.TempDir(), "token")
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/x")
	o := options(server)
	o.Credentials = Credentials{From: FromWebIdentity, STSEndpoint: sts.URL}
	wantRefused(t, o, "token of the web identity can't be read")
	if err := os.WriteFile(file, []byte("another-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, o, "InvalidIdentityToken", "another-token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, o)
}

// TestABucketIsNamedInTheHostInVirtualStyle sends what is for bucket.domain to
// the server, since no DNS knows it.
func TestABucketIsNamedInTheHostInVirtualStyle(t *testing.T) {
	server := s3test.Start(t)
	o := options(server)
	address := strings.TrimPrefix(server.Endpoint, "http://")
	o.Endpoint, o.Style = "http://"+s3test.Domain, StyleVirtual
	s, err := connect(t.Context(), o.withDefaults(), ages{complete: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	var host string
	s.transport.next = roundTripper(func(r *http.Request) (*http.Response, error) {
		host = r.URL.Host
		out := r.Clone(r.Context())
		out.Host, out.URL.Host = r.URL.Host, address
		return http.DefaultTransport.RoundTrip(out)
	})
	b := random(1, 1000)
	put(t, s, b)
	wantBlob(t, s, b)
	if want := server.Bucket + "." + s3test.Domain; host != want {
		t.Errorf("host %q, want %q", host, want)
	}
	wantBlob(t, mustOpen(t, options(server)), b)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
