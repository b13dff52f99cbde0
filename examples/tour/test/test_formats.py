"""What the tour writes can be read by the books: safetensors, GGUF, the feed's answers."""

import json
import math
import struct
import sys
import tempfile
import unittest
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "code"))

import checkpoint
import evaluate
import gguf
import safetensors
from fake_feed import FakeFeed
from feed import Feed, crc32c
from model import Config, Llama, next_token_loss, rotate

SMALL = Config(width=16, layers=2, heads=2, hidden=24, context=32)


class Scratch(unittest.TestCase):
    """Gives each test a folder of its own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        torch.manual_seed(1)


class TestSafetensors(Scratch):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.folder / "x.safetensors"
        self.tensors = {
            "bytes": torch.arange(5, dtype=torch.uint8), "b": torch.randn(3, 4), "a": torch.randn(2),
            "whole": torch.tensor([1, -2], dtype=torch.int64), "scalar": torch.tensor(2.5), "none": torch.empty(0, 3),
        }

    def test_what_is_written_is_read_back(self) -> None:
        safetensors.save(self.path, self.tensors, {"step": "3"})
        tensors, metadata = safetensors.load(self.path)
        self.assertEqual(metadata, {"step": "3"})
        self.assertEqual(set(tensors), set(self.tensors))
        for name, tensor in self.tensors.items():
            self.assertEqual(tensors[name].dtype, tensor.dtype)
            self.assertEqual(tensors[name].shape, tensor.shape)
            self.assertTrue(torch.equal(tensors[name], tensor), name)

    def test_the_layout_is_the_strict_one(self) -> None:
        safetensors.save(self.path, self.tensors, {})
        raw = self.path.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        text = raw[8 : 8 + length]
        self.assertEqual(length % 8, 0)
        self.assertEqual(text[:1], b"{")
        self.assertRegex(text, rb"\} *\Z")
        header = json.loads(text)
        del header["__metadata__"]
        end = 0
        for name, entry in header.items():
            size = self.tensors[name].element_size()
            self.assertEqual(entry["data_offsets"][0], end, name)
            self.assertEqual((8 + length + end) % size, 0, f"{name} isn't aligned")
            end = entry["data_offsets"][1]
        self.assertEqual(8 + length + end, len(raw))

    def test_a_broken_file_is_refused(self) -> None:
        safetensors.save(self.path, self.tensors, {})
        raw = self.path.read_bytes()
        broken = {
            "cut short": raw[:-1], "too long": raw + b"\0",
            "no header": raw[:5], "huge header": b"\xff" * 8 + raw[8:],
            "gap": raw.replace(b'"data_offsets":[0,', b'"data_offsets":[1,'),
            "unknown type": raw.replace(b'"F32"', b'"F64"'),
            "wrong shape": raw.replace(b'"shape":[3,4]', b'"shape":[3,5]'),
        }
        for name, content in broken.items():
            with self.subTest(name):
                self.assertNotEqual(content, raw)
                self.path.write_bytes(content)
                with self.assertRaises(ValueError):
                    safetensors.load(self.path)


class TestCheckpoint(Scratch):
    def test_the_newest_two_whole_steps_stay_and_unfinished_ones_do_not_count(self) -> None:
        model = Llama(SMALL)
        optimizer = torch.optim.AdamW(model.parameters())
        self.assertEqual(checkpoint.newest(self.folder / "absent"), 0)
        (self.folder / "step-9.tmp").mkdir()
        (self.folder / "step-8.tmp").mkdir()
        (self.folder / "step-8.tmp" / "leftover").touch()
        for step in 2, 4, 8, 6:
            checkpoint.save(self.folder, step, model, optimizer)
        self.assertEqual(checkpoint.steps(self.folder), [6, 8])
        self.assertEqual([path.name for path in (self.folder / "step-8").iterdir()], [checkpoint.FILE])
        with self.assertRaisesRegex(ValueError, "holds step 8"):
            (self.folder / "step-8").rename(self.folder / "step-10")
            checkpoint.restore(self.folder, 10, model, optimizer)


class GGUFReader:
    """Parses a GGUF file by its specification, apart from the writer's code."""

    SCALARS = {4: "<I", 5: "<i", 6: "<f", 7: "<?"}

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 4
        self.version, tensors, keys = self.take("<I"), self.take("<Q"), self.take("<Q")
        self.keys = {self.text(): self.value(self.take("<I")) for _ in range(keys)}
        self.infos = {}
        for _ in range(tensors):
            name, dims = self.text(), self.take("<I")
            shape = [self.take("<Q") for _ in range(dims)]
            self.infos[name] = (shape, self.take("<I"), self.take("<Q"))
        self.data = self.at + -self.at % self.keys["general.alignment"]

    def take(self, form: str) -> object:
        """The next number."""
        (value,) = struct.unpack_from(form, self.raw, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self) -> str:
        """The next string."""
        length = self.take("<Q")
        self.at += length
        return self.raw[self.at - length : self.at].decode()

    def value(self, kind: int) -> object:
        """The next value of a type."""
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, count = self.take("<I"), self.take("<Q")
            return [self.value(inner) for _ in range(count)]
        return self.take(self.SCALARS[kind])

    def tensor(self, name: str) -> torch.Tensor:
        """A float32 tensor, outermost dimension first."""
        shape, kind, offset = self.infos[name]
        assert kind == 0, kind
        start = self.data + offset
        flat = torch.frombuffer(bytearray(self.raw[start : start + 4 * math.prod(shape)]), dtype=torch.float32)
        return flat.reshape(shape[::-1])


