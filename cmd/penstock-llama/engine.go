package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hybridgroup/yzma/pkg/llama"

	"github.com/penstock/penstock"
)

// engine generates text with llama.cpp. One goroutine owns the native context
// and decodes for all requests together, one batch after the other; requests
// wait for one of its slots in a bounded queue.
type engine struct {
	model   llama.Model
	vocab   llama.Vocab
	lctx    llama.Context
	memory  llama.Memory
	batch   llama.Batch
	context int // tokens of one request, prompt and completion together
	width   int // tokens of one batch
	format  string

	queue chan *task
	slots []*task // by sequence; nil is free
	quit  chan struct{}
	once  sync.Once
	done  chan struct{}

	// life keeps the native objects from being freed under Generate.
	life   sync.RWMutex
	closed bool
}

// config is what an engine is made from.
type config struct {
	Libraries string // folder with libllama.so and its companions
	Model     string // GGUF file
	Context   int    // tokens of one request; 0 is what the model was trained with
	Slots     int    // requests decoded together
	Queue     int    // requests that wait for a slot
	Threads   int
}

// batchWidth bounds the tokens of one decoding step, so that a long prompt
// doesn't hold up the other requests' next tokens for long.
const batchWidth = 512

// open loads the libraries and the model, and starts the decoding loop. Close
// ends both. llama.cpp can be loaded once in a process.
func open(c config) (*engine, error) {
	if err := load(c.Libraries); err != nil {
		return nil, err
	}
	params := llama.ModelDefaultParams()
	params.NGpuLayers = 0
	params.CheckTensors = 1 // a wrong byte shall be an error here, not nonsense later
	model, err := llama.ModelLoadFromFile(c.Model, params)
	if err != nil {
		return nil, &penstock.Error{
			Code: penstock.Invalid, Msg: "llama.cpp can't load the model", Where: c.Model, Err: err,
			Hint: "it must be a GGUF file of an architecture that llama.cpp v0.4.0 knows",
		}
	}
	e := &engine{
		model: model, vocab: llama.ModelGetVocab(model), format: llama.ModelChatTemplate(model, ""),
		queue: make(chan *task, c.Queue), slots: make([]*task, c.Slots),
		quit: make(chan struct{}), done: make(chan struct{}),
	}
	if err := e.makeContext(c); err != nil {
		llama.ModelFree(model)
		return nil, err
	}
	go e.loop()
	return e, nil
}

func load(libraries string) error {
	if err := llama.Load(libraries); err != nil {
		return &penstock.Error{
			Code: penstock.Unavailable, Msg: "can't load the llama.cpp libraries", Where: libraries, Err: err,
			Hint: "run hack/llama/install.sh, and give the folder with --lib or PENSTOCK_LLAMA_LIB",
		}
	}
	llama.LogSet(llama.LogSilent())
	llama.Init()
	return nil
}

func (e *engine) makeContext(c config) error {
	trained := int(llama.ModelNCtxTrain(e.model))
	e.context = c.Context
	if e.context == 0 {
		e.context = trained
	}
	if e.context > trained {
		return &penstock.Error{
			Code: penstock.Invalid, Msg: fmt.Sprintf("a context of %d tokens was asked for; the model was trained with %d", e.context, trained),
			Where: c.Model, Hint: fmt.Sprintf("give a context of %d at most", trained),
		}
	}
	e.width = max(batchWidth, c.Slots)
	p := llama.ContextDefaultParams()
	p.NCtx = uint32(e.context * c.Slots)
	p.NSeqMax = uint32(c.Slots)
	p.NBatch, p.NUbatch = uint32(e.width), uint32(e.width)
	p.NThreads, p.NThreadsBatch = int32(c.Threads), int32(c.Threads)
	p.KVUnified = 0 // each slot has its own part: no request can starve another
	var err error
	if e.lctx, err = llama.InitFromModel(e.model, p); err != nil {
		return &penstock.Error{
			Code: penstock.Unavailable, Where: c.Model, Err: err,
			Msg:  fmt.Sprintf("no memory for %d slots of %d tokens", c.Slots, e.context),
			Hint: "give fewer slots or a smaller context",
		}
	}
	e.memory, err = llama.GetMemory(e.lctx)
	if err != nil {
		llama.Free(e.lctx)
		return fmt.Errorf("get memory of the context: %w", err)
	}
	e.batch = llama.BatchInit(int32(e.width), 0, 1)
	return nil
}

