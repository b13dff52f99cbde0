package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/penstock/penstock"
)

// Credentials says where the keys come from. The keys themselves are no option:
// so they can't be in the server's own settings, nor in anything that shows
// those.
type Credentials struct {
	// From is one of the Sources; FromEnvironment if empty.
	From Source
	// File is an AWS shared credentials file, for FromFile. It is read again
	// when it changes.
	File string
	// Profile is the section of File; "default" if empty.
	Profile string
	// TokenFile holds the token of a web identity; AWS_WEB_IDENTITY_TOKEN_FILE if empty.
	TokenFile string
	// RoleARN is the role that the web identity assumes; AWS_ROLE_ARN if empty.
	RoleARN string
	// STSEndpoint is the URL of the service that gives keys for a web identity;
	// the one of Amazon in the region if empty.
	STSEndpoint string
}

// Source is where credentials come from.
type Source string

// The sources: the variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
// AWS_SESSION_TOKEN; a file in AWS shared credentials format; or a token of the
// platform, as Kubernetes gives to a pod, that is changed for keys at an STS
// endpoint (AssumeRoleWithWebIdentity).
const (
	FromEnvironment Source = "environment"
	FromFile        Source = "file"
	FromWebIdentity Source = "web-identity"
)

// open checks that there are credentials, and gives them. Client speaks to STS.
func (c Credentials) open(ctx context.Context, region string, client *http.Client) (*credentials.Credentials, error) {
	p, err := c.provider(region, client)
	if err != nil {
		return nil, err
	}
	got := credentials.New(p)
	_, err = got.GetWithContext(&credentials.CredContext{Client: client, Context: ctx})
	return got, err
}

func (c Credentials) provider(region string, client *http.Client) (credentials.Provider, error) {
	switch c.From {
	case "", FromEnvironment:
		return &provider{Provider: &credentials.EnvAWS{}, explain: func(error) error {
			return noKeys("no keys are in the environment", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or have them read from a file or by web identity")
		}}, nil
	case FromFile:
		if c.File == "" {
			return nil, invalid("keys are to come from a file, but none is named", "name a file in AWS shared credentials format")
		}
		p := &fileProvider{name: c.File}
		p.provider = provider{Provider: &credentials.FileAWSCredentials{Filename: c.File, Profile: c.profile()}, explain: c.badFile}
		return p, nil
	case FromWebIdentity:
		return c.webIdentity(region, client)
	}
	return nil, invalid(fmt.Sprintf("there is no source of credentials %q", c.From), "use environment, file or web-identity")
}

// profile is never empty, or AWS_PROFILE would choose.
func (c Credentials) profile() string {
	if c.Profile == "" {
		return "default"
	}
	return c.Profile
}

// badFile leaves out what the parser says, which may quote a line of the file.
func (c Credentials) badFile(err error) error {
	e := noKeys(fmt.Sprintf("the credentials file has no keys in its profile %q", c.profile()),
		"write aws_access_key_id and aws_secret_access_key below ["+c.profile()+"]")
	e.Where = c.File
	var missing *fs.PathError
	if errors.As(err, &missing) {
		e.Msg, e.Hint, e.Err = "the credentials file can't be read", "let the user that Penstock runs as read it", missing.Err
	}
	return e
}

func (c Credentials) webIdentity(region string, client *http.Client) (credentials.Provider, error) {
	file, role, sts := c.TokenFile, c.RoleARN, c.STSEndpoint
	if file == "" {
		file = os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE")
	}
	if role == "" {
		role = os.Getenv("AWS_ROLE_ARN")
	}
	if sts == "" {
		sts = "https://sts." + region + ".amazonaws.com"
	}
	if file == "" {
		return nil, invalid("no file with the token of a web identity is named", "set AWS_WEB_IDENTITY_TOKEN_FILE, or name the file")
	}
	inner := &credentials.STSWebIdentity{Client: client, STSEndpoint: sts, RoleARN: role}
	inner.GetWebIDTokenExpiry = func() (*credentials.WebIdentityToken, error) {
		token, err := os.ReadFile(file)
		return &credentials.WebIdentityToken{Token: strings.TrimSpace(string(token))}, err
	}
	return &provider{Provider: inner, explain: func(err error) error { return badIdentity(err, file, sts) }}, nil
}

// badIdentity gives only the code of what STS says: its words may hold the token.
func badIdentity(err error, file, sts string) error {
	var missing *fs.PathError
	var said credentials.ErrorResponse
	switch {
	case errors.As(err, &missing):
		e := noKeys("the token of the web identity can't be read", "mount the token where the setting says it is")
		e.Where, e.Err = file, missing.Err
		return e
	case errors.As(err, &said):
		return noKeys(fmt.Sprintf("%s gives no keys for the web identity: %s", sts, said.STSError.Code),
			"check the role, and that it trusts the issuer and the audience of the token")
	}
	e := noKeys("keys for the web identity can't be had from "+sts, "check that this machine reaches it, and trusts its certificate")
	var network *url.Error
	if errors.As(err, &network) {
		e.Err = network
	}
	return e
}

func noKeys(msg, hint string) *penstock.Error {
	return &penstock.Error{Code: penstock.Unavailable, Msg: "S3: " + msg, Hint: hint}
}

// provider makes clear errors of those of the library's provider, and holds
// that empty keys are an error: the library would ask anonymously.
type provider struct {
	credentials.Provider
	explain func(error) error
}

// RetrieveWithCredContext implements credentials.Provider.
func (p *provider) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	v, err := p.Provider.RetrieveWithCredContext(cc)
	if err != nil || v.AccessKeyID == "" || v.SecretAccessKey == "" {
		return credentials.Value{}, p.explain(err)
	}
	return v, nil
}

// Retrieve implements credentials.Provider.
func (p *provider) Retrieve() (credentials.Value, error) { return p.RetrieveWithCredContext(nil) }

// fileProvider has its file read again when it has changed: keys in a mounted
// secret are changed while the server runs.
type fileProvider struct {
	provider
	name string
	read atomic.Int64 // when the file that was read had been written, in ns
}

// RetrieveWithCredContext implements credentials.Provider.
func (p *fileProvider) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	p.read.Store(p.written().UnixNano())
	return p.provider.RetrieveWithCredContext(cc)
}

// Retrieve implements credentials.Provider.
func (p *fileProvider) Retrieve() (credentials.Value, error) { return p.RetrieveWithCredContext(nil) }

// IsExpired implements credentials.Provider. A file that is away for a moment
// leaves what was read last.
func (p *fileProvider) IsExpired() bool {
	at := p.written()
	return !at.IsZero() && at.UnixNano() != p.read.Load() || p.provider.IsExpired()
}

func (p *fileProvider) written() time.Time {
	info, err := os.Stat(p.name)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
