package gateway

import "github.com/tidwall/gjson"

// tally is what is known of the tokens of one attempt.
type tally struct {
	taken    bool  // the replica accepted the request
	hint     int64 // prompt tokens, as the runtime told beforehand; 0 is unknown
	counted  int64 // chunks that stand for a token each
	finished bool  // a chunk told why generation ended

	reported           bool // the replica sent usage
	prompt, completion int64
}

// part is what a piece of a stream is to the gateway.
type part int

const (
	partOther   part = iota // a comment, or that a chat's answer begins
	partContent             // the answer itself: after it nothing is tried again
	partUsage               // the chunk with usage and nothing else
	partDone                // the end mark
	partFailed              // an error of the replica
)

// complete reports whether the replica's own count is final.
func (t *tally) complete() bool { return t.finished && t.reported }

// see reads one event's data. Of the formats' many fields it looks only at those
// that say how many tokens were used and whether content has begun.
func (t *tally) see(data []byte) part {
	if string(data) == "[DONE]" {
		return partDone
	}
	chunk := gjson.ParseBytes(data)
	if !chunk.IsObject() {
		return partOther
	}
	if failure := chunk.Get("error"); failure.Exists() && failure.Type != gjson.Null {
		return partFailed
	}
	usage := t.report(chunk)
	choices := chunk.Get("choices").Array()
	if usage && len(choices) == 0 {
		return partUsage
	}
	what := partOther
	for _, choice := range choices {
		if reason := choice.Get("finish_reason"); reason.Exists() && reason.Type != gjson.Null {
			t.finished = true
			what = partContent
			continue
		}
		if generated(choice) {
			t.counted++
			what = partContent
		}
	}
	return what
}

// generated reports whether a choice stands for a token. penstock-llama sends a
// chunk for each, with an empty text where the token finished no character. Only
// the chunk that says who speaks stands for none.
func generated(choice gjson.Result) bool {
	if choice.Get("text").Type == gjson.String {
		return true
	}
	delta := choice.Get("delta")
	begins, found := delta.Get("role").Exists(), false
	delta.ForEach(func(name, value gjson.Result) bool {
		switch {
		case name.Str == "role" || value.Type == gjson.Null:
		case begins && value.Type == gjson.String && value.Str == "":
		default:
			found = true
		}
		return !found
	})
	return found
}

// report notes the usage in an answer or a chunk, if it has one.
func (t *tally) report(body gjson.Result) bool {
	usage := body.Get("usage")
	prompt, completion := usage.Get("prompt_tokens"), usage.Get("completion_tokens")
	if prompt.Type != gjson.Number || prompt.Int() < 0 || completion.Int() < 0 {
		return false
	}
	t.reported, t.prompt, t.completion = true, prompt.Int(), completion.Int()
	return true
}
