"""Records as checksummed lines: 8 hex digits of CRC32, a space, JSON, a newline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from types import NoneType
from typing import Any
from zlib import crc32

import msgspec

from matinee.choices import Choice, Outcome
from matinee.exceptions import MatineeError

Record = Choice | Outcome

# What JSON gives back as it was given; everything else takes the slow, exact road through `_walk`.
_PLAIN = frozenset({str, int, bool, float, NoneType})
_IDS = frozenset({int, str})
_KEYS = frozenset({str})


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of the log that cannot be read: where it stands, its bytes, and why."""

    path: Path
    offset: int
    line: bytes
    reason: str


def encode(record: Record) -> bytes:
    """The record as JSON, refused if anything in it would not come back from the log as it went in.

    NumPy scalars and arrays become plain numbers and lists. A ready `Choice` of plain values takes one pass of the
    encoder and one search for `null`: msgspec writes NaN and infinity as `null`, so a line with more nulls than the
    record has `None`s is looked at value by value.

    Raises:
        MatineeError: A number that is not finite, a time without a zone, a key that is no string, or a value of a
            type that JSON does not carry; the message names the place.
    """
    if type(record) is Choice:
        values = record.context
        nulls = 5 - (record.fallback is not None) - (record.items_at is not None)
        nulls -= (record.cluster is not None) + (record.chosen_by is not None) + (record.plan is not None)
        simple = type(record.unit) in _IDS and not record.advice and _is_aware(record.at)
        simple = simple and (record.items_at is None or _is_aware(record.items_at))
    elif type(record) is Outcome:
        values, nulls = record.row, 0
        simple = _is_aware(record.at) and _is_aware(record.known)
    else:
        raise MatineeError(f"record == {record!r}, must be a Choice or an Outcome, not {type(record).__name__}")
    simple = simple and type(values) is dict
    if simple:
        kinds = set(map(type, values.values()))
        simple = kinds <= _PLAIN and _KEYS.issuperset(map(type, values))
        if NoneType in kinds:
            nulls += [v is None for v in values.values()].count(True)
    try:
        payload = _ENCODER.encode(record)
    except (TypeError, UnicodeEncodeError, OverflowError, RecursionError) as error:
        _inspect(record)
        raise MatineeError(f"{_name(record)} {record.id!r} cannot be logged: {error}") from error
    if not simple or payload.count(b"null") != nulls:
        _inspect(record)
        try:
            _DECODER.decode(payload)
        except msgspec.ValidationError as error:
            raise MatineeError(f"{_name(record)} {record.id!r} cannot be logged: {error}") from error
    return payload


def to_line(payload: bytes) -> bytes:
    """The payload with its checksum before it and a newline after it."""
    return b"%08x %b\n" % (crc32(payload), payload)


def decode(payload: bytes) -> Record:
    """The record of a payload.

    Raises:
        msgspec.DecodeError: If it is not one (`ValidationError` where the JSON is sound and the record is not).
    """
    return _DECODER.decode(payload)


def payloads(data: bytes, path: Path) -> Iterator[tuple[int, bytes | BadLine]]:
    """Offset and payload of each whole line of a segment, or what is wrong with it.

    Bytes after the last newline are a `BadLine` too: whether they are a torn tail is for the caller to know.
    """
    offset = 0
    lines = data.split(b"\n")
    rest = lines.pop()
    for line in lines:
        payload = line[9:]
        if b"%08x " % crc32(payload) == line[:9]:
            yield offset, payload
        else:
            yield offset, BadLine(path, offset, line, "the checksum does not match")
        offset += len(line) + 1
    if rest:
        yield offset, BadLine(path, offset, rest, "the line has no end")


def _is_aware(at: object) -> bool:
    return type(at) is datetime and at.tzinfo is not None


def _name(record: Record) -> str:
    return "choice" if isinstance(record, Choice) else "outcome"


def _plain(value: Any) -> Any:
    """Encoder hook: what NumPy holds, as Python holds it. Times and wide floats are refused: they would change."""
    dtype = getattr(value, "dtype", None)
    if dtype is not None and dtype.kind in "iufbU" and dtype.itemsize <= (8 if dtype.kind == "f" else math.inf):
        return value.tolist()
    raise TypeError(f"{value!r} of type {type(value).__name__} is no JSON value")


def _inspect(record: Record) -> None:
    for field in record.__struct_fields__:
        _walk(getattr(record, field), f"{_name(record)}.{field}")


def _walk(value: Any, where: str) -> None:
    """Raise at the first value that the log would change."""
    if getattr(value, "dtype", None) is not None:
        try:
            value = _plain(value)
        except TypeError:
            raise MatineeError(f"{where} == {value!r}, must be a plain value, not {type(value).__name__}") from None
    if isinstance(value, float):
        if not math.isfinite(value):
            raise MatineeError(f"{where} == {value}, must be finite")
    elif isinstance(value, str):
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise MatineeError(f"{where} == {value!r}, must be text that UTF-8 can hold")
    elif isinstance(value, datetime):
        if value.tzinfo is None:
            raise MatineeError(
                f"{where} == {value.isoformat()!r} has no time zone, must carry one (UTC: add '+00:00')"
            )
    elif isinstance(value, Mapping):
        for key, one in value.items():
            if not isinstance(key, str):
                raise MatineeError(f"{where} has the key {key!r}, must be str, not {type(key).__name__}")
            _walk(key, f"{where} (key)")
            _walk(one, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for i, one in enumerate(value):
            _walk(one, f"{where}[{i}]")
    elif isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            _walk(getattr(value, field), f"{where}.{field}")
    elif not isinstance(value, int | bytes | date | NoneType):
        raise MatineeError(
            f"{where} == {value!r}, must be a number, text, bool, time, list or dict, not {type(value).__name__}"
        )


_ENCODER = msgspec.json.Encoder(enc_hook=_plain)
_DECODER: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
