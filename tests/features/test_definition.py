"""What a feature set says of itself, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from matinee import features as f
from matinee.exceptions import DeclarationError, MatineeError, UnknownColumnError
from matinee.facts import Entity, Fact
from matinee.features import Features

from .oracle import FEATURES, Charged, Member, Offer, Played, Studio, Title


def test_importing_features_loads_no_heavy_library() -> None:
    code = "import matinee.features, matinee.features.online, sys; print(*{m.partition('.')[0] for m in sys.modules})"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"polars", "numpy", "numba", "pyarrow", "lmdb"} & set(seen.split())


def test_a_set_says_what_it_reads() -> None:
    taste = Features("member", name="taste", hours=f.sum(Played.seconds, "7d", where=Played.device == "tv") / 3600)
    assert taste.names == ["hours"]
    assert taste.facts == {Played}
    assert taste.reads == {Played: {"seconds", "device"}}
    assert taste.types == {"hours": "float"}
    assert taste.key_kind == "int"
    assert repr(taste) == (
        "Features('member', name='taste', hours=(sum(Played.seconds, '7d', where=(Played.device == 'tv')) / 3600))"
    )
    assert FEATURES.facts == {Played, Charged, Title, Studio, Member, Offer}


def test_the_name_of_a_set_is_its_key_unless_given() -> None:
    assert Features("member", plays=f.count(Played)).name == "member"


def test_nightly_features_say_so() -> None:
    def median(plays: Any) -> Any:
        return plays

    both = Features("member", usual=f.nightly(median, facts=[Played]), plays=f.count(Played, "7d"))
    ratio = Features("member", ratio=f.count(Played, "7d") / f.nightly(median, facts=[Played]))
    assert both.nightly == ["usual"] and ratio.nightly == ["ratio"]
    assert "nightly(median, facts=[Played])" in repr(both)
    assert both.facts == {Played} and both.reads[Played] == set(Played.schema.columns)


def test_the_hash_follows_the_definition() -> None:
    def one(a: Any) -> Any:
        return a + 1

    def two(a: Any) -> Any:
        return a + 2

    hashes = {
        Features("member", x=node).hash
        for node in (
            f.count(Played, "7d"),
            f.count(Played, "8d"),
            f.count(Played),
            f.count(Played.score, "7d"),
            f.count(Played, "7d", where=Played.seconds > 1),
            f.count(Played, "7d", where=Played.seconds > 2),
            f.rate(Played, "7d"),
            f.history(Played.title, 2),
            f.history(Played.title, 3),
            f.apply(one, f.count(Played)),
            f.apply(two, f.count(Played)),
            f.apply(two, f.count(Played), returns=int),
        )
    }
    assert len(hashes) == 12
    again = Features("member", name="other", x=f.count(Played, "168h"))
    assert again.hash == Features("member", x=f.count(Played, "7d")).hash
    assert again != Features("member", x=f.count(Played, "7d")) and len({again, again}) == 1


def test_the_hash_is_the_same_in_another_process() -> None:
    code = (
        "from matinee.facts import Fact\nfrom matinee import features as f\n"
        "class Played(Fact, key='member'):\n    member: int\n    seconds: float\n"
        "print(f.Features('member', h=f.sum(Played.seconds, '7d') / 3600).hash)"
    )
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    }
    assert len(runs) == 1


def test_a_set_as_plain_values() -> None:
    data = Features("member", name="taste", hours=f.sum(Played.seconds, "7d") / 3600).to_json()
    assert (data["name"], data["key"], data["facts"], data["nightly"]) == ("taste", "member", ["played"], [])
    assert data["features"]["hours"]["text"] == "(sum(Played.seconds, '7d') / 3600)"
    assert data["features"]["hours"]["left"]["window_us"] == 7 * 86_400_000_000


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: f.sum(Played.secnds, "7d"), "did you mean 'seconds'"),
        (lambda: f.state(Title.yeer), "did you mean 'year'"),
    ],
)
def test_unknown_columns(make: Any, message: str) -> None:
    with pytest.raises(UnknownColumnError, match=message):
        make()


class Text(Fact, key="member"):
    """The key is text here."""

    member: str
    note: list[str]


class Watch(Entity, key="watch"):
    """An entity of another key."""

    watch: int
    member: int


REFUSED = [
    (lambda: f.sum(Played.device, "7d"), r"sum\(Played.device\) is over str, must be over a number"),
    (lambda: f.mean(Played.device), "must be over a number"),
    (lambda: f.sum(Played.seconds > 5, "7d"), r"did you mean count\(..., where=...\)"),
    (lambda: f.sum(Played.device + 1, "7d"), "must combine numbers, not str and int"),
    (lambda: f.sum(Played, "7d"), r"must name a column, such as sum\(Played.device\)"),
    (lambda: f.sum("seconds", "7d"), "must be a column of a fact"),
    (lambda: f.count("played", "7d"), "must be a Fact such as count"),
    (lambda: f.count(Fact, "7d"), "must be a Fact such as count"),
    (lambda: f.count(Played, "7 days"), "window == '7 days', must be a positive number and a unit such as \"90s\""),
    (lambda: f.count(Played, 7), "window == 7"),
    (lambda: f.count(Played, "0d"), "window == '0d'"),
    (lambda: f.rate(Played, None), "all time has no rate"),
    (lambda: f.count(Played, "7d", within="7d"), "has a window and within"),
    (lambda: f.count(Played, "7d", where=Charged.amount > 1), "must be a condition over Played's columns"),
    (lambda: f.count(Played, "7d", where=Played.seconds + 1), "must be a condition, not float"),
    (lambda: f.count(Played, "7d", where=Played.device > 1), "must compare values of one kind, not str with int"),
    (lambda: f.count(Played, "7d", where=(Played.seconds > 1) & Played.title), "must combine conditions"),
    (lambda: f.count(Played, "7d", where=~Played.title), "must negate a condition, not int"),
    (lambda: f.count(Played, "7d", where=Played.title == None), "constant == None"),  # noqa: E711
    (lambda: f.history(Played.title, 0), "n == 0, must be >= 1"),
    (lambda: f.history(Text.note, 3), "must be over single values"),
    (lambda: f.counts(Played.seconds, "7d"), "must be over int or str"),
    (lambda: f.state(Played.title), r"must be of an Entity or a scheduled fact; did you mean last\(Played.title\)"),
    (lambda: f.state(Title.year + 1), "must be a column of an Entity"),
    (lambda: f.state(Title.year, of=f.last(Played.device)), "is str, must be int, as the key of Title is"),
    (lambda: f.last(Played.device) + 1, "is str, must be a number to stand under"),
    (lambda: f.count(Played) + "1", "must be a feature or a finite number, not str"),
    (lambda: f.count(Played) * float("nan"), "must be a feature or a finite number"),
    (lambda: f.apply("max", f.count(Played)), "must be given a plain function first"),
    (lambda: f.apply(max), "must name at least one feature"),
    (lambda: f.apply(max, f.count(Played), returns=list), "must be float, int, str or bool"),
    (lambda: f.nightly(max, facts=[]), "must name the facts it reads"),
    (lambda: f.nightly(max, facts=["played"]), "must be a Fact"),
    (lambda: Features("member"), "must hold at least one feature"),
    (lambda: Features("member", x=Played.seconds), r"must say which rows: last\(Played.seconds\)"),
    (lambda: Features("member", x=len), r"did you mean apply\(x, ...\)"),
    (lambda: Features("member", member=f.count(Played)), "must have another name than the key"),
    (lambda: Features("invoice", x=f.count(Played)), "must read a fact with a column 'invoice'"),
    (lambda: Features("seconds", x=f.count(Played)), "is float, must be int or str to be a key"),
    (
        lambda: Features("member", x=f.count(Played), y=f.count(Text)),
        "is int in Played and str in Text, must be of one type",
    ),
    (lambda: Features("member", x=f.state(Watch.watch)), "is keyed by 'watch', must be by 'member', or say whose"),
    (lambda: Features("member", x=f.count(Played, within="7d")), "looks ahead, must look back"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(MatineeError, match=message):
        make()


def test_refusals_are_declaration_errors() -> None:
    with pytest.raises(DeclarationError):
        f.count(Played, "soon")


def test_a_reward_term_of_another_kind_is_no_feature() -> None:
    class Fee(f.Node):
        @property
        def type(self) -> str:
            return "int"

        def definition(self) -> dict[str, Any]:
            return {"node": "fee"}

        def __repr__(self) -> str:
            return "fee('route')"

    reward = f.sum(Charged.amount, within="14d") - Fee()
    assert repr(reward) == "(sum(Charged.amount, within='14d') - fee('route'))"
    with pytest.raises(DeclarationError, match="belongs in a reward"):
        Features("member", x=f.count(Charged) - Fee())
