package main

import (
	"context"
	"fmt"

	"github.com/hybridgroup/yzma/pkg/llama"

	"github.com/penstock/penstock"
)

// task is one request on its way through the loop.
type task struct {
	ctx      context.Context
	prompt   []llama.Token
	max      int // tokens to generate at most
	sampling options
	scribe   scribe
	steps    chan step

	sampler llama.Sampler
	read    int         // prompt tokens that were decoded
	made    int         // tokens generated
	last    llama.Token // the newest of them, not decoded yet
	output  int32       // where in the batch its logits are; -1 is nowhere
}

// loop decodes until Close.
func (e *engine) loop() {
	defer close(e.done)
	defer e.free()
	for e.admit() {
		e.fill()
		if e.batch.NTokens == 0 {
			continue
		}
		if code, err := llama.Decode(e.lctx, e.batch); err != nil || code != 0 {
			e.failAll(&penstock.Error{
				Code: penstock.Internal, Msg: fmt.Sprintf("llama.cpp couldn't decode a batch of %d tokens (code %d)", e.batch.NTokens, code), Err: err,
			})
			continue
		}
		for seq, t := range e.slots {
			if t != nil && t.output >= 0 {
				e.advance(seq, t)
			}
		}
	}
}

// admit frees the slots of requests that were given up and fills free ones from
// the queue. With nothing to do it waits. It reports false when the engine closes.
func (e *engine) admit() bool {
	busy := false
	for seq, t := range e.slots {
		if t != nil && t.ctx.Err() != nil {
			e.release(seq)
		}
		busy = busy || e.slots[seq] != nil
	}
	select {
	case <-e.quit:
		return false
	default:
	}
	if !busy {
		select {
		case <-e.quit:
			return false
		case t := <-e.queue:
			e.place(t)
		}
	}
	for e.freeSlot() >= 0 {
		select {
		case t := <-e.queue:
			e.place(t)
		default:
			return true
		}
	}
	return true
}

func (e *engine) freeSlot() int {
	for seq, t := range e.slots {
		if t == nil {
			return seq
		}
	}
	return -1
}

func (e *engine) place(t *task) {
	if t.ctx.Err() != nil {
		return
	}
	t.sampler = newSampler(t.sampling)
	e.slots[e.freeSlot()] = t
}

// newSampler is the chain nucleus, temperature, draw; or the likeliest token.
func newSampler(o options) llama.Sampler {
	chain := llama.SamplerChainInit(llama.SamplerChainDefaultParams())
	if o.Temperature == 0 {
		llama.SamplerChainAdd(chain, llama.SamplerInitGreedy())
		return chain
	}
	llama.SamplerChainAdd(chain, llama.SamplerInitTopP(o.TopP, 1))
	llama.SamplerChainAdd(chain, llama.SamplerInitTemp(o.Temperature))
	llama.SamplerChainAdd(chain, llama.SamplerInitDist(o.Seed))
	return chain
}

// fill makes the next batch: first one token of each request that is generating,
// so that a long prompt holds nobody up, then as much of the prompts as fits.
func (e *engine) fill() {
	_ = e.batch.Clear()
	for seq, t := range e.slots {
		if t == nil {
			continue
		}
		t.output = -1
		if t.read == len(t.prompt) {
			t.output = e.put(t.last, t.read+t.made-1, seq, true)
		}
	}
	for seq, t := range e.slots {
		for t != nil && t.read < len(t.prompt) && int(e.batch.NTokens) < e.width {
			last := t.read == len(t.prompt)-1
			at := e.put(t.prompt[t.read], t.read, seq, last)
			t.read++
			if last {
				t.output = at
			}
		}
	}
}

func (e *engine) put(token llama.Token, position, seq int, logits bool) int32 {
	at := e.batch.NTokens
	if err := e.batch.Add(token, llama.Pos(position), []llama.SeqId{llama.SeqId(seq)}, logits); err != nil {
		return -1
	}
	return at
}

// advance samples a request's next token and tells it to the reader. The token
// that ends the generation counts neither as a step nor as used.
func (e *engine) advance(seq int, t *task) {
	token := llama.SamplerSample(t.sampler, e.lctx, t.output)
	if llama.VocabIsEOG(e.vocab, token) {
		e.finish(seq, step{Text: t.scribe.rest(), Finish: "stop"})
		return
	}
	t.last = token
	t.made++
	text, stopped := t.scribe.add(e.piece(token))
	t.steps <- step{Text: text}
	switch {
	case stopped:
		e.finish(seq, step{Finish: "stop"})
	case t.made == t.max:
		e.finish(seq, step{Text: t.scribe.rest(), Finish: "length"})
	}
}

// piece is the bytes of a token.
func (e *engine) piece(token llama.Token) []byte {
	buf := make([]byte, 64)
	n := int(llama.TokenToPiece(e.vocab, token, buf, 0, false))
	if n < 0 {
		buf = make([]byte, -n)
		n = int(llama.TokenToPiece(e.vocab, token, buf, 0, false))
	}
	return buf[:max(0, n)]
}

func (e *engine) finish(seq int, last step) {
	e.slots[seq].steps <- last
	e.release(seq)
}

func (e *engine) release(seq int) {
	llama.SamplerFree(e.slots[seq].sampler)
	_, _ = llama.MemorySeqRm(e.memory, llama.SeqId(seq), -1, -1)
	e.slots[seq] = nil
}

func (e *engine) failAll(err error) {
	for seq, t := range e.slots {
		if t != nil {
			e.finish(seq, step{Err: err})
		}
	}
}

// free runs at the end of the loop, when nothing uses the native objects any more.
func (e *engine) free() {
	e.life.Lock()
	defer e.life.Unlock()
	e.closed = true
	e.failAll(shuttingDown())
	for range len(e.queue) {
		t := <-e.queue
		t.steps <- step{Err: shuttingDown()}
	}
	_ = llama.BatchFree(e.batch)
	_ = llama.Free(e.lctx)
	_ = llama.ModelFree(e.model)
}