class TestGGUF(Scratch):
    def setUp(self) -> None:
        super().setUp()
        self.state = Llama(SMALL).state_dict()
        path = self.folder / "model.gguf"
        gguf.save(path, "tiny", SMALL, self.state)
        self.raw = path.read_bytes()
        self.file = GGUFReader(self.raw)

    def test_keys_tell_the_shape_and_the_vocabulary(self) -> None:
        self.assertEqual((self.raw[:4], self.file.version), (b"GGUF", 3))
        keys = self.file.keys
        self.assertEqual(keys["general.architecture"], "llama")
        self.assertEqual(keys["llama.context_length"], 32)
        self.assertEqual(keys["llama.rope.dimension_count"], 8)
        tokens = keys["tokenizer.ggml.tokens"]
        self.assertEqual(len(tokens), 259)
        self.assertEqual(tokens[ord("A") + 3], "<0x41>")
        self.assertEqual(keys["tokenizer.ggml.token_type"][:4], [2, 3, 3, 6])
        self.assertFalse(keys["tokenizer.ggml.add_space_prefix"])

    def test_a_space_is_one_token_for_llama_cpp(self) -> None:
        keys, space = self.file.keys, ord(" ") + 3
        self.assertEqual(keys["tokenizer.ggml.tokens"][space], "\u2581")
        self.assertEqual(keys["tokenizer.ggml.token_type"][space], 1)
        self.assertEqual(keys["tokenizer.ggml.token_type"].count(6), 255)

    def test_every_tensor_is_there_once_aligned_and_within_the_file(self) -> None:
        self.assertEqual(len(self.file.infos), len(self.state))
        end = 0
        for name, (shape, _, offset) in self.file.infos.items():
            self.assertEqual(offset % 32, 0, name)
            self.assertGreaterEqual(offset, end, name)
            end = offset + 4 * math.prod(shape)
        self.assertEqual(self.file.data + end + -end % 32, len(self.raw))
        for theirs, ours in {"token_embd.weight": "model.embed_tokens.weight",
                             "blk.1.ffn_down.weight": "model.layers.1.mlp.down_proj.weight"}.items():
            self.assertTrue(torch.equal(self.file.tensor(theirs), self.state[ours]), theirs)

    def test_query_rows_are_ordered_for_neighbouring_pairs(self) -> None:
        ours = self.state["model.layers.0.self_attn.q_proj.weight"].view(2, 8, 16)
        theirs = self.file.tensor("blk.0.attn_q.weight").view(2, 8, 16)
        for pair in range(4):
            self.assertTrue(torch.equal(theirs[:, 2 * pair], ours[:, pair]))
            self.assertTrue(torch.equal(theirs[:, 2 * pair + 1], ours[:, pair + 4]))


