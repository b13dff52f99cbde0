// Package client is the typed client of Penstock's API, the one that the
// command line uses.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/penstock/penstock"
	v1 "github.com/penstock/penstock/api/v1"
)

// Client calls one server as one principal. It may be used from many
// goroutines. Errors are *penstock.Error with the server's code, place and hint;
// Unavailable when the server can't be reached.
type Client struct {
	// Base is the server's address, such as http://127.0.0.1:7070.
	Base string
	// Token is the access token.
	Token string
	// HTTP makes the calls; nil takes one with sensible timeouts and no limit
	// on the length of a stream.
	HTTP *http.Client
}

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 64 << 20

var defaultHTTP = &http.Client{Transport: &http.Transport{
	Proxy:                 http.ProxyFromEnvironment,
	DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
	ResponseHeaderTimeout: 60 * time.Second,
	TLSHandshakeTimeout:   10 * time.Second,
	IdleConnTimeout:       60 * time.Second,
}}

// call is one request.
type call struct {
	method, path string
	query        url.Values
	body         any
	header       http.Header
}

// do makes a call and decodes the answer into out, which may be nil.
func (c *Client) do(ctx context.Context, r call, out any) error {
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("decode answer of %s %s: %w", r.method, r.path, err)
	}
	return nil
}

// send makes a call and gives the open answer if it is a success.
func (c *Client) send(ctx context.Context, r call) (*http.Response, error) {
	var body io.Reader
	switch b := r.body.(type) {
	case nil:
	case io.Reader:
		body = b
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("encode %s %s: %w", r.method, r.path, err)
		}
		body = bytes.NewReader(encoded)
	}
	target := strings.TrimSuffix(c.Base, "/") + "/api/v1" + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%q is not a server address", c.Base), Hint: "write http://host:port", Err: err}
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	if body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	client := c.HTTP
	if client == nil {
		client = defaultHTTP
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, refusal(resp)
	}
	return resp, nil
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &penstock.Error{Code: penstock.Canceled, Msg: "given up", Err: ctx.Err()}
	}
	return &penstock.Error{
		Code: penstock.Unavailable, Msg: "the server at " + c.Base + " can't be reached",
		Hint: "start one with 'penstock dev', or name another with --server", Err: err,
	}
}

// refusal reads the Problem of an answer that is not a success.
func refusal(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // what came is told
	var p v1.Problem
	if json.Unmarshal(b, &p) == nil && p.Code != "" {
		return &penstock.Error{Code: p.Code, Msg: p.Detail, Where: p.Where, Hint: p.Hint}
	}
	code := penstock.Internal
	for _, info := range penstock.Codes() {
		if info.HTTP == resp.StatusCode {
			code = info.Code
			break
		}
	}
	text := p.Detail
	if text == "" {
		text = strings.TrimSpace(string(b[:min(len(b), 500)]))
	}
	return &penstock.Error{Code: code, Msg: fmt.Sprintf("the server answered %s: %s", resp.Status, text)}
}
