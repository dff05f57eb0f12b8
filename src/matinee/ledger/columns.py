"""The two tables of the log, `choices` and `outcomes`: their columns, and records turned into them and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import chain
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from matinee.choices import Advice, Choice, Id, Outcome, Plan

_STAMP = pa.timestamp("us", "UTC")
_TEXT = pa.large_string()

CHOICES_SCHEMA = pa.schema(
    [
        pa.field("id", _TEXT, nullable=False),
        pa.field("decision", _TEXT, nullable=False),
        pa.field("unit", _TEXT, nullable=False),  # the key: the id as text, whatever its type was
        pa.field("unit_type", _TEXT, nullable=False),  # "int" or "str"
        pa.field("at", _STAMP, nullable=False),
        pa.field("known", _STAMP, nullable=False),
        pa.field("seq", pa.int64(), nullable=False),  # given by the table
        pa.field("policy", _TEXT, nullable=False),
        pa.field("arm", _TEXT, nullable=False),
        pa.field("mode", _TEXT, nullable=False),
        pa.field("context", _TEXT, nullable=False),  # JSON object
        pa.field("candidates", pa.large_list(_TEXT), nullable=False),
        pa.field("id_type", _TEXT, nullable=False),  # of candidates and action: "int", "str", or "json" where mixed
        pa.field("blocked", _TEXT, nullable=False),  # JSON object: guard -> ids
        pa.field("groups", _TEXT, nullable=False),  # JSON object: guard -> group of each candidate
        pa.field("action", pa.large_list(_TEXT), nullable=False),
        pa.field("propensities", pa.large_list(pa.float64()), nullable=False),
        pa.field("fallback", _TEXT),
        pa.field("items_at", _STAMP),
        pa.field("estimated", pa.bool_(), nullable=False),
        pa.field("cluster", _TEXT),
        pa.field("advice", _TEXT, nullable=False),  # JSON list
        pa.field("chosen_by", _TEXT),
        pa.field("plan", _TEXT),  # JSON object
        pa.field("source", _TEXT, nullable=False),  # stream/segment:offset in the log
    ]
)
CHOICES_PERSONAL = ("unit", "context", "cluster", "advice", "chosen_by")

OUTCOMES_SCHEMA = pa.schema(
    [
        pa.field("id", _TEXT, nullable=False),
        pa.field("choice", _TEXT, nullable=False),
        pa.field("fact", _TEXT, nullable=False),
        pa.field("unit", _TEXT, nullable=False),  # the key: the fact's own key as text
        pa.field("at", _STAMP, nullable=False),
        pa.field("known", _STAMP, nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("id_hash", pa.int64(), nullable=False),  # eight bytes to look through instead of the whole id
        pa.field("source", _TEXT, nullable=False),  # the occurrence that counted
    ]
)
OUTCOMES_PERSONAL = ("unit",)

_Aware = Annotated[datetime, msgspec.Meta(tz=True)]
# `id_type`, candidates and action as text; only `id_type` where both lists can be split without parsing.
Ids = str | tuple[str, list[str], list[str]]

_OBJECT, _LIST, _NULL = msgspec.Raw(b"{}"), msgspec.Raw(b"[]"), msgspec.Raw(b"null")
_COMPACT = b"0123456789-,[]"


class LoggedChoice(msgspec.Struct, frozen=True, kw_only=True, tag="choice"):
    """A `Choice` as sealing reads it: what ends up as text stays text, and is not parsed to be written again."""

    id: str
    decision: str
    unit: Id
    at: _Aware
    policy: str
    arm: str = ""
    mode: str = "decide"
    context: msgspec.Raw = _OBJECT
    candidates: msgspec.Raw = _LIST
    blocked: msgspec.Raw = _OBJECT
    groups: msgspec.Raw = _OBJECT
    action: msgspec.Raw = _LIST
    propensities: list[float] = []
    fallback: str | None = None
    items_at: _Aware | None = None
    estimated: bool = False
    cluster: str | None = None
    advice: msgspec.Raw = _LIST
    chosen_by: str | None = None
    plan: msgspec.Raw = _NULL

    def ids(self) -> Ids:
        """`id_type`, candidates and action as text; only `id_type` where both lists can be split without parsing.

        Raises:
            msgspec.ValidationError: If one of them is neither an integer nor text.
        """
        candidates, action = bytes(self.candidates), bytes(self.action)
        if _only_integers(candidates) and _only_integers(action):
            return "int"
        if _only_plain_text(candidates) and _only_plain_text(action):
            return "str"
        return ids_as_text(_IDS.decode(candidates), _IDS.decode(action))


_ID: msgspec.json.Decoder[Id] = msgspec.json.Decoder(Id)
_IDS: msgspec.json.Decoder[list[Id]] = msgspec.json.Decoder(list[Id])
_LOGGED: msgspec.json.Decoder[LoggedChoice | Outcome] = msgspec.json.Decoder(LoggedChoice | Outcome)


def decode_logged(payload: bytes) -> LoggedChoice | Outcome:
    """The record of a payload, ready for sealing.

    Raises:
        msgspec.DecodeError: If it is not one.
    """
    return _LOGGED.decode(payload)


def ids_as_text(candidates: Sequence[Id], action: Sequence[Id]) -> tuple[str, list[str], list[str]]:
    """Ids as table columns hold them: `id_type`, then both lists as text.

    Integers are written as digits and text as it is; where a choice has both, each is written as JSON (`7`, `"7"`).

    Example:
        >>> ids_as_text([7, 8], [8])
        ('int', ['7', '8'], ['8'])
        >>> ids_as_text(["1h", "stop"], ["stop"])
        ('str', ['1h', 'stop'], ['stop'])
        >>> ids_as_text([7, "7"], [])
        ('json', ['7', '"7"'], [])
    """
    kinds = {type(one) for one in chain(candidates, action)}
    if kinds <= {int}:
        return "int", [str(c) for c in candidates], [str(a) for a in action]
    if kinds == {str}:
        return "str", list(map(str, candidates)), list(map(str, action))
    return "json", [_json(c) for c in candidates], [_json(a) for a in action]


def text_as_ids(texts: Sequence[str], id_type: str) -> list[Id]:
    """The ids that `ids_as_text` wrote."""
    if id_type == "int":
        return [int(t) for t in texts]
    return list(texts) if id_type == "str" else [_ID.decode(t) for t in texts]


def choices_table(rows: Sequence[LoggedChoice], ids: Sequence[Ids], sources: Sequence[str]) -> pa.Table:
    """Rows of the table `choices`, in order, but for `seq`, which the table gives. `ids` is `row.ids()` of each."""
    at = pa.array([r.at for r in rows], _STAMP)
    id_type, candidates, action = _id_columns(rows, ids)
    propensities = pa.array(list(chain.from_iterable(r.propensities for r in rows)), pa.float64())
    columns = {
        "id": [r.id for r in rows],
        "decision": [r.decision for r in rows],
        "unit": [str(r.unit) for r in rows],
        "unit_type": ["int" if type(r.unit) is int else "str" for r in rows],
        "at": at,
        "known": at,
        "policy": [r.policy for r in rows],
        "arm": [r.arm for r in rows],
        "mode": [r.mode for r in rows],
        "context": _json_column([r.context for r in rows]),
        "candidates": candidates,
        "id_type": id_type,
        "blocked": _json_column([r.blocked for r in rows]),
        "groups": _json_column([r.groups for r in rows]),
        "action": action,
        "propensities": _lists(propensities, [len(r.propensities) for r in rows]),
        "fallback": [r.fallback for r in rows],
        "items_at": [r.items_at for r in rows],
        "estimated": [r.estimated for r in rows],
        "cluster": [r.cluster for r in rows],
        "advice": _json_column([r.advice for r in rows]),
        "chosen_by": [r.chosen_by for r in rows],
        "plan": [None if r.plan == _NULL else bytes(r.plan).decode() for r in rows],
        "source": list(sources),
    }
    return _table(columns, CHOICES_SCHEMA)


def outcomes_table(rows: Sequence[Outcome], units: Sequence[Any], sources: Sequence[str]) -> pa.Table:
    """Rows of the table `outcomes`: the identity of each outcome that counted; `seq` is given by the table."""
    columns = {
        "id": [r.id for r in rows],
        "choice": [r.choice for r in rows],
        "fact": [r.fact for r in rows],
        "unit": [str(u) for u in units],
        "at": [r.at for r in rows],
        "known": [r.known for r in rows],
        "id_hash": [id_hash(r.id) for r in rows],
        "source": list(sources),
    }
    return _table(columns, OUTCOMES_SCHEMA)


def id_hash(outcome: str) -> int:
    """64 bits of the outcome's id, signed as tables hold them."""
    return int.from_bytes(blake2b(outcome.encode(), digest_size=8).digest(), "big", signed=True)