class TestFeed(Scratch):
    def serve(self) -> FakeFeed:
        """A feed of 1,000 tokens for rank 1 of 2."""
        server = FakeFeed(self.folder / "feed", list(range(0, 50000, 50)), rank=1, world=2, window=10, batch=4)
        self.addCleanup(server.close)
        return server

    def connect(self) -> Feed:
        client = Feed(str(self.folder / "feed"))
        self.addCleanup(client.close)
        return client

    def test_crc32c_gives_the_published_values(self) -> None:
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)
        self.assertEqual(crc32c(bytes(32)), 0x8A9136AA)  # RFC 3720, appendix B.4

    def test_a_batch_has_this_ranks_share_of_unsigned_tokens(self) -> None:
        server = self.serve()
        got = self.connect().batch(3)
        self.assertEqual(got.shape, (2, 10))
        raw = struct.unpack("<20H", server.batch(3))
        self.assertEqual(got.flatten().tolist(), list(raw))

    def test_a_damaged_batch_is_refused(self) -> None:
        server = self.serve()
        client = self.connect()
        server.checksum = lambda body: "00000000"
        with self.assertRaisesRegex(OSError, "checksum"):
            client.batch(0)


class TestModel(Scratch):
    def test_the_past_does_not_see_the_future(self) -> None:
        model, tokens = Llama(SMALL), torch.randint(0, 259, (1, 20))
        changed = tokens.clone()
        changed[0, 12:] = 5
        before, after = model(tokens), model(changed)
        self.assertTrue(torch.equal(before[:, :12], after[:, :12]))
        self.assertFalse(torch.equal(before[:, 12:], after[:, 12:]))

    def test_positions_matter_by_their_distance_alone(self) -> None:
        config = Config(width=8, layers=1, heads=1, hidden=8, context=32)
        attention = Llama(config).model.layers[0].self_attn
        q, k = torch.randn(8), torch.randn(8)
        at = lambda x, position: rotate(x, attention.cos[position], attention.sin[position])
        self.assertAlmostEqual((at(q, 9) @ at(k, 4)).item(), (at(q, 25) @ at(k, 20)).item(), places=5)
        self.assertNotAlmostEqual((at(q, 9) @ at(k, 4)).item(), (at(q, 9) @ at(k, 8)).item(), places=5)

    def test_an_untrained_model_guesses_evenly(self) -> None:
        loss = next_token_loss(Llama(Config()), torch.randint(0, 259, (2, 257))).item()
        self.assertAlmostEqual(loss, math.log(259), delta=0.1)


class TestEvaluate(Scratch):
    def test_windows_cover_the_tokens_evenly_and_once(self) -> None:
        windows = evaluate.spread(torch.arange(101), length=10, windows=100)
        self.assertEqual(windows.shape, (10, 11))
        self.assertEqual(windows[:, 1:].flatten().tolist(), list(range(1, 101)))
        self.assertEqual(evaluate.spread(torch.arange(101), 10, 2)[:, 0].tolist(), [0, 50])
        with self.assertRaisesRegex(ValueError, "10 held-out tokens"):
            evaluate.spread(torch.arange(10), 10, 2)

    def test_shards_are_read_in_order_as_unsigned_tokens(self) -> None:
        (self.folder / "shard-1").write_bytes(struct.pack("<2H", 3, 40000))
        (self.folder / "shard-0").write_bytes(struct.pack("<2H", 1, 2))
        self.assertEqual(evaluate.load_tokens(self.folder).tolist(), [1, 2, 3, 40000])

    def test_the_mean_does_not_depend_on_the_batches(self) -> None:
        model, windows = Llama(SMALL).eval(), torch.randint(0, 259, (evaluate.BATCH + 3, 33))
        with torch.no_grad():
            whole = next_token_loss(model, windows).item()
        self.assertAlmostEqual(evaluate.mean_loss(model, windows), whole, places=5)


if __name__ == "__main__":
    unittest.main()
