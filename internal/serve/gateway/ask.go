package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"github.com/penstock/penstock"
)

// route is one of the paths that generate.
type route string

const (
	completions route = "completions"
	chat        route = "chat"
)

func (r route) path() string {
	if r == chat {
		return "/v1/chat/completions"
	}
	return "/v1/completions"
}

// ask is what the gateway understands of a request. Everything else in its body
// goes to the replica as it came.
type ask struct {
	body       []byte
	model      string
	stream     bool
	wantsUsage bool  // the client asked for the usage chunk itself
	choices    int64 // answers generated for the one prompt
	maxTokens  int64 // of each; 0 where the request doesn't say
}

// promptBound is the most tokens that the prompt can be: a token is a byte at
// least, and the JSON around the texts is longer than any template's own words.
func (a ask) promptBound() int64 { return int64(len(a.body)) }

// promptGuess is about how many tokens the prompt is, for use where nobody
// counted: 4 bytes to a token of English.
func (a ask) promptGuess() int64 {
	prompt := gjson.GetBytes(a.body, "messages")
	if !prompt.Exists() {
		prompt = gjson.GetBytes(a.body, "prompt")
	}
	return int64(len(prompt.Raw))/4 + 1
}

// readBody takes the body, bounded in bytes and time.
func (g *Gateway) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(g.limits.Read)) // a recorder has none
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, g.limits.Body))
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		return nil, &penstock.Error{Code: penstock.TooLarge, Msg: fmt.Sprintf("the body has more than %d bytes", over.Limit), Hint: "Send less"}
	}
	if err != nil {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: "the body ended too early", Err: err}
	}
	return body, nil
}

// parse checks the body and picks out what the gateway needs. A name that stands
// twice is refused, as is nesting without end: the gateway and the replica must
// not read the same bytes differently.
func parse(body []byte) (ask, error) {
	if v := jsontext.Value(body); !v.IsValid() || v.Kind() != '{' {
		return ask{}, bad("the body isn't one JSON object in which each name stands once")
	}
	a := ask{body: body, choices: 1}
	model := gjson.GetBytes(body, "model")
	if model.Type != gjson.String || model.Str == "" {
		return ask{}, bad("model is missing")
	}
	a.model = model.Str
	stream := gjson.GetBytes(body, "stream")
	if stream.Exists() && !stream.IsBool() && stream.Type != gjson.Null {
		return ask{}, bad("stream is %.20s; it must be true or false", stream.Raw)
	}
	a.stream = stream.Bool()
	options := gjson.GetBytes(body, "stream_options")
	if options.Exists() && !options.IsObject() && options.Type != gjson.Null {
		return ask{}, bad("stream_options is %.20s; it must be an object", options.Raw)
	}
	a.wantsUsage = options.Get("include_usage").Bool()
	var err error
	for _, field := range []struct {
		name string
		into *int64
	}{{"max_tokens", &a.maxTokens}, {"max_completion_tokens", &a.maxTokens}, {"n", &a.choices}, {"best_of", &a.choices}} {
		if *field.into, err = count(body, field.name, *field.into); err != nil {
			return ask{}, err
		}
	}
	return a, nil
}

// count reads a number of 1 to a million, and gives the larger of it and floor.
func count(body []byte, name string, floor int64) (int64, error) {
	v := gjson.GetBytes(body, name)
	if !v.Exists() || v.Type == gjson.Null {
		return floor, nil
	}
	if v.Type != gjson.Number || v.Num < 1 || v.Num > 1e6 || v.Num != float64(int64(v.Num)) {
		return 0, bad("%s is %.20s; it must be a whole number from 1 to 1000000", name, v.Raw)
	}
	return max(floor, int64(v.Num)), nil
}

func bad(format string, args ...any) error {
	return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf(format, args...)}
}

// upstream is the body that goes to a replica: the model by the endpoint's own
// name, usage always asked for, and a bound on tokens where one was set here.
func (a ask) upstream(endpoint string, bound int64) ([]byte, error) {
	body := a.body
	var err error
	if a.model != endpoint {
		if body, err = sjson.SetBytes(body, "model", endpoint); err != nil {
			return nil, fmt.Errorf("set model: %w", err)
		}
	}
	if bound > 0 {
		if body, err = sjson.SetBytes(body, "max_tokens", bound); err != nil {
			return nil, fmt.Errorf("set max_tokens: %w", err)
		}
	}
	if !a.stream || a.wantsUsage {
		return body, nil
	}
	if gjson.GetBytes(body, "stream_options").IsObject() {
		body, err = sjson.SetBytes(body, "stream_options.include_usage", true)
	} else {
		body, err = sjson.SetRawBytes(body, "stream_options", []byte(`{"include_usage":true}`))
	}
	if err != nil {
		return nil, fmt.Errorf("set stream_options: %w", err)
	}
	return body, nil
}