def choice_from_row(row: Mapping[str, Any]) -> Choice:
    """The `Choice` of a row of the table `choices`, equal to the one that was logged.

    Args:
        row: All columns, as `frame.to_dicts()` or `table.to_pylist()` gives them; those of a table that was sealed
            before `plan` was one of its columns lack it.
    """
    return Choice(
        id=row["id"],
        decision=row["decision"],
        unit=int(row["unit"]) if row["unit_type"] == "int" else row["unit"],
        at=row["at"].astimezone(UTC),
        policy=row["policy"],
        arm=row["arm"],
        mode=row["mode"],
        context=msgspec.json.decode(row["context"]),
        candidates=text_as_ids(row["candidates"], row["id_type"]),
        blocked=msgspec.json.decode(row["blocked"], type=dict[str, list[Id]]),
        groups=msgspec.json.decode(row["groups"], type=dict[str, list[int]]),
        action=text_as_ids(row["action"], row["id_type"]),
        propensities=list(row["propensities"]),
        fallback=row["fallback"],
        items_at=None if row["items_at"] is None else row["items_at"].astimezone(UTC),
        estimated=row["estimated"],
        cluster=row["cluster"],
        advice=msgspec.json.decode(row["advice"], type=list[Advice]),
        chosen_by=row["chosen_by"],
        plan=None if (plan := row.get("plan")) is None else msgspec.json.decode(plan, type=Plan),
    )


