package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// ask is one request to make.
type ask struct {
	Prompt    string
	MaxTokens int
	Stream    bool
	Abort     bool // leave after a few tokens; only with Stream
}

// reply is what the client saw of its answer.
type reply struct {
	ask
	Prompted, Completed int64         // tokens as the answer's usage says; 0 where it was left
	Chunks              int64         // that stand for a token each
	TTFT                time.Duration // to the first token of a stream
	Took                time.Duration
}

// source is what prompts are cut from.
const source = `package main

import ("fmt"; "os")

func main() {
	for i, name := range os.Args[1:] {
		if err := open(name); err != nil {
			fmt.Fprintln(os.Stderr, "open", i, err)
			os.Exit(1)
		}
	}
}
`

// usual are requests of short and middling prompts, in a mix that is the same
// for any run of four: chance raises no alert. Half are streamed, and of ten
// one is left by its client.
func usual(n int) []ask {
	asks := make([]ask, n)
	for i := range asks {
		asks[i] = ask{Prompt: source[:[]int{12, 24, 48, 80}[i%4]], MaxTokens: []int{12, 20, 28, 36}[i/4%4], Stream: i%2 == 0}
		if i%10 == 4 {
			asks[i].Abort, asks[i].MaxTokens = true, 120
		}
	}
	return asks
}

// shifted are requests of long prompts: the world has moved on.
func shifted(n int) []ask {
	asks := make([]ask, n)
	for i := range asks {
		asks[i] = ask{Prompt: source[:[]int{120, 140, 160, 180}[i%4]], MaxTokens: []int{12, 20, 28, 36}[i/4%4], Stream: i%2 == 0}
	}
	return asks
}

// shop is a customer of the endpoint: it knows an address and a key.
type shop struct {
	base, key string
	http      *http.Client
}

// parallel is how many requests are under way at a time.
const parallel = 8

// send makes all requests and gives their replies in the order of asks.
func (s shop) send(ctx context.Context, asks []ask) ([]reply, error) {
	replies := make([]reply, len(asks))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, a := range asks {
		g.Go(func() error {
			var err error
			if replies[i], err = s.one(ctx, a, i); err != nil {
				return fmt.Errorf("request %d of %d: %w", i+1, len(asks), err)
			}
			return nil
		})
	}
	return replies, g.Wait()
}

// leaveAfter is how many tokens a client sees that leaves.
const leaveAfter = 3

func (s shop) one(ctx context.Context, a ask, seed int) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel() // leaves, where the answer isn't read to its end
	body := map[string]any{"model": "chat", "prompt": a.Prompt, "max_tokens": a.MaxTokens, "temperature": 0.8, "seed": seed, "stream": a.Stream}
	if a.Stream {
		body["stream_options"] = map[string]bool{"include_usage": true}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return reply{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/v1/completions", bytes.NewReader(text))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	res, err := s.http.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
		return reply{}, fmt.Errorf("%s: %s", res.Status, said)
	}
	r := reply{ask: a}
	if a.Stream {
		err = r.read(res.Body, began)
	} else {
		err = r.take(res.Body)
	}
	r.Took = time.Since(began)
	if err == nil && !a.Abort && r.Prompted == 0 {
		err = errors.New("the answer has no usage")
	}
	return r, err
}

// answer is what is read of an answer or of one event of it.
type answer struct {
	Choices []struct {
		Text   string  `json:"text"`
		Finish *string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		Prompt     int64 `json:"prompt_tokens"`
		Completion int64 `json:"completion_tokens"`
	} `json:"usage"`
}

func (r *reply) take(body io.Reader) error {
	var a answer
	if err := json.NewDecoder(body).Decode(&a); err != nil {
		return err
	}
	r.note(a)
	return nil
}

func (r *reply) note(a answer) {
	if a.Usage != nil {
		r.Prompted, r.Completed = a.Usage.Prompt, a.Usage.Completion
	}
}

// read reads a stream to its end, or as far as its client stays.
func (r *reply) read(body io.Reader, began time.Time) error {
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		data, found := strings.CutPrefix(lines.Text(), "data: ")
		if !found {
			continue
		}
		if data == "[DONE]" {
			return nil
		}
		var a answer
		if err := json.Unmarshal([]byte(data), &a); err != nil {
			return fmt.Errorf("read event %q: %w", data, err)
		}
		r.note(a)
		if len(a.Choices) == 1 && a.Choices[0].Finish == nil {
			if r.Chunks++; r.Chunks == 1 {
				r.TTFT = time.Since(began)
			}
		}
		if r.Abort && r.Chunks == leaveAfter {
			return nil
		}
	}
	return errors.Join(errors.New("the stream broke off"), lines.Err())
}