// Close fails the requests that still run, and frees everything.
func (e *engine) Close() {
	e.once.Do(func() { close(e.quit) })
	<-e.done
}

// Chat writes messages as the one text that the model continues: with the
// model's own template where llama.cpp knows it, else line by line.
func (e *engine) Chat(messages []message) string {
	if e.format != "" {
		chat, size := make([]llama.ChatMessage, len(messages)), len(e.format)
		for i, m := range messages {
			chat[i] = llama.NewChatMessage(m.Role, m.Content)
			size += 2 * (len(m.Role) + len(m.Content) + 32)
		}
		buf := make([]byte, size)
		n := int(llama.ChatApplyTemplate(e.format, chat, true, buf))
		if n > len(buf) {
			buf = make([]byte, n)
			n = int(llama.ChatApplyTemplate(e.format, chat, true, buf))
		}
		if n > 0 && n <= len(buf) {
			return string(buf[:n])
		}
	}
	var b strings.Builder
	for _, m := range messages {
		b.WriteString(m.Content + "\n")
	}
	return b.String()
}

// Generate queues a request. The answer's steps come until ctx ends or the last
// one has a Finish or an Err.
func (e *engine) Generate(ctx context.Context, text string, o options) (answer, error) {
	e.life.RLock()
	defer e.life.RUnlock()
	if e.closed {
		return answer{}, shuttingDown()
	}
	if strings.ContainsRune(text, 0) {
		return answer{}, &penstock.Error{Code: penstock.Invalid, Msg: "the prompt holds a NUL character", Hint: "leave it out"}
	}
	prompt := llama.Tokenize(e.vocab, text, llama.VocabGetAddBOS(e.vocab), true)
	room := e.context - len(prompt)
	if len(prompt) == 0 {
		return answer{}, &penstock.Error{Code: penstock.Invalid, Msg: "the prompt is empty", Hint: "send at least one token"}
	}
	if room < 1 {
		return answer{}, &penstock.Error{
			Code: penstock.OverLimit, Msg: fmt.Sprintf("the prompt has %d tokens; prompt and answer together can have %d", len(prompt), e.context),
			Hint: "send a shorter prompt",
		}
	}
	if o.Max == 0 || o.Max > room {
		o.Max = room
	}
	t := &task{
		ctx: ctx, prompt: prompt, max: o.Max, sampling: o, scribe: scribe{stops: o.Stop},
		// Room for every step: the loop never waits for a slow reader.
		steps: make(chan step, o.Max+1),
	}
	select {
	case e.queue <- t:
		return answer{PromptTokens: len(prompt), Steps: t.steps}, nil
	default:
		return answer{}, &penstock.Error{
			Code: penstock.Unavailable, Msg: fmt.Sprintf("%d requests wait already", cap(e.queue)), Hint: "try again in a moment",
		}
	}
}

func shuttingDown() error {
	return &penstock.Error{Code: penstock.Unavailable, Msg: "the server is shutting down", Hint: "try again"}
}

// findLibraries is the folder to load llama.cpp from: what was asked for, else
// where hack/llama/install.sh puts it, seen from the program or from here.
func findLibraries(asked string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	var tried []string
	if exe, err := os.Executable(); err == nil {
		tried = append(tried, filepath.Dir(exe), filepath.Dir(filepath.Dir(exe)))
	}
	if cwd, err := os.Getwd(); err == nil {
		tried = append(tried, cwd)
	}
	for i, base := range tried {
		tried[i] = filepath.Join(base, ".build", "llama", "lib")
		if _, err := os.Stat(filepath.Join(tried[i], "libllama.so")); err == nil {
			return tried[i], nil
		}
	}
	return "", &penstock.Error{
		Code: penstock.NotFound, Msg: "libllama.so is in none of " + strings.Join(tried, ", "),
		Hint: "run hack/llama/install.sh, or give the folder with --lib or PENSTOCK_LLAMA_LIB",
	}
}
