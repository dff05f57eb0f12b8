from __future__ import annotations

import asyncio
from typing import Any

import pytest

from matinee.exceptions import OverloadedError
from matinee.serve.errors import HttpError
from matinee.serve.limits import Gate, read_body
from matinee.serve.metrics import BUCKETS, Metrics


class Body:
    """A caller who sends these pieces, and counts how many were asked for."""

    def __init__(self, *pieces: bytes, left: bool = False) -> None:
        self.pieces, self.left, self.asked = list(pieces), left, 0

    async def __call__(self) -> dict[str, Any]:
        self.asked += 1
        if not self.pieces and self.left:
            return {"type": "http.disconnect"}
        piece = self.pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces) or self.left}


def read(body: Body, limit: int = 10, length: str = "") -> bytes:
    scope = {"headers": [(b"content-length", length.encode())] if length else []}
    return asyncio.run(read_body(scope, body, limit))


def test_bodies_in_one_piece_and_in_many() -> None:
    assert read(Body(b"0123456789")) == b"0123456789"
    assert read(Body(b"01234", b"", b"56789")) == b"0123456789"
    assert read(Body(b"")) == b""


def test_a_long_body_is_refused_by_its_length_before_it_is_read() -> None:
    body = Body(b"x")
    with pytest.raises(HttpError, match="longer than 10 bytes") as caught:
        read(body, length="104857600")
    assert body.asked == 0
    assert (caught.value.status, caught.value.headers["connection"]) == (413, "close")


def test_a_long_body_without_a_length_is_refused_when_it_gets_too_long() -> None:
    body = Body(*[b"12345"] * 1_000)
    with pytest.raises(HttpError) as caught:
        read(body)
    assert caught.value.status == 413
    assert body.asked == 3
    lying = Body(b"0123456789a")
    with pytest.raises(HttpError):
        read(lying, length="3")


def test_a_caller_who_leaves() -> None:
    with pytest.raises(HttpError, match="ended early") as caught:
        read(Body(b"12", left=True))
    assert caught.value.status == 400


def test_everything_over_the_limit_is_turned_away_at_once() -> None:
    async def crowd(limit: int, n: int) -> tuple[list[str], int]:
        gate = Gate(limit)

        async def request() -> str:
            try:
                async with gate:
                    return "in"  # without ever waiting, as a decision does
            except OverloadedError:
                return "out"

        first = await asyncio.gather(*(request() for _ in range(n)))
        second = await asyncio.gather(*(request() for _ in range(limit)))
        assert second == ["in"] * limit
        return list(first), gate.refused

    answers, refused = asyncio.run(crowd(8, 100))
    assert answers.count("in") == 8
    assert refused == 92


def test_a_cancelled_request_leaves_the_gate() -> None:
    async def run() -> int:
        gate = Gate(2)
        task = asyncio.create_task(gate.__aenter__())
        await asyncio.sleep(0)
        assert gate.inside == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return gate.inside

    assert asyncio.run(run()) == 0


def test_latencies_fall_into_their_buckets() -> None:
    metrics = Metrics()
    for seconds in (0.0001, 0.0005, 0.0006, 3.0, 9.0):
        metrics.observe("decide", 200, seconds)
    lines = metrics.text({}, {}).splitlines()
    counts = {
        line.split('le="')[1].split('"')[0]: int(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith("matinee_request_seconds_bucket")
    }
    assert counts["0.0005"] == 2
    assert counts["0.001"] == 3
    assert counts["2.5"] == 3
    assert counts["5.0"] == 4
    assert counts["+Inf"] == 5
    assert len(counts) == len(BUCKETS) + 1


def test_names_are_escaped() -> None:
    text = Metrics().text({"counts": {'decisions:a"b\\c\nd': 1}}, {})
    assert 'matinee_decisions_total{decision="a\\"b\\\\c\\nd"} 1' in text.splitlines()
