package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// The shape of the test model: a Llama with random weights and one token for
// each byte.
const (
	tinyContext = 2048
	tinyWidth   = 32
	tinyHeads   = 2
	tinyHidden  = 64
	tinyLayers  = 2
	tinyTokens  = 259
)

// gguf writes the format "GGUF", version 3, as described in
// docs/gguf.md of the ggml repository.
type gguf struct {
	pairs, infos, data bytes.Buffer
	npairs, ntensors   uint64
	random             *rand.Rand
}

func (g *gguf) text(b *bytes.Buffer, s string) {
	_ = binary.Write(b, binary.LittleEndian, uint64(len(s)))
	b.WriteString(s)
}

// pair adds one key. Types are numbered by the format: 4 uint32, 6 float32,
// 7 bool, 8 string, 9 array.
func (g *gguf) pair(key string, value any) {
	g.npairs++
	g.text(&g.pairs, key)
	put := func(kind uint32, v any) {
		_ = binary.Write(&g.pairs, binary.LittleEndian, kind)
		_ = binary.Write(&g.pairs, binary.LittleEndian, v)
	}
	array := func(element uint32, n int) {
		put(9, element)
		_ = binary.Write(&g.pairs, binary.LittleEndian, uint64(n))
	}
	switch v := value.(type) {
	case uint32:
		put(4, v)
	case float32:
		put(6, v)
	case bool:
		put(7, v)
	case string:
		put(8, uint64(len(v)))
		g.pairs.WriteString(v)
	case []string:
		array(8, len(v))
		for _, s := range v {
			g.text(&g.pairs, s)
		}
	case []float32:
		array(6, len(v))
		_ = binary.Write(&g.pairs, binary.LittleEndian, v)
	case []int32:
		array(5, len(v))
		_ = binary.Write(&g.pairs, binary.LittleEndian, v)
	}
}

// tensor adds float32 weights of the given dimensions, innermost first.
func (g *gguf) tensor(name string, weight func(i int) float32, dims ...uint64) {
	g.ntensors++
	g.text(&g.infos, name)
	n := uint64(1)
	_ = binary.Write(&g.infos, binary.LittleEndian, uint32(len(dims)))
	for _, d := range dims {
		_ = binary.Write(&g.infos, binary.LittleEndian, d)
		n *= d
	}
	_ = binary.Write(&g.infos, binary.LittleEndian, uint32(0)) // float32
	_ = binary.Write(&g.infos, binary.LittleEndian, uint64(g.data.Len()))
	weights := make([]float32, n)
	for i := range weights {
		weights[i] = weight(i)
	}
	_ = binary.Write(&g.data, binary.LittleEndian, weights)
	pad(&g.data)
}

func pad(b *bytes.Buffer) { b.Write(make([]byte, (32-b.Len()%32)%32)) }

func (g *gguf) describe() {
	tokens, scores, kinds := []string{"<unk>", "<s>", "</s>"}, make([]float32, tinyTokens), []int32{2, 3, 3}
	for b := range 256 {
		tokens, kinds = append(tokens, fmt.Sprintf("<0x%02X>", b)), append(kinds, 6)
	}
	g.pair("general.architecture", "llama")
	g.pair("general.alignment", uint32(32))
	g.pair("llama.context_length", uint32(tinyContext))
	g.pair("llama.embedding_length", uint32(tinyWidth))
	g.pair("llama.block_count", uint32(tinyLayers))
	g.pair("llama.feed_forward_length", uint32(tinyHidden))
	g.pair("llama.rope.dimension_count", uint32(tinyWidth/tinyHeads))
	g.pair("llama.attention.head_count", uint32(tinyHeads))
	g.pair("llama.attention.layer_norm_rms_epsilon", float32(1e-5))
	g.pair("llama.vocab_size", uint32(tinyTokens))
	g.pair("tokenizer.ggml.model", "llama")
	g.pair("tokenizer.ggml.tokens", tokens)
	g.pair("tokenizer.ggml.scores", scores)
	g.pair("tokenizer.ggml.token_type", kinds)
	g.pair("tokenizer.ggml.bos_token_id", uint32(1))
	g.pair("tokenizer.ggml.eos_token_id", uint32(2))
	g.pair("tokenizer.ggml.add_bos_token", true)
	g.pair("tokenizer.ggml.add_space_prefix", false)
	g.pair("tokenizer.chat_template", "{% for m in messages %}{{ m['content'] }}\n{% endfor %}")
}

// tinyModel writes the test model and gives its path. The rows of the output
// for the three special tokens are 0: the likeliest token is always a byte, so
// that a greedy generation ends at its limit only.
func tinyModel(t testing.TB) string {
	t.Helper()
	g := gguf{random: rand.New(rand.NewPCG(1, 2))}
	g.describe()
	random := func(int) float32 { return float32(g.random.NormFloat64()) * 0.3 }
	ones := func(int) float32 { return 1 }
	g.tensor("token_embd.weight", random, tinyWidth, tinyTokens)
	g.tensor("output_norm.weight", ones, tinyWidth)
	g.tensor("output.weight", func(i int) float32 {
		if i < 3*tinyWidth {
			return 0
		}
		return random(i)
	}, tinyWidth, tinyTokens)
	for layer := range tinyLayers {
		at := fmt.Sprintf("blk.%d.", layer)
		g.tensor(at+"attn_norm.weight", ones, tinyWidth)
		g.tensor(at+"ffn_norm.weight", ones, tinyWidth)
		for _, name := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
			g.tensor(at+name+".weight", random, tinyWidth, tinyWidth)
		}
		g.tensor(at+"ffn_gate.weight", random, tinyWidth, tinyHidden)
		g.tensor(at+"ffn_up.weight", random, tinyWidth, tinyHidden)
		g.tensor(at+"ffn_down.weight", random, tinyHidden, tinyWidth)
	}
	var file bytes.Buffer
	file.WriteString("GGUF")
	_ = binary.Write(&file, binary.LittleEndian, uint32(3))
	_ = binary.Write(&file, binary.LittleEndian, []uint64{g.ntensors, g.npairs})
	file.Write(g.pairs.Bytes())
	file.Write(g.infos.Bytes())
	pad(&file)
	file.Write(g.data.Bytes())
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
