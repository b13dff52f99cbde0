"""A small Llama over bytes: the architecture of Touvron et al. 2023 at a size that two CPU cores can train.

Modules are named as Hugging Face's LlamaForCausalLM names them, so the tensors of
a state_dict carry the names that other programs expect.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

UNKNOWN, BEGIN, END = 0, 1, 2
"""Tokens that are no byte. A byte b is token b + 3."""
FIRST_BYTE = 3


@dataclass(frozen=True)
class Config:
    """The model's shape. Lengths are in tokens, widths in numbers of float32."""

    vocabulary: int = FIRST_BYTE + 256
    width: int = 128
    layers: int = 3
    heads: int = 4
    hidden: int = 352
    context: int = 256
    epsilon: float = 1e-5
    rope_base: float = 10000.0

    @property
    def head(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    def to_json(self) -> dict[str, object]:
        """The config.json of a model folder: Hugging Face's keys for a Llama."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "float32",
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "intermediate_size": self.hidden,
            "max_position_embeddings": self.context,
            "rms_norm_eps": self.epsilon,
            "rope_theta": self.rope_base,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "bos_token_id": BEGIN,
            "eos_token_id": END,
        }

    @classmethod
    def from_json(cls, keys: dict[str, object]) -> "Config":
        """Read what to_json wrote; a missing key is a KeyError that names it."""
        return cls(
            vocabulary=keys["vocab_size"],
            width=keys["hidden_size"],
            layers=keys["num_hidden_layers"],
            heads=keys["num_attention_heads"],
            hidden=keys["intermediate_size"],
            context=keys["max_position_embeddings"],
            epsilon=keys["rms_norm_eps"],
            rope_base=keys["rope_theta"],
        )


class RMSNorm(nn.Module):
    """Divide by the root mean square, then scale (Zhang and Sennrich 2019)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * self.weight


def rope_angles(config: Config) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary position embedding, each [context, head/2] (Su et al. 2021)."""
    frequencies = config.rope_base ** (-torch.arange(0, config.head, 2).float() / config.head)
    angles = torch.outer(torch.arange(config.context).float(), frequencies)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (i, i + head/2) of x [..., time, head] by its position's angle."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads, self.head = config.heads, config.head
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(config.width, config.width, bias=False))
        cos, sin = rope_angles(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        future = torch.full((config.context, config.context), -math.inf).triu(1)
        self.register_buffer("future", future, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        cos, sin = self.cos[:time], self.sin[:time]
        q, k, v = (
            proj(x).view(batch, time, self.heads, self.head).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = rotate(q, cos, sin) @ rotate(k, cos, sin).transpose(-1, -2) / math.sqrt(self.head)
        mixed = (scores + self.future[:time, :time]).softmax(-1) @ v
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, time, width))


class MLP(nn.Module):
    """The gated feed-forward layer SwiGLU (Shazeer 2020)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.up_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.down_proj = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One layer: attention and feed-forward, each after a norm and around a shortcut."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.width, config.epsilon)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.width, config.epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """Everything below the output layer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width, config.epsilon)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class Llama(nn.Module):
    """Predicts the next token at each position."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config.width, config.vocabulary, bias=False)
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [batch, time, vocabulary] for int64 tokens [batch, time]; time is at most the context."""
        return self.lm_head(self.model(tokens))


def next_token_loss(model: nn.Module, window: Tensor) -> Tensor:
    """Mean negative log likelihood, in nats a token, of window[:, 1:] given what stands before each."""
    logits = model(window[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
