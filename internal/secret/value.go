package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// hidden is what is seen of a Value.
const hidden = "[hidden]"

// Value is a text that nothing prints: not fmt with any verb, not a logger, not
// an encoder, and not a struct that holds it in an unexported field, since the
// text lies behind a pointer. Only Reveal gives it. Values aren't compared with
// ==; its zero value is empty.
type Value struct{ text *string }

// Hide makes a Value of text.
func Hide(text string) Value { return Value{&text} }

// Reveal is the text. Each use of it is a place to look at in a review.
func (v Value) Reveal() string {
	if v.text == nil {
		return ""
	}
	return *v.text
}

// Format hides v from every verb of fmt, also from the wrong ones.
func (v Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// String hides v.
func (v Value) String() string { return hidden }

// GoString hides v.
func (v Value) GoString() string { return hidden }

// MarshalText hides v from encoders, JSON and YAML among them.
func (v Value) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue hides v from loggers.
func (v Value) LogValue() slog.Value { return slog.StringValue(hidden) }
