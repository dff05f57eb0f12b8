"""A load generator in a process of its own: keep-alive connections, one request at a time on each, no pauses.

    python -m benchmarks.load --port 8321 --path /decide/home --bodies bodies.json --connections 16 --seconds 5

It reads raw answers with `epoll`, so that the generator costs a tenth of what it measures. Prints one JSON object:
requests a second, p50 and p99 in milliseconds, and how many answers were not 200.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any


class _Connection:
    """One connection: what has come of the answer, how long it will be, when the request left."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received, self.length, self.sent = bytearray(), 0, 0.0

    def send(self, request: bytes) -> None:
        self.received.clear()
        self.length, self.sent = 0, time.perf_counter()
        self.socket.sendall(request)

    def take(self) -> bool:
        """Receives what is there; True when the answer is whole."""
        self.received += self.socket.recv(1 << 18)
        if not self.length:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = bytes(self.received[:end]).lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            self.length = end + 4 + int(length)
        return len(self.received) >= self.length


def post(path: str, body: object) -> bytes:
    """A request as bytes."""
    data = json.dumps(body).encode()
    head = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + data


def load(port: int, requests: list[bytes], connections: int, seconds: float, most: int = 0) -> dict[str, Any]:
    """Sends the requests in turn, over and over, for so many seconds, or at most so many of them (0: no limit)."""
    poll = select.epoll()
    by_file: dict[int, _Connection] = {}
    latencies: list[float] = []
    turn = failed = 0
    for _ in range(connections):
        one = _Connection(port)
        by_file[one.socket.fileno()] = one
        poll.register(one.socket.fileno(), select.EPOLLIN)
    begin = time.perf_counter()
    for one in by_file.values():
        one.send(requests[turn % len(requests)])
        turn += 1
    while time.perf_counter() - begin < seconds and (not most or len(latencies) < most):
        for file, _event in poll.poll(1.0):
            one = by_file[file]
            if not one.take():
                continue
            latencies.append(time.perf_counter() - one.sent)
            failed += one.received[9:12] != b"200"
            one.send(requests[turn % len(requests)])
            turn += 1
    elapsed = time.perf_counter() - begin
    latencies.sort()

    def at(share: float) -> float:
        return 1000 * latencies[min(int(share * len(latencies)), len(latencies) - 1)] if latencies else float("nan")

    return {
        "requests": len(latencies), "requests_per_s": len(latencies) / elapsed, "p50_ms": at(0.5), "p99_ms": at(0.99),
        "failed": failed,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--bodies", type=Path, required=True, help="JSON file: a list of bodies, sent in turn")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--requests", type=int, default=0, help="stop after so many")
    asked = parser.parse_args()
    made = [post(asked.path, body) for body in json.loads(asked.bodies.read_text())]
    json.dump(load(asked.port, made, asked.connections, asked.seconds, asked.requests), sys.stdout)
