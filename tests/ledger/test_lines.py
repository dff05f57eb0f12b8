"""What may be logged, and that it comes back as it was."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee.choices import Advice, Choice, Outcome
from matinee.exceptions import MatineeError
from matinee.ledger.lines import BadLine, decode, encode, payloads, to_line

from .records import NOW, choice, outcome


def test_a_line_is_a_checksum_a_space_json_and_a_newline() -> None:
    assert to_line(b"123456789") == b"cbf43926 123456789\n"  # the check value of CRC-32 (ISO-HDLC)


@pytest.mark.parametrize(
    "record",
    [
        choice(),
        choice(unit="tt1", candidates=["1h", 7, "7"], context={"device": None, "note": "null and void"}),
        choice(context={"deep": {"list": [1, 2.5, "x", None, {"k": True}]}, "big": 2**53 + 1}),
        choice(fallback="every candidate is kept out", items_at=NOW, cluster="null", chosen_by="ada", arm="null"),
        choice(advice=[Advice(option=1, value=0.1, drivers={"a": -1e-300}), Advice(option="x", blocked_by="consent")]),
        choice(at=datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))),
        choice(propensities=[0.1 + 0.2, 5e-324, 1 / 3]),
        outcome(),
        outcome(row={"a": None, "b": [1, 2], "c": "é\n\x00", "d": True}),
    ],
)
def test_what_is_logged_comes_back_equal(record: Choice | Outcome) -> None:
    assert decode(encode(record)) == record


_text = st.text(st.characters(exclude_categories=["Cs"]))
_numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_values = st.recursive(
    st.none() | st.booleans() | _numbers | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(_text, _values, max_size=5))
def test_any_context_of_plain_values_comes_back_equal(context: dict[str, Any]) -> None:
    back = decode(encode(choice(context=context)))
    assert isinstance(back, Choice)
    assert back.context == context


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (choice(propensities=[0.5, NAN]), r"choice.propensities\[1\] == nan, must be finite"),
        (choice(context={"score": NAN}), "choice.context.score == nan, must be finite"),
        (choice(context={"none": None, "score": -INF}), "choice.context.score == -inf, must be finite"),
        (choice(context={"a": {"b": [1.0, INF]}}), r"choice.context.a.b\[1\] == inf, must be finite"),
        (choice(context={"score": np.float64("nan")}), "choice.context.score == nan, must be finite"),
        (choice(advice=[Advice(option=1, value=NAN)]), r"choice.advice\[0\].value == nan, must be finite"),
        (outcome(row={"seconds": NAN, "device": None}), "outcome.row.seconds == nan, must be finite"),
        (choice(at=datetime(2026, 1, 1)), "choice.at == '2026-01-01T00:00:00' has no time zone"),
        (choice(items_at=datetime(2026, 1, 1)), "choice.items_at == .* has no time zone"),
        (choice(context={"t": [datetime(2026, 1, 1)]}), r"choice.context.t\[0\] == .* has no time zone"),
        (outcome(known=datetime(2026, 1, 1)), "outcome.known == .* has no time zone"),
        (outcome(at=datetime(2026, 1, 1)), "outcome.at == .* has no time zone"),
        (choice(context={1: "x"}), "choice.context has the key 1, must be str, not int"),
        (choice(context={"a": {(1, 2): "x"}}), r"choice.context.a has the key \(1, 2\), must be str"),
        (choice(context={"amount": Decimal("1.10")}), "choice.context.amount == Decimal.* must be a number, text"),
        (choice(context={"of": {1, 2}}), "choice.context.of == {1, 2}, must be a number, text"),
        (choice(context={"when": np.datetime64("2026-01-01", "ns")}), "choice.context.when == .* be a plain value"),
        (choice(context={"x": object()}), "choice.context.x == <object"),
        (choice(context={"name": "\ud800"}), "choice.context.name == .* must be text that UTF-8 can hold"),
        (choice(unit=1.5), "choice .* cannot be logged: Expected `int . str`"),
        (choice(unit=None), "cannot be logged"),
        (choice(policy=None), "cannot be logged: Expected `str`, got `null`"),
        (choice(context=[1]), "cannot be logged: Expected `object`, got `array`"),
        (choice(at="2026-01-01"), "cannot be logged"),
        ({"id": "x"}, "must be a Choice or an Outcome, not dict"),
    ],
)
def test_what_would_not_come_back_is_refused_and_the_place_is_named(record: Any, words: str) -> None:
    with pytest.raises(MatineeError, match=words):
        encode(record)


def test_numpy_values_become_plain_ones() -> None:
    given = choice(
        unit=np.int64(42),
        context={"a": np.float32(0.5), "b": np.bool_(True), "c": np.array([1, 2]), "d": np.str_("x")},
        candidates=list(np.array([7, 8])),
        propensities=np.array([0.25, 0.5]),
    )
    back = decode(encode(given))
    assert isinstance(back, Choice)
    assert (back.unit, back.candidates, back.propensities) == (42, [7, 8], [0.25, 0.5])
    assert back.context == {"a": 0.5, "b": True, "c": [1, 2], "d": "x"}


def test_dates_and_bytes_may_be_in_an_outcome() -> None:
    back = decode(encode(outcome(row={"due": date(2026, 1, 2), "scan": b"\x00\xff", "at2": NOW})))
    assert back.row == {"due": "2026-01-02", "scan": "AP8=", "at2": "2026-11-22T18:00:00Z"}  # type: ignore[union-attr]  # an Outcome goes in


def test_an_outcome_of_another_time_zone_keeps_its_instant() -> None:
    there = timezone(timedelta(hours=9))
    back = decode(encode(outcome(known=NOW.astimezone(there))))
    assert back.known == NOW  # type: ignore[union-attr]  # an Outcome goes in


def test_every_flipped_bit_and_every_cut_is_noticed() -> None:
    first, second = to_line(encode(choice(context={"a": 1}))), to_line(encode(outcome()))
    for bit in range(len(first) * 8):
        broken = bytearray(first + second)
        broken[bit // 8] ^= 1 << bit % 8
        good = [p for _, p in payloads(bytes(broken), Path("x")) if not isinstance(p, BadLine)]
        assert good == [second[9:-1]] or good == []  # empty when the newline itself was hit
    for cut in range(1, len(first)):
        found = list(payloads(first[:cut] + b"\n" + second, Path("x")))
        assert isinstance(found[0][1], BadLine) or cut == len(first) - 1
        assert found[-1][1] == second[9:-1]


def test_bad_lines_say_where_they_are() -> None:
    lines = [to_line(encode(outcome())) for _ in range(3)]
    data = lines[0] + b"garbage\n" + lines[1] + b"\n" + lines[2] + b"tail"
    bad = [p for _, p in payloads(data, Path("x.wal")) if isinstance(p, BadLine)]
    starts = [len(lines[0]), len(lines[0]) + 8 + len(lines[1]), len(data) - 4]
    assert [(b.offset, b.line) for b in bad] == list(zip(starts, [b"garbage", b"", b"tail"], strict=True))
    assert all(data[b.offset : b.offset + len(b.line)] == b.line for b in bad)


def test_a_record_of_a_later_version_is_still_read() -> None:
    payload = encode(choice(id="a")).replace(b'"decision"', b'"novel":1,"decision"')
    assert decode(payload).id == "a"
    with pytest.raises(msgspec.ValidationError):
        decode(b'{"type":"choice","id":"a"}')


def test_times_keep_microseconds() -> None:
    at = datetime(2026, 11, 22, 18, 0, 0, 123456, tzinfo=UTC)
    assert decode(encode(choice(at=at))).at == at