def _only_integers(ids: bytes) -> bool:
    """Whether a JSON list holds nothing but integers, without spaces."""
    return not ids.translate(None, b"0123456789-,[]") and ids.startswith(b"[") and ids.find(b"[", 1) < 0


def _only_plain_text(ids: bytes) -> bool:
    """Whether a JSON list holds nothing but strings without escapes, so that it can be split at `","`."""
    if ids == b"[]":
        return True
    if ids == b'[""]':
        return False
    if not (ids.startswith(b'["') and ids.endswith(b'"]')) or b"\\" in ids:
        return False
    # From within the first string to within the last: if every quote is part of a separator, the first one ends the
    # first string and the second begins the next, and so on; anything else between two strings leaves quotes over.
    inner = ids[2:-2]
    return inner.count(b'"') == 2 * inner.count(b'","')


def _json(one: Id) -> str:
    return msgspec.json.encode(one).decode()


def _json_column(raws: Sequence[msgspec.Raw]) -> pa.Array:
    return pa.array([bytes(r) for r in raws], pa.large_binary()).cast(_TEXT)


def _table(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    given = pa.schema([schema.field(name) for name in columns])
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for field, column in zip(given, columns.values(), strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=given)


def _lists(flat: pa.Array, lengths: Sequence[int]) -> pa.Array:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return pa.LargeListArray.from_arrays(pa.array(offsets), flat)


def _id_columns(rows: Sequence[LoggedChoice], found: Sequence[Ids]) -> tuple[pa.Array, pa.Array, pa.Array]:
    """`id_type`, `candidates`, `action`. What can be split without parsing is split by Arrow, all rows at once."""
    ints = [i for i, one in enumerate(found) if one == "int"]
    texts = [i for i, one in enumerate(found) if one == "str"]
    told = [(i, one) for i, one in enumerate(found) if isinstance(one, tuple)]
    back = np.argsort(np.array([*ints, *texts, *(i for i, _ in told)], np.int64))
    columns = []
    for k, name in ((1, "candidates"), (2, "action")):
        parsed = pa.array(list(chain.from_iterable(one[k] for _, one in told)), _TEXT)
        parts = [
            _split([bytes(getattr(rows[i], name))[1:-1] for i in ints], b","),
            _split([bytes(getattr(rows[i], name))[2:-2] for i in texts], b'","'),
            _lists(parsed, [len(one[k]) for _, one in told]),
        ]
        held = [p for p in parts if len(p)]
        columns.append(held[0] if len(held) == 1 else pa.concat_arrays(parts).take(pa.array(back)))
    id_type = pa.array([one if isinstance(one, str) else one[0] for one in found], _TEXT)
    return id_type, columns[0], columns[1]


def _split(inner: Sequence[bytes], separator: bytes) -> pa.Array:
    """Lists of the parts of each text. `[""]` is no id list that takes this road: an empty text is an empty list."""
    lengths = [i.count(separator) + 1 if i else 0 for i in inner]
    joined = separator.join(i for i in inner if i)
    flat = pa.array([], _TEXT)
    if joined:
        flat = pc.split_pattern(pa.array([joined], pa.large_binary()).cast(_TEXT), separator.decode()).values
    return _lists(flat, lengths)
