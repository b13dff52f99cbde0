package penstock

import (
	"errors"
	"strings"
)

// Code is the sort of an Error. It decides the HTTP status and the exit code,
// and it is part of the wire format: a code is never renamed.
type Code string

// The codes. Codes describes each.
const (
	Invalid         Code = "invalid"
	Unauthenticated Code = "unauthenticated"
	Denied          Code = "denied"
	NotFound        Code = "not_found"
	Exists          Code = "exists"
	Conflict        Code = "conflict"
	Fenced          Code = "fenced"
	OverLimit       Code = "over_limit"
	TooLarge        Code = "too_large"
	Unsupported     Code = "unsupported"
	Busy            Code = "busy"
	Unavailable     Code = "unavailable"
	Pending         Code = "pending"
	Corrupt         Code = "corrupt"
	Canceled        Code = "canceled"
	Internal        Code = "internal"
)

// CodeInfo is what a code means to each surface. Exit is the exit status of
// the command line, HTTP the status of the API (a plain number, so that the vocabulary needs no
// network package).
type CodeInfo struct {
	Code    Code
	HTTP    int
	Exit    int
	Meaning string
}

// Codes is the catalogue of error codes; docs/errors.md is generated from it.
func Codes() []CodeInfo {
	return []CodeInfo{
		{Invalid, 422, 2, "What was asked can't be right as it is written; the place is named. Nothing was changed."},
		{Unauthenticated, 401, 4, "No token was sent, or it is unknown, expired or revoked."},
		{Denied, 403, 4, "The token is known but its role or project doesn't allow this."},
		{NotFound, 404, 3, "No such thing, or none that this token may see."},
		{Exists, 409, 1, "The name is taken."},
		{Conflict, 412, 1, "The object changed since it was read. Read it again and repeat."},
		{Fenced, 409, 1, "A newer attempt took over; what the old one says no longer counts."},
		{OverLimit, 429, 5, "A quota, budget or rate is used up; the numbers are in the message."},
		{TooLarge, 413, 2, "More bytes than the limit named in the message."},
		{Unsupported, 501, 2, "Well formed, but not something that this version can do."},
		{Busy, 409, 1, "Somebody else holds it: a port, a data folder, an object in use."},
		{Unavailable, 503, 1, "Can't be reached or isn't ready. Trying again may help."},
		{Pending, 409, 8, "Not finished within the time given; it goes on."},
		{Corrupt, 500, 1, "Stored bytes aren't what was stored. Nothing was used of them."},
		{Canceled, 499, 130, "Given up by the caller."},
		{Internal, 500, 1, "A fault in Penstock. The details are in the server's log under the id in the message."},
	}
}

// Error is the one error type that people see. Everything in it but Err may be
// shown to anybody who may see the object; Err is the cause, for the log only.
type Error struct {
	Code  Code
	Msg   string // what happened, with the numbers
	Where string // file:line of a manifest, or a Ref
	Hint  string // what to do about it
	Err   error  // the cause
}

// Error is the message for logs and terminals: where, what, cause. The hint is
// left to the surface that shows the error, which may have a place of its own
// for it.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Where != "" {
		b.WriteString(e.Where + ": ")
	}
	switch {
	case e.Msg != "" && e.Err != nil:
		b.WriteString(e.Msg + ": " + e.Err.Error())
	case e.Msg != "":
		b.WriteString(e.Msg)
	case e.Err != nil:
		b.WriteString(e.Err.Error())
	default:
		b.WriteString(string(e.Code))
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, &Error{Code: c}) ask for the code alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Msg == "" && t.Where == "" && t.Err == nil && t.Code == e.Code
}

// CodeOf is the code of the outermost Error in err's chain, Internal for any
// other error, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}

// InfoOf is the catalogue's line for err's code.
func InfoOf(err error) CodeInfo {
	code := CodeOf(err)
	for _, info := range Codes() {
		if info.Code == code {
			return info
		}
	}
	return CodeInfo{Code: Internal, HTTP: 500, Exit: 1}
}

// Public is what anybody may read of an error: its own words, and those of the
// Errors below it, but nothing of a foreign cause, which may name files, hosts
// or secrets.
func Public(err error) string {
	var e *Error
	if !errors.As(err, &e) {
		return "a fault in Penstock; the server's log tells more"
	}
	text := e.Msg
	if below := (*Error)(nil); errors.As(e.Err, &below) {
		if text != "" {
			text += ": "
		}
		text += Public(below)
	}
	if text == "" {
		text = string(e.Code)
	}
	return text
}
