package main

import "time"

// usage is exact: the tokens that were decoded and sampled for one request.
type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

// body is an answer or a chunk of one, of either route.
type body struct {
	ID      string   `json:"id"`
	Object  string   `json:"object"`
	Created int64    `json:"created"`
	Model   string   `json:"model"`
	Choices []choice `json:"choices"`
	Usage   *usage   `json:"usage,omitzero"`
}

// choice carries exactly one of Text, Message and Delta. An empty text is sent
// too: its chunk stands for a token.
type choice struct {
	Index   int     `json:"index"`
	Text    *string `json:"text,omitzero"`
	Message *turn   `json:"message,omitzero"`
	Delta   *turn   `json:"delta,omitzero"`
	Finish  *string `json:"finish_reason"`
}

type turn struct {
	Role    string  `json:"role,omitzero"`
	Content *string `json:"content,omitzero"`
}

// dialect is how one route writes its answers.
type dialect struct {
	prefix, whole, chunk string // of ids; the two objects
	chat                 bool
}

func completions() dialect {
	return dialect{prefix: "cmpl-", whole: "text_completion", chunk: "text_completion"}
}

func chatCompletions() dialect {
	return dialect{prefix: "chatcmpl-", whole: "chat.completion", chunk: "chat.completion.chunk", chat: true}
}

// reply begins an answer: a body without choices.
func (d dialect) reply(object, id, model string, now time.Time) body {
	return body{ID: d.prefix + id, Object: object, Created: now.Unix(), Model: model, Choices: []choice{}}
}

// full is the one choice of a whole answer.
func (d dialect) full(text, finish string) []choice {
	if d.chat {
		return []choice{{Message: &turn{Role: "assistant", Content: &text}, Finish: &finish}}
	}
	return []choice{{Text: &text, Finish: &finish}}
}

// part is the one choice of a chunk. finish is empty before the last.
func (d dialect) part(text, finish string) []choice {
	var end *string
	if finish != "" {
		end = &finish
	}
	if d.chat {
		return []choice{{Delta: &turn{Content: &text}, Finish: end}}
	}
	return []choice{{Text: &text, Finish: end}}
}

// opening is the choices of a stream's first chunk, or nil where the route has
// none: a chat says who speaks before it says anything.
func (d dialect) opening() []choice {
	if !d.chat {
		return nil
	}
	nothing := ""
	return []choice{{Delta: &turn{Role: "assistant", Content: &nothing}}}
}

// failure is the form of errors.
type failure struct {
	Error failureBody `json:"error"`
}

type failureBody struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    string  `json:"code"`
}
