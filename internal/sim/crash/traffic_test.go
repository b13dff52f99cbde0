package crash

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/penstock/penstock/api/v1/client"
)

// usage is what an answer says of itself.
type usage struct {
	Prompt     int64 `json:"prompt_tokens"`
	Completion int64 `json:"completion_tokens"`
}

// traffic is clients who ask an endpoint, one request after the other.
type traffic struct {
	p          *plant
	key, model string

	mu       sync.Mutex
	answered map[string]usage // whole answers, by id of the request
	broken   int              // requests without a whole answer
}

// ask sends requests until ctx ends: every other one is streamed.
func (f *traffic) ask(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		id, used, err := f.once(ctx, n%2 == 0)
		f.mu.Lock()
		if err == nil {
			f.answered[id] = used
		} else if id != "" {
			f.broken++
		}
		f.mu.Unlock()
		if err != nil {
			pause(ctx, pollPause)
		}
	}
}

func (f *traffic) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.answered)
}

// once makes one request. The id is there once the gateway has accepted it.
func (f *traffic) once(ctx context.Context, stream bool) (id string, used usage, err error) {
	c, err := f.p.client()
	if err != nil {
		return "", used, err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	question := map[string]any{"model": f.model, "prompt": "func ", "max_tokens": 24, "stream": stream}
	if stream {
		question["stream_options"] = map[string]bool{"include_usage": true}
	}
	body, err := json.Marshal(question)
	if err != nil {
		return "", used, err
	}
	resp, err := f.post(ctx, c, body)
	if err != nil {
		return "", used, err
	}
	defer resp.Body.Close()
	id = resp.Header.Get("X-Request-Id")
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return id, used, fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	if stream {
		used, err = readStream(resp.Body)
		return id, used, err
	}
	var answer struct{ Usage usage }
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return id, answer.Usage, err
}

func (f *traffic) post(ctx context.Context, c *client.Client, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Base+"/v1/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+f.key)
	req.Header.Set("Content-Type", "application/json")
	return http.DefaultClient.Do(req)
}

// readStream reads server-sent events to the end mark.
func readStream(r io.Reader) (used usage, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if data == "[DONE]" {
			return used, nil
		}
		var chunk struct{ Usage *usage }
		if ok && json.Unmarshal([]byte(data), &chunk) == nil && chunk.Usage != nil {
			used = *chunk.Usage
		}
	}
	return used, fmt.Errorf("the stream broke off: %w", lines.Err())
}
