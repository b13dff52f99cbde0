package main

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/penstock/penstock"
)

// The formats are those of OpenAI's API reference, "Completions" and "Chat
// completions". JSON is read strictly: names are case-sensitive and may stand
// once, so that this server and whatever reads the same bytes before it can't
// understand them differently.

// call is what the two routes' bodies come down to.
type call struct {
	Model   string
	Text    string // what the model continues
	Options options
	Stream  bool
	Usage   bool // a stream ends with a usage chunk
}

// message is one turn of a chat, its content as text.
type message struct {
	Role    string
	Content string
}

// common are the fields of both routes.
type common struct {
	Model         string         `json:"model"`
	MaxTokens     *int           `json:"max_tokens"`
	Temperature   *float64       `json:"temperature"`
	TopP          *float64       `json:"top_p"`
	Seed          *int64         `json:"seed"`
	Stop          jsontext.Value `json:"stop"`
	Stream        bool           `json:"stream"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

type completionBody struct {
	common
	Prompt jsontext.Value `json:"prompt"`
}

type chatBody struct {
	common
	MaxCompletionTokens *int `json:"max_completion_tokens"`
	Messages            []struct {
		Role    string         `json:"role"`
		Content jsontext.Value `json:"content"`
	} `json:"messages"`
}

// harmless lists options that would change the answer in a way that this server
// can't, with the values that change nothing. Anything else is refused, not
// silently left out.
func harmless() map[string][]string {
	return map[string][]string{
		"n": {"1"}, "best_of": {"1"}, "echo": {"false"}, "suffix": {`""`},
		"logprobs": {"false"}, "top_logprobs": {"0"}, "logit_bias": {"{}"},
		"presence_penalty": {"0", "0.0"}, "frequency_penalty": {"0", "0.0"},
		"tools": {"[]"}, "tool_choice": {`"none"`, `"auto"`}, "functions": {"[]"},
		"response_format": {`{"type":"text"}`}, "modalities": {`["text"]`}, "audio": nil,
	}
}

func decode(body []byte, into any) error {
	var all map[string]jsontext.Value
	if err := json.Unmarshal(body, &all); err != nil {
		return &penstock.Error{Code: penstock.Invalid, Msg: "the body isn't a JSON object: " + err.Error(), Err: err}
	}
	for name, same := range harmless() {
		value, given := all[name]
		if !given || string(value) == "null" {
			continue
		}
		if err := value.Compact(); err != nil {
			return fmt.Errorf("compact %s: %w", name, err)
		}
		if !contains(same, string(value)) {
			return &penstock.Error{Code: penstock.Unsupported, Msg: fmt.Sprintf("%s is %.60s, which this server can't do", name, value), Hint: "leave " + name + " out"}
		}
	}
	if err := json.Unmarshal(body, into); err != nil {
		return &penstock.Error{Code: penstock.Invalid, Msg: "the body isn't as it should be: " + err.Error(), Err: err}
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, one := range list {
		if one == s {
			return true
		}
	}
	return false
}

func parseCompletion(body []byte) (call, error) {
	var b completionBody
	if err := decode(body, &b); err != nil {
		return call{}, err
	}
	if b.MaxTokens == nil {
		sixteen := 16 // the API's default for this route
		b.MaxTokens = &sixteen
	}
	c, err := b.call(b.MaxTokens)
	if err != nil {
		return call{}, err
	}
	prompts, err := texts("prompt", b.Prompt)
	if err != nil {
		return call{}, err
	}
	if len(prompts) != 1 {
		return call{}, &penstock.Error{Code: penstock.Unsupported, Msg: fmt.Sprintf("prompt holds %d prompts; one is taken at a time", len(prompts)), Hint: "send them one by one"}
	}
	c.Text = prompts[0]
	return c, nil
}

func parseChat(body []byte, format func([]message) string) (call, error) {
	var b chatBody
	if err := decode(body, &b); err != nil {
		return call{}, err
	}
	limit := b.MaxTokens
	if b.MaxCompletionTokens != nil {
		limit = b.MaxCompletionTokens
	}
	c, err := b.call(limit)
	if err != nil {
		return call{}, err
	}
	if len(b.Messages) == 0 {
		return call{}, &penstock.Error{Code: penstock.Invalid, Msg: "messages is empty", Hint: "send one message at least"}
	}
	messages := make([]message, len(b.Messages))
	for i, m := range b.Messages {
		text, err := content(m.Content)
		if err != nil {
			return call{}, err
		}
		if strings.ContainsRune(m.Role+text, 0) {
			return call{}, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("message %d holds a NUL character", i), Hint: "leave it out"}
		}
		messages[i] = message{m.Role, text}
	}
	c.Text = format(messages)
	return c, nil
}

// content is a message's text: a string, or parts of type text.
func content(v jsontext.Value) (string, error) {
	var text string
	if json.Unmarshal(v, &text) == nil {
		return text, nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if err := json.Unmarshal(v, &parts); err != nil {
		return "", &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("content is %.40s", v), Hint: "send a string, or a list of parts of type text"}
	}
	for _, part := range parts {
		if part.Type != "text" {
			return "", &penstock.Error{Code: penstock.Unsupported, Msg: fmt.Sprintf("a part of content has the type %.40q", part.Type), Hint: "send parts of type text only"}
		}
		text += part.Text
	}
	return text, nil
}

// texts reads a string or a list of strings.
func texts(name string, v jsontext.Value) ([]string, error) {
	if len(v) == 0 || string(v) == "null" {
		return nil, nil
	}
	var one string
	if json.Unmarshal(v, &one) == nil {
		return []string{one}, nil
	}
	var many []string
	if err := json.Unmarshal(v, &many); err != nil {
		return nil, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%s is %.40s", name, v), Hint: "send a string or a list of strings"}
	}
	return many, nil
}

// call checks the fields that both routes have.
func (b common) call(limit *int) (call, error) {
	c := call{Model: b.Model, Stream: b.Stream, Options: options{Temperature: 1, TopP: 1, Seed: rand.Uint32()}}
	if b.StreamOptions != nil {
		if !b.Stream {
			return call{}, &penstock.Error{Code: penstock.Invalid, Msg: "stream_options is given without stream", Hint: "set stream to true"}
		}
		c.Usage = b.StreamOptions.IncludeUsage
	}
	if limit != nil {
		if *limit < 1 {
			return call{}, outOfRange("max_tokens", *limit, "1 at least")
		}
		c.Options.Max = *limit
	}
	if b.Temperature != nil {
		if *b.Temperature < 0 || *b.Temperature > 2 {
			return call{}, outOfRange("temperature", *b.Temperature, "0 to 2")
		}
		c.Options.Temperature = float32(*b.Temperature)
	}
	if b.TopP != nil {
		if *b.TopP <= 0 || *b.TopP > 1 {
			return call{}, outOfRange("top_p", *b.TopP, "more than 0 and 1 at most")
		}
		c.Options.TopP = float32(*b.TopP)
	}
	if b.Seed != nil {
		c.Options.Seed = uint32(*b.Seed) // the lower 32 bits are what llama.cpp takes
	}
	var err error
	if c.Options.Stop, err = texts("stop", b.Stop); err != nil {
		return call{}, err
	}
	if len(c.Options.Stop) > 4 || contains(c.Options.Stop, "") {
		return call{}, &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("stop holds %d strings", len(c.Options.Stop)), Hint: "send 1 to 4 strings, none of them empty"}
	}
	return c, nil
}

func outOfRange(name string, value any, allowed string) error {
	return &penstock.Error{Code: penstock.Invalid, Msg: fmt.Sprintf("%s is %v", name, value), Hint: "it must be " + allowed}
}
