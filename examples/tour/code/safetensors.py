"""Reads and writes safetensors files: numbers only, so that loading one can run no code.

Format: https://huggingface.co/docs/safetensors. Eight bytes with the header's
length, a JSON header padded with spaces, then the tensors one after the other.
"""

import json
import struct
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {"F32": torch.float32, "I64": torch.int64, "U8": torch.uint8}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_HEADER = 100_000_000


def save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors, widest type first so that each is aligned, without gaps."""
    order = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for name, tensor in order:
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in order:
            file.write(tensor.detach().contiguous().numpy().tobytes())


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata. A file that isn't exactly in the format is a ValueError."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or length > min(MAX_HEADER, len(raw) - 8):
        raise ValueError(f"{path}: a header of {length} bytes can't be in a file of {len(raw)}")
    header = json.loads(raw[8 : 8 + length])
    metadata, body = header.pop("__metadata__", {}), memoryview(raw)[8 + length :]
    tensors, expected = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = entry["data_offsets"]
        dtype, shape = DTYPES.get(entry["dtype"]), entry["shape"]
        if dtype is None:
            raise ValueError(f"{path}: {name} has type {entry['dtype']}; this reader knows {', '.join(DTYPES)}")
        size = torch.empty(0, dtype=dtype).element_size() * torch.Size(shape).numel()
        if start != expected or end - start != size or end > len(body):
            raise ValueError(f"{path}: {name} is at bytes {start} to {end}; expected {size} bytes from {expected}")
        flat = torch.frombuffer(bytearray(body[start:end]), dtype=dtype) if size else torch.empty(0, dtype=dtype)
        tensors[name], expected = flat.reshape(shape), end
    if expected != len(body):
        raise ValueError(f"{path}: {len(body) - expected} bytes after the last tensor")
    return tensors, metadata
