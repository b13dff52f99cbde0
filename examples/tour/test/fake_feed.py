"""Stands in for Penstock's feed in tests: the same HTTP over a Unix socket, from tokens in memory."""

import json
import random
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Callable
from urllib.parse import parse_qs, urlsplit

from feed import crc32c


class Handler(BaseHTTPRequestHandler):
    """Answers GET /info and GET /batch?step=N."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/info":
            body = json.dumps(self.server.info).encode()
        else:
            step = int(parse_qs(url.query)["step"][0])
            self.server.on_step(step)
            body = self.server.batch(step)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Penstock-CRC32C", self.server.checksum(body))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class FakeFeed(ThreadingMixIn, UnixStreamServer):
    """The feed of one rank, until closed. on_step is called with each step that is asked for."""

    daemon_threads = True

    def __init__(self, path: Path, tokens: list[int], rank: int, world: int, window: int, batch: int,
                 on_step: Callable[[int], None] = lambda step: None) -> None:
        super().__init__(str(path), Handler)
        samples = len(tokens) // window
        self.tokens, self.on_step = tokens, on_step
        self.info = {
            "samples": samples, "window": window, "batch": batch, "world": world, "rank": rank,
            "steps_per_epoch": samples // batch, "seed": 7, "digest": "sha256:" + "0" * 64,
        }
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """A killed client is what some tests are about; anything else is told."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def batch(self, step: int) -> bytes:
        """This rank's share of the step: every epoch is a new shuffle of all samples."""
        info = self.info
        epoch, at = divmod(step, info["steps_per_epoch"])
        order = list(range(info["samples"]))
        random.Random(info["seed"] * 1000 + epoch).shuffle(order)
        mine = order[at * info["batch"] : (at + 1) * info["batch"]][info["rank"] :: info["world"]]
        window = info["window"]
        values = [token for sample in mine for token in self.tokens[sample * window : (sample + 1) * window]]
        return struct.pack(f"<{len(values)}H", *values)

    def checksum(self, body: bytes) -> str:
        """The header's value: eight hexadecimal digits."""
        return f"{crc32c(body):08x}"

    def close(self) -> None:
        """Stop serving."""
        self.shutdown()
        self.server_close()
