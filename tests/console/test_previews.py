"""Page previews, reach and items: built from a small studio whose domain says how its pages are shown."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import small_pages
from small_pages import Licence, Played, Title
from starlette.applications import Starlette
from starlette.testclient import TestClient

import matinee as mt
from matinee.console.app import routes
from matinee.console.building import StudioSource
from matinee.console.building.items import wilson
from matinee.console.building.previews import compare
from matinee.console.building.reach import Measured, mean_of, units_of
from matinee.console.building.sampling import Reach, Sample
from matinee.console.pages import Funnel
from matinee.console.parts import Card
from matinee.console.render import _cards
from matinee.console.shown import ShelfRow, Side
from matinee.console.source import MemberQuery, PreviewQuery
from matinee.exceptions import UnknownNameError
from matinee.showing import Kinds

NOW = datetime(2026, 11, 22, 14, 10, tzinfo=UTC)
TITLES, MEMBERS, EXPIRED, GROWN_UP = 24, 30, 3, 4
KID, SILENT = 28, 29


class Clock:
    def __init__(self) -> None:
        self.now = NOW - timedelta(days=4)

    def __call__(self) -> datetime:
        return self.now


def filled(root: Path, clock: Clock) -> mt.Studio:
    """Titles in two genres, members who watched one of them, two policies; pages logged on three days."""
    import polars as pl

    studio = mt.open(root, clock=clock)
    studio.use(small_pages.domain, module=small_pages.__file__)
    before = NOW - timedelta(days=40)
    ids = list(range(TITLES))
    studio.append(Title, pl.DataFrame({
        "title": ids, "name": [f"Film {i}" for i in ids], "genre": ["War" if i % 2 else "Drama" for i in ids],
        "maturity": [18 if i == GROWN_UP else 0 for i in ids], "at": [before] * TITLES,
    }))  # fmt: skip
    ends = [NOW - timedelta(days=2) if i == EXPIRED else None for i in ids]
    studio.append(Licence, pl.DataFrame(
        {"title": ids, "starts": [before] * TITLES, "ends": ends, "at": [before] * TITLES},
        schema_overrides={"ends": pl.Datetime("us", "UTC")},
    ))  # fmt: skip
    kids = [m == KID for m in range(MEMBERS)]
    studio.append(small_pages.Member, pl.DataFrame({
        "member": list(range(MEMBERS)), "kids": kids, "maturity": [6 if k else None for k in kids], "at": [before] * MEMBERS,
    }))  # fmt: skip
    agreed = [str(m) for m in range(MEMBERS) if m != SILENT]
    studio.append(mt.Consent, pl.DataFrame(
        {"person": agreed, "purpose": "personalization", "granted": True, "at": [before] * len(agreed)}
    ))  # fmt: skip
    rows = [(m, t) for m in range(MEMBERS) for t in range(m % 2, 12, 2)]
    studio.append(Played, pl.DataFrame({
        "member": [m for m, _ in rows], "title": [t for _, t in rows], "seconds": 900.0, "at": [before] * len(rows),
    }))  # fmt: skip
    studio.publish()
    first = studio.save_policy("page", mt.Uniform(), note="every title alike")
    studio.save_policy("page", mt.Mixture({mt.Uniform(): 1.0}), note="the same in other words")
    studio.release("page", first, share=1.0)
    for day in range(3):
        for k in range(20):
            clock.now = NOW - timedelta(days=3 - day, minutes=10 * k)
            studio.decide("page", member=k, device="tv")
    clock.now = NOW
    studio.seal()
    return studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mt.Studio]:
    with filled(tmp_path_factory.mktemp("previews") / "acme", Clock()) as made:
        yield made


@pytest.fixture
def source(studio: mt.Studio) -> Iterator[StudioSource]:
    made = StudioSource(studio)
    yield made
    studio.forgetting.remove(made.desk.forget)
    made.desk.reach.forget()
    made.desk.reach.wait(30)


@pytest.fixture
def client(source: StudioSource) -> TestClient:
    from matinee.console.app import page_routes

    return TestClient(Starlette(routes=page_routes(source)))


# --------------------------------------------------------------------------------------------------------- the preview


def test_a_page_is_shown_row_by_row_with_names_reasons_and_chances(source: StudioSource) -> None:
    page = source.preview("page", PreviewQuery("2"))
    (side,) = page.sides
    assert [row.heading for row in side.rows] == ["Row 1 for member 2", "Row 2 for member 2"]
    cards = [card for row in side.rows for card in row.cards]
    assert [card.slot for card in cards] == list(range(1, 9))
    assert all(card.name == f"Film {card.id}" and card.reasons == (f"since {card.id} is good",) for card in cards)
    # Every title is drawn alike, without a row of its own being drawn: one of those that are left.
    left = side.allowed
    assert [card.probability for card in cards] == pytest.approx([1 / (left - k) for k in range(8)])
    assert {card.kind for card in cards} <= {"War", "Drama"}
    assert str(EXPIRED) not in {card.id for card in cards}


def test_a_rows_chance_is_taken_out_of_its_first_titles(source: StudioSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_pages, "ROW_CHANCE", 0.5)
    (side,) = source.preview("page", PreviewQuery("2")).sides
    assert [row.chance for row in side.rows] == [0.5, 0.5]
    first, second = side.rows[0].cards[:2]
    assert first.probability == pytest.approx(2 / side.allowed)
    assert second.probability == pytest.approx(1 / (side.allowed - 1))


def test_guards_say_what_they_kept_out_with_counts_and_examples(source: StudioSource) -> None:
    (side,) = source.preview("page", PreviewQuery("2", viewer="kids", limit="7")).sides
    found = {g.name: (g.count, [k.name for k in g.examples]) for g in side.guards}
    assert found == {"licence window": (1, ["Film 3"]), "maturity": (1, ["Film 4"])}
    assert side.funnel.steps == (
        ("titles", 24), ("after licence window", 23), ("after maturity", 22), ("drawn", 8),
    )  # fmt: skip


def test_kids_and_the_unprofiled_are_previewed_without_what_is_held(source: StudioSource) -> None:
    as_it_is = source.preview("page", PreviewQuery("2"))
    assert as_it_is.sides[0].mix is not None and as_it_is.sides[0].mix.history == 6
    for viewer, words in (("plain", "without profiling"), ("kids", "a kids profile of this member")):
        page = source.preview("page", PreviewQuery("2", viewer=viewer))
        assert page.sides[0].mix is None and words in page.lead
    guards = {g.name for g in source.preview("page", PreviewQuery("2", viewer="kids")).sides[0].guards}
    assert "maturity" in guards and "maturity" not in {g.name for g in as_it_is.sides[0].guards}
    assert "this is a kids profile" in source.preview("page", PreviewQuery(str(KID))).lead
    assert "no consent to profiling is in force" in source.preview("page", PreviewQuery(str(SILENT))).lead
    assert "Nothing is held about this member" in source.preview("page", PreviewQuery("999")).lead


def test_the_moment_bites(source: StudioSource) -> None:
    before = (NOW - timedelta(days=10)).isoformat()
    earlier = source.preview("page", PreviewQuery("2", at=before)).sides[0]
    assert earlier.guards == () and earlier.fallback is None and earlier.slots == 8
    long_ago = source.preview("page", PreviewQuery("2", at="2001-01-01T00:00:00Z"))
    assert "every candidate is kept out: licence window" in str(long_ago.sides[0].fallback)
    assert long_ago.sides[0].rows == () and long_ago.sides[0].guards[0].count == TITLES


def test_a_preview_is_the_same_again_another_draw_is_not_and_nothing_is_logged(source: StudioSource) -> None:
    logged = len(source.studio.choices("page"))
    state = source.studio.live._random.bit_generator.state
    one, again, other = (source.preview("page", PreviewQuery("2", draw=d)).sides[0].rows for d in ("5", "5", "6"))
    assert one == again != other
    source.studio.seal()
    assert len(source.studio.choices("page")) == logged
    assert source.studio.live._random.bit_generator.state == state  # what is served is drawn as without the preview


@pytest.mark.parametrize(
    ("field", "query", "said"),
    [
        ("policy", PreviewQuery("2", policy="page@9"), "policy == 'page@9', must be a saved policy of page"),
        ("against", PreviewQuery("2", against="x"), "against == 'x'"),
        ("as", PreviewQuery("2", viewer="boss"), "must be one of plain, kids"),
        ("limit", PreviewQuery("2", limit="22"), "must be a whole number, 0 to 21"),
        ("limit", PreviewQuery("2", limit="²"), "must be a whole number"),
        ("draw", PreviewQuery("2", draw="10000"), "0 to 9999"),
        ("draw", PreviewQuery("2", draw="9" * 150), "0 to 9999"),
        ("at", PreviewQuery("2", at="soon"), "at == 'soon'"),
        ("unit", PreviewQuery("2", context={"admin": "1"}), "c.admin, must be one of device"),
        ("c.device", PreviewQuery("2", context={"device": "x" * 81}), "device has 81 letters, must have at most 80"),
    ],
)  # fmt: skip
def test_a_field_that_is_wrong_is_marked_and_nothing_is_drawn(
    source: StudioSource, field: str, query: PreviewQuery, said: str
) -> None:
    page = source.preview("page", query)
    errors = {c.name: c.error for c in page.controls if c.error}
    assert list(errors) == [field] and said in errors[field]
    assert page.error and page.sides == () and "until the marked fields are mended" in page.lead
    assert all(len(c.value) <= 200 for c in page.controls)


def test_without_a_member_the_form_offers_those_decided_for_lately(source: StudioSource) -> None:
    page = source.preview("page", PreviewQuery())
    assert page.sides == () and page.lately[0][0] == "0" and len(page.lately) == 12
    device = next(c for c in page.controls if c.name == "c.device")
    assert device.hints == ("tv", "phone")


def test_who_has_watched_everything_is_told_so(source: StudioSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_pages, "EVERYTHING", list(range(TITLES)))
    assert "There is nothing new left for this member" in source.preview("page", PreviewQuery("2")).lead


def test_a_policy_that_fails_is_told_and_not_raised(source: StudioSource, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the model is torn")

    monkeypatch.setattr(mt.Uniform, "draw", broken)
    (side,) = source.preview("page", PreviewQuery("2")).sides
    assert side.fallback is not None and "the model is torn" in side.fallback and side.rows == () and side.slots == 0


def test_only_a_decision_that_says_how_it_is_shown_has_previews(source: StudioSource) -> None:
    with pytest.raises(UnknownNameError, match="page"):
        source.preview("plain", PreviewQuery("2"))
    assert [n.path for n in source.shell().nav if n.text == "Pages"] == ["/decisions/page/page"]
    assert not source.decision("plain", _query(), allowed=True).previewed
    assert source.decision("page", _query(), allowed=True).previewed


def _query() -> Any:
    from matinee.console.source import DecisionQuery

    return DecisionQuery()


def test_a_member_page_shows_the_first_of_many_slots_and_leads_to_all(
    source: StudioSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matinee.console.building.members.SLOTS", 3)
    page = source.member(MemberQuery("2", "page"))
    assert page.previewed and page.preview is not None
    assert (len(page.preview.slots), page.preview.more) == (3, 5)


# --------------------------------------------------------------------------------------------------------- side by side


def side(*rows: str) -> Side:
    shelves = tuple(
        ShelfRow(f"Row {row[0]}", "", 1.0, tuple(Card(i, i, k + 1) for k, i in enumerate(row[1:]))) for row in rows
    )
    n = sum(len(r) - 1 for r in rows)
    return Side("p", "", shelves, n, n, 0, (), Funnel(()), None, None, 0)


def test_two_pages_are_compared_by_what_is_on_them_and_where() -> None:
    #                      a b c / d e          a c b / f d
    found = compare(side("1abc", "2de"), side("1acb", "3fd"))
    assert (found.common, found.only, found.moved, found.rows) == (4, (1, 1), 3, 1)
    assert found.first == "row 1, place 2"
    same = compare(side("1ab"), side("1ab"))
    assert (same.common, same.only, same.moved, same.first) == (2, (0, 0), 0, "")
    assert compare(side("1ab"), side("1a")).first == "row 1, place 2"


def test_two_policies_stand_side_by_side_under_the_same_luck(source: StudioSource) -> None:
    page = source.preview("page", PreviewQuery("2", policy="page@1", against="page@2"))
    assert [s.policy for s in page.sides] == ["page@1", "page@2"]
    assert [s.says for s in page.sides] == ["live; every title alike", "not released; the same in other words"]
    assert page.compared is not None and page.compared.common == 8 and page.compared.first == ""
    other = source.preview("page", PreviewQuery("2", policy="page@2", against="page@1", draw="1"))
    assert {c.note for s in other.sides for row in s.rows for c in row.cards} == {""}


# --------------------------------------------------------------------------------------------------------------- reach


def test_reach_is_drawn_beside_the_page_and_measured_when_it_is_done(
    source: StudioSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    let = threading.Event()
    draw = source.desk.reach._draw

    def held(*args: Any) -> Any:
        assert let.wait(30)
        return draw(*args)

    monkeypatch.setattr(source.desk.reach, "_draw", held)
    begun = time.monotonic()
    waiting = source.reach("page", "", "page@2")
    assert time.monotonic() - begun < 5 and waiting.looking and waiting.rows == () and waiting.of == 2 * MEMBERS
    let.set()
    source.desk.reach.wait(60)
    page = source.reach("page", "", "page@2")
    assert not page.looking and [r.policy for r in page.rows] == ["page@1", "page@2"]
    row = page.rows[0]
    assert (row.pages, row.shown, row.among, row.fell_back) == (MEMBERS, 23, 24, 0)
    assert row.coverage == pytest.approx(23 / 24)
    assert [c.name for c in page.charts] == ["coverage", "head", "mix"]
    assert "30 pages show 95.8" in page.charts[0].title
    assert row.apart is not None and row.apart.value is not None and row.apart.value > 0
    assert msgspec.json.encode(page, enc_hook=str)


def test_a_sample_that_cannot_be_drawn_says_so(source: StudioSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source.desk.reach, "_draw", lambda *_: 1 / 0)
    source.reach("page", "page@1", "")
    source.desk.reach.wait(30)
    assert source.reach("page", "page@1", "").missing == "The pages could not be drawn: ZeroDivisionError"
    with pytest.raises(UnknownNameError):
        source.reach("page", "page@7", "")


def test_too_few_pages_make_no_figure(source: StudioSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matinee.console.building.reach.FEWEST", 31)
    source.reach("page", "page@1", "")
    source.desk.reach.wait(60)
    page = source.reach("page", "page@1", "")
    assert "30 pages could be drawn and 0 fell back; figures need 31" in str(page.missing) and page.charts == ()


def test_what_was_drawn_is_forgotten_when_somebody_was_erased(source: StudioSource) -> None:
    source.reach("page", "page@1", "")
    source.desk.reach.wait(60)
    assert not source.reach("page", "page@1", "").looking
    source.desk.forget()
    assert source.reach("page", "page@1", "").looking


def test_the_sample_is_the_same_for_every_policy(source: StudioSource) -> None:
    decision = source.desk.decision("page")
    assert units_of(source.desk, decision) == units_of(source.desk, decision)
    assert sorted(units_of(source.desk, decision)) == list(range(MEMBERS))  # type: ignore[type-var]


def test_a_sample_of_many_is_drawn_alike_each_time(source: StudioSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matinee.console.building.reach.UNITS", 6)
    decision = source.desk.decision("page")
    once = units_of(source.desk, decision)
    source.desk.forget()
    assert units_of(source.desk, decision) == once != sorted(once, key=str) and len(set(once)) == 6


def measured() -> Measured:
    """Four titles; two pages [0, 1], [0, 3]; histories 0 0 0 1, so that 0 is the head."""
    kinds = Kinds(
        "genre", ("a", "b"), np.arange(4), np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]]),
        lambda p, q: float(np.abs(p - q).sum()), "distance",
    )  # fmt: skip
    sample = Sample([1, 2], [[0, 1], [0, 3]], [[0, 0], [0, 1]], among=4, done=True)
    return Measured.of("p", sample, kinds)


def test_coverage_head_and_mix_are_what_they_are_by_hand() -> None:
    found = measured()
    assert found.seen.tolist() == [0.5, 0.75]
    assert found.head.tolist() == [0.5, 0.5]  # title 0 is the head: one place of two on each page
    assert found.apart.tolist() == [0.0, 1.0]
    at = {round(s, 3): (a, b) for s, a, b in zip(found.steps.tolist(), found.shares, found.watched, strict=True)}
    assert at[0.25] == (0.5, 0.75) and at[0.5] == (0.75, 1.0) and at[0.75] == (0.875, 1.0) and at[1.0] == (1.0, 1.0)
    assert found.mixes is not None and found.mixes[1].tolist() == [0.75, 0.25]


def test_a_mean_has_its_normal_interval() -> None:
    found = mean_of(np.array([1.0, 2.0, 3.0]))
    assert (found.value, found.low) == (2.0, pytest.approx(2 - 1.96 / 3**0.5))
    assert mean_of(np.array([1.0])).refused


def test_a_sample_ends_after_its_time() -> None:
    ticks = itertools.count(0, 40)  # each look at the clock is forty seconds later; a sample has sixty
    made = SimpleNamespace(candidates=[1, 2, 3], choice=SimpleNamespace(fallback=None, action=[1]))
    showing: Any = SimpleNamespace(history=None)
    decision: Any = None
    reach = Reach(lambda *_: made, ticks=lambda: float(next(ticks)))  # type: ignore[arg-type, return-value]
    sample = reach.sample(("d", "p"), decision, "p", showing, lambda: [1, 2, 3, 4])
    reach.wait(10)
    assert sample.done and (sample.drawn, sample.among, sample.error) == (1, 3, "")


# ---------------------------------------------------------------------------------------------------------------- items


def test_an_item_says_whom_it_is_shown_to_and_when_it_may_be(source: StudioSource) -> None:
    page = source.item("title", "5")
    (by,) = [s for s in page.shown_by if s.decision == "page"]
    assert by.choices == 60
    log = source.studio.choices("page")
    own = sum("5" in a for a in log["action"].to_list())
    assert by.pages == own and by.share.value == pytest.approx(own / 60)
    assert by.over_time is not None and len(by.over_time.rows) == 3
    assert sum(p.pages for p in by.places) == own and {p.kind for p in by.places} <= {"First row", "Second row"}
    assert sum(p.share for p in by.places) == pytest.approx(1)
    assert [w.state for w in page.windows] == ["open now"] and page.windows[0].ends is None
    assert [c.id for c in page.similar] == ["6", "7"] and page.kind == "War"
    assert page.progress[0].says.startswith("Owed 7 more of 10 impressions")
    assert page.progress[0].done == pytest.approx(0.3)
    assert (page.name, {s.label: s.value for s in page.sheet}["Genre"]) == ("Film 5", "War")


def test_an_item_that_may_not_be_shown_says_by_which_guard(source: StudioSource) -> None:
    page = source.item("title", str(EXPIRED))
    assert [w.state for w in page.windows] == ["over"] and "No licence window is open" in page.lead
    by = page.shown_by[0]
    kept = sum(EXPIRED in json.loads(b)["licence window"] if "licence window" in b else False
               for b in source.studio.choices("page")["blocked"].to_list())  # fmt: skip
    assert by.kept_out == (("licence window", kept),) and by.read == 60


@pytest.mark.parametrize("typed", ["99", "x", "-", "²", "9" * 30, "5 "])
def test_an_item_that_is_not_there_is_not_found(source: StudioSource, typed: str) -> None:
    with pytest.raises(UnknownNameError):
        source.item("title", typed)
    with pytest.raises(UnknownNameError, match="title"):
        source.item("scene", "1")


def test_a_share_has_wilsons_interval() -> None:
    found = wilson(8, 10)
    assert [round(v, 4) for v in (found.value or 0, found.low or 0, found.high or 0)] == [0.8, 0.4902, 0.9433]
    assert wilson(0, 0).refused and (wilson(0, 5).low, wilson(5, 5).high) == (0.0, 1.0)


# ----------------------------------------------------------------------------------------------------------- the routes


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/decisions/page/page", 200), ("/decisions/page/page?unit=2", 200), ("/decisions/page/page?unit=2&against=page@2", 200),
        ("/decisions/page/page?unit=2&as=kids&limit=7&c.device=tv", 200), ("/decisions/page/page?unit=2&limit=99", 422),
        ("/decisions/page/page?unit=2&at=2001-01-01T00:00:00Z", 200), ("/decisions/plain/page", 404),
        ("/decisions/page/reach", 200), ("/decisions/page/reach?policy=x", 404), ("/items/title/5", 200),
        ("/items/title/99", 404), ("/items/title/3", 200), ("/decisions/page/page?unit=" + "9" * 500, 200),
        ("/decisions/page/page?unit=%3Cscript%3E", 200),
    ],
)  # fmt: skip
def test_each_page_answers_and_has_its_twin(client: TestClient, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html") and "<script>E" not in answer.text
    head, mark, query = path.partition("?")
    twin = client.get(f"{head}.json{mark}{query}")
    assert twin.status_code == status and isinstance(twin.json(), dict)


def test_posters_of_one_kind_share_a_family_of_shapes(source: StudioSource) -> None:
    from matinee.console.posters import family

    page = source.preview("page", PreviewQuery("2"))
    cards = {c.id: c for row in page.sides[0].rows for c in row.cards}
    for key, card in cards.items():
        assert _cards(page)[key].shape in family(card.kind)
    assert family("War") != family("Drama")


def test_the_routes_of_a_studio_have_the_pages(studio: mt.Studio) -> None:
    paths = {getattr(r, "path", "") for r in routes(studio)}
    assert {"/decisions/{name}/page", "/decisions/{name}/reach.json", "/items/{entity}/{id:path}"} <= paths
