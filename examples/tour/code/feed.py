"""Takes samples from Penstock's feed: HTTP over the Unix socket that PENSTOCK_FEED names."""

import json
import socket
from http.client import HTTPConnection

import torch
from torch import Tensor


def remainder(byte: int) -> int:
    """What one byte leaves behind in the checksum: division by the reflected Castagnoli polynomial."""
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


TABLE = [remainder(byte) for byte in range(256)]


def crc32c(data: bytes) -> int:
    """The Castagnoli CRC (RFC 3720, appendix B.4), which zlib doesn't have."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


class Feed(HTTPConnection):
    """A connection to the feed. What a step's batch holds depends on the step alone, so
    whoever starts again at step n goes on with exactly the samples that come next."""

    def __init__(self, path: str) -> None:
        super().__init__("feed", timeout=60)
        self.path = path
        self.info: dict = json.loads(self.fetch("/info"))
        """Has samples, window, batch, world, rank, steps_per_epoch, seed and digest."""

    def connect(self) -> None:
        """Open the socket; http.client calls this."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def fetch(self, target: str) -> bytes:
        """The body of one answer, checked against its checksum where it has one."""
        self.request("GET", target)
        answer = self.getresponse()
        body, checksum = answer.read(), answer.headers.get("X-Penstock-CRC32C")
        if answer.status != 200:
            raise OSError(f"feed: GET {target}: {answer.status} {body[:200].decode(errors='replace')}")
        if checksum is not None and int(checksum, 16) != crc32c(body):
            raise OSError(f"feed: GET {target}: {len(body)} bytes don't match their checksum {checksum}")
        return body

    def batch(self, step: int) -> Tensor:
        """This rank's tokens of a step, counted from 0: int64 [batch / world, window]."""
        body = self.fetch(f"/batch?step={step}")
        tokens = torch.frombuffer(bytearray(body), dtype=torch.int16).long() & 0xFFFF
        return tokens.view(self.info["batch"] // self.info["world"], self.info["window"])
