"""Writes a model as GGUF version 3, which llama.cpp loads.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. A magic, counts,
typed keys, the tensors' names and shapes, then their numbers, each aligned.
"""

import struct
from pathlib import Path

from torch import Tensor

from model import BEGIN, END, FIRST_BYTE, UNKNOWN, Config

ALIGNMENT = 32
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
TOKEN_NORMAL, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_BYTE = 1, 2, 3, 6
FLOAT32_TENSOR = 0

TENSORS = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""What llama.cpp calls the tensors; those of layer n have blk.n. before it."""


def string(text: str) -> bytes:
    """A length and UTF-8 bytes."""
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def number(kind: int, value: object) -> bytes:
    """A value of a scalar type or a string, without its type."""
    if kind == STRING:
        return string(value)
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}[kind], value)


def pair(key: str, kind: int, value: object) -> bytes:
    """A key with one value."""
    return string(key) + struct.pack("<I", kind) + number(kind, value)


def array(key: str, kind: int, values: list) -> bytes:
    """A key with an array."""
    head = string(key) + struct.pack("<IIQ", ARRAY, kind, len(values))
    return head + b"".join(number(kind, value) for value in values)


def architecture(config: Config, name: str) -> list[bytes]:
    """The keys that tell what the tensors make up."""
    return [
        pair("general.architecture", STRING, "llama"),
        pair("general.name", STRING, name),
        pair("general.file_type", UINT32, FLOAT32_TENSOR),
        pair("general.alignment", UINT32, ALIGNMENT),
        pair("llama.vocab_size", UINT32, config.vocabulary),
        pair("llama.context_length", UINT32, config.context),
        pair("llama.embedding_length", UINT32, config.width),
        pair("llama.block_count", UINT32, config.layers),
        pair("llama.feed_forward_length", UINT32, config.hidden),
        pair("llama.attention.head_count", UINT32, config.heads),
        pair("llama.attention.head_count_kv", UINT32, config.heads),
        pair("llama.attention.layer_norm_rms_epsilon", FLOAT32, config.epsilon),
        pair("llama.rope.dimension_count", UINT32, config.head),
        pair("llama.rope.freq_base", FLOAT32, config.rope_base),
    ]


def vocabulary() -> list[bytes]:
    """The keys of the tokeniser: three control tokens, then one for each byte."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_CONTROL] + [TOKEN_BYTE] * 256
    # llama.cpp turns each space of a text into U+2581 first, as SentencePiece does.
    # As a byte token the space would never be found, and U+2581 fall apart into three.
    space = FIRST_BYTE + ord(" ")
    tokens[space], kinds[space] = "\u2581", TOKEN_NORMAL
    return [
        pair("tokenizer.ggml.model", STRING, "llama"),
        array("tokenizer.ggml.tokens", STRING, tokens),
        array("tokenizer.ggml.scores", FLOAT32, [0.0] * len(tokens)),
        array("tokenizer.ggml.token_type", INT32, kinds),
        pair("tokenizer.ggml.unknown_token_id", UINT32, UNKNOWN),
        pair("tokenizer.ggml.bos_token_id", UINT32, BEGIN),
        pair("tokenizer.ggml.eos_token_id", UINT32, END),
        pair("tokenizer.ggml.add_bos_token", BOOL, True),
        pair("tokenizer.ggml.add_eos_token", BOOL, False),
        # Else llama.cpp puts a space before the prompt, which training never saw.
        pair("tokenizer.ggml.add_space_prefix", BOOL, False),
        pair("tokenizer.chat_template", STRING, "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"),
    ]


def tensor_name(name: str) -> str:
    """llama.cpp's name of the tensor that the state_dict calls name."""
    stem, _, suffix = name.rpartition(".")
    prefix = ""
    if stem.startswith("model.layers."):
        _, _, layer, stem = stem.split(".", 3)
        prefix = f"blk.{layer}."
    return f"{prefix}{TENSORS[stem]}.{suffix}"


def interleave(weight: Tensor, heads: int) -> Tensor:
    """Reorder a projection's rows: llama.cpp turns the pairs (2i, 2i + 1), model.rotate (i, i + head/2)."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).transpose(1, 2).reshape(rows, width)


def save(path: Path, name: str, config: Config, state: dict[str, Tensor]) -> None:
    """Write the model with the float32 tensors of Llama.state_dict."""
    keys = architecture(config, name) + vocabulary()
    infos, blobs, offset = [], [], 0
    for key, tensor in state.items():
        if key.endswith(("q_proj.weight", "k_proj.weight")):
            tensor = interleave(tensor, config.heads)
        raw = tensor.detach().contiguous().numpy().tobytes()
        raw += b"\0" * (-len(raw) % ALIGNMENT)
        # Dimensions are written innermost first.
        shape = struct.pack(f"<I{tensor.dim()}Q", tensor.dim(), *reversed(tensor.shape))
        infos.append(string(tensor_name(key)) + shape + struct.pack("<IQ", FLOAT32_TENSOR, offset))
        blobs.append(raw)
        offset += len(raw)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(keys)) + b"".join(keys + infos)
    path.write_bytes(head + b"\0" * (-len(head) % ALIGNMENT) + b"".join(blobs))
