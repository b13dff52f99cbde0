package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/penstock/penstock"
)

// fault is an error that says more to an OpenAI client than its Code does.
type fault struct {
	err    error
	code   string        // error.code of the answer
	status int           // HTTP, if it isn't the Code's own
	retry  time.Duration // Retry-After, if not 0
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// wireError is the form of errors: OpenAI's API reference, "Error codes".
type wireError struct {
	Error wireErrorBody `json:"error"`
}

type wireErrorBody struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    string  `json:"code"`
}

// wireStatus is the status, type and code that OpenAI's own API would use.
func wireStatus(code penstock.Code) (status int, kind, wire string) {
	switch code {
	case penstock.Unauthenticated:
		return http.StatusUnauthorized, "invalid_request_error", "invalid_api_key"
	case penstock.NotFound, penstock.Denied:
		return http.StatusNotFound, "invalid_request_error", "model_not_found"
	case penstock.Invalid, penstock.Unsupported:
		return http.StatusBadRequest, "invalid_request_error", string(code)
	case penstock.TooLarge:
		return http.StatusRequestEntityTooLarge, "invalid_request_error", string(code)
	case penstock.OverLimit:
		return http.StatusTooManyRequests, "insufficient_quota", "insufficient_quota"
	case penstock.Unavailable:
		return http.StatusServiceUnavailable, "server_error", string(code)
	}
	return http.StatusInternalServerError, "server_error", "internal"
}

// describe is an error's status and form. Nothing of the cause is shown.
func describe(err error) (int, wireError) {
	status, kind, code := wireStatus(penstock.CodeOf(err))
	body := wireErrorBody{Message: "an internal error; the log has the details", Type: kind, Code: code}
	var e *penstock.Error
	if errors.As(err, &e) && e.Code != penstock.Internal {
		body.Message = e.Msg
		if e.Hint != "" {
			body.Message += ". " + e.Hint
		}
	}
	var f *fault
	if errors.As(err, &f) {
		body.Code = f.code
		if f.status != 0 {
			status = f.status
		}
		if f.code == "rate_limit_exceeded" {
			body.Type = "rate_limit_error"
		}
	}
	return status, wireError{body}
}

// refuse answers with an error, before anything else was written.
func (g *Gateway) refuse(w http.ResponseWriter, err error) int {
	status, form := describe(err)
	var f *fault
	if errors.As(err, &f) && f.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((f.retry+time.Second-1)/time.Second)))
	}
	if status == http.StatusInternalServerError && !errors.Is(err, context.Canceled) {
		g.log.Error("request failed", "err", err)
	}
	g.metrics.refused.WithLabelValues(form.Error.Code).Inc()
	writeJSON(w, status, form)
	return status
}

// upstreamFault is what the client hears when the replicas are at fault.
func upstreamFault(status int, msg string) error {
	err := &penstock.Error{Code: penstock.Unavailable, Msg: msg, Hint: "Try again"}
	return &fault{err: err, code: "upstream_error", status: status, retry: time.Second}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

// errorEvent is an error in a stream that has begun: OpenAI's clients raise it.
func errorEvent(err error) []byte {
	_, form := describe(err)
	data, marshalErr := json.Marshal(form)
	if marshalErr != nil {
		return nil
	}
	return append(append([]byte("data: "), data...), "\n\n"...)
}
