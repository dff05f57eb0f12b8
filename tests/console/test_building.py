"""Pages built from a real studio: a small one, whose log was written by hand on a clock of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import small_domain
from small_domain import Licence, Played, Title
from starlette.applications import Starlette
from starlette.testclient import TestClient

import matinee as mt
from matinee.console.app import routes
from matinee.console.building import StudioSource
from matinee.console.building.health import lamp, says
from matinee.console.building.members import shown_value
from matinee.console.pages import GuardRow
from matinee.console.source import DecisionQuery, LedgerQuery, MemberQuery, QuarantineQuery, ReleaseForm
from matinee.doctor import Finding, Report
from matinee.exceptions import ReleaseError, UnknownNameError
from matinee.releases import Arm

NOW = datetime(2026, 11, 22, 14, 10, tzinfo=UTC)
START = NOW - timedelta(days=12)


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def filled(root: Path, clock: Clock) -> mt.Studio:
    """A studio with six titles (one without a licence), two policies, 480 choices of which most are sealed."""
    import polars as pl

    studio = mt.open(root, clock=clock)
    studio.use(small_domain.domain, module=small_domain.__file__)
    before = START - timedelta(days=30)
    n = len(small_domain.TITLES)
    titles = {"title": range(n), "name": small_domain.TITLES, "provider": [f"p{i % 3}" for i in range(n)]}
    studio.append(Title, pl.DataFrame({**titles, "maturity": [0] * n, "at": [before] * n}))
    lent = {"title": range(n - 1), "starts": [before] * (n - 1), "ends": [NOW + timedelta(days=90)] * (n - 1)}
    studio.append(Licence, pl.DataFrame({**lent, "at": [before] * (n - 1)}))
    rows = {"member": [1, 2, 3], "title": [0, 1, 2], "seconds": [60.0, -5.0, -6.0], "at": [before] * 3}
    studio.append(Played, pl.DataFrame(rows), source="plays.parquet")
    studio.append(
        Played, pl.DataFrame({"member": [4], "title": [0], "seconds": [-1.0], "at": [before]}), source="more.parquet"
    )
    studio.publish()
    first = studio.save_policy("home", mt.Uniform())
    second = studio.save_policy("home", mt.Mixture({mt.Uniform(): 1.0}))
    guards = small_domain.home.guard_names
    studio.releases.put(
        "home", "release", [Arm("live", first, 1.0, "live")], salt="s", guards=guards, note="", by="ada"
    )
    arms = [Arm("challenger", second, 0.5, "challenger"), Arm("live", first, 0.5, "live")]
    studio.releases.put("home", "release", arms, salt="s", guards=guards, note="second", by="ben")
    studio.refresh()
    for day in range(6):
        for k in range(80):
            clock.now = START + timedelta(days=day, minutes=2 * k)
            choice = studio.decide("home", member=k, device="tv" if k % 2 else "phone")
            # The challenger brings a play every time, the live policy every other time.
            if choice.policy == second or k % 4 < 2:
                clock.now += timedelta(minutes=1)
                studio.record(choice, Played(member=k, title=choice.action[0], seconds=900.0))
    clock.now = START + timedelta(days=8)
    studio.seal()
    studio.evaluate("home", second)
    for k in range(12):
        clock.now = NOW - timedelta(hours=12 - k)
        studio.decide("home", member=100 + k, device="tv")
        studio.decide("retry", invoice=f"in_{k}")
    clock.now = NOW
    return studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mt.Studio]:
    with filled(tmp_path_factory.mktemp("console") / "acme", Clock()) as made:
        yield made


@pytest.fixture
def source(studio: mt.Studio) -> StudioSource:
    return StudioSource(studio)


def test_the_front_says_how_it_is_and_what_waits(source: StudioSource) -> None:
    page = source.front()
    assert page.headline.startswith("One of two decisions is answering.")
    assert "**504 choices**" in page.lead
    titles = [n.title for n in page.needs]
    assert any("The log is not sealed" in t for t in titles)
    assert any("Nothing is released for `retry`" in t for t in titles)
    assert any("Release or hold **home@2**" in t for t in titles)
    assert "3 rows wait in quarantine" in titles
    row = page.decisions[0]
    assert (row.name, row.live, row.share, row.choices) == ("home", "release 2", 0.5, 492)
    assert page.worth is not None and "home@2 brings" in page.worth.title


def test_what_a_domain_brings_and_nobody_uses_stands_aside(source: StudioSource, studio: mt.Studio) -> None:
    studio.use(mt.Domain("more", decisions=[mt.Decision("poster", unit="member", among=["a", "b"])]))
    source.desk.forget()
    page = source.front()
    assert [r.name for r in page.decisions] == ["home", "retry"]
    assert [(one.path, one.text) for one in page.idle] == [("/decisions/poster", "Poster")]
    assert not any("poster" in n.title for n in page.needs)
    assert "Poster" not in [r.name for r in page.health]
    assert "/decisions/poster" not in [n.path for n in source.shell().nav]
    studio.save_policy("poster", mt.Uniform())
    source.desk.forget()
    page = source.front()
    assert page.idle == () and any("Nothing is released for `poster`" in n.title for n in page.needs)
    assert "/decisions/poster" in [n.path for n in source.shell().nav]


def test_the_front_does_not_wait_for_the_doctor_and_says_so(studio: mt.Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    let = threading.Event()
    broken = Report((Finding("models", "broken", "home-ranker@1 changed or missing on disk", "matinee train"),))

    def examine() -> Report:
        assert let.wait(30)
        return broken

    monkeypatch.setattr(studio, "doctor", examine)
    source = StudioSource(studio)
    before = source.front()
    assert before.looking and not any("Models" in n.title for n in before.needs)
    assert next(h for h in before.health if h.name == "Checks").value == "looking now"
    let.set()
    source.desk.checkup.wait(30)
    after = source.front()
    need = next(n for n in after.needs if n.title.startswith("Models: home-ranker@1 changed"))
    assert not after.looking and need.when == "broken" and "looked at 22 Nov 14:10" in need.who
    assert next(h for h in after.health if h.name == "Checks").value == "1 of 1 to see to"


def test_a_warm_source_measures_nothing_for_its_first_reader(
    studio: mt.Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matinee.console.building import log_figures
    from matinee.console.render import environment

    monkeypatch.setattr(studio, "doctor", lambda: Report(()))
    environment.cache_clear()
    source = StudioSource(studio)
    source.warm()
    assert source.desk.checkup._runs is None  # the checks are for who looks
    assert len(environment().cache or ()) == len(environment().list_templates(["html"]))
    for one in ("_measure", "_guard_rows"):
        monkeypatch.setattr(log_figures, one, lambda *_: pytest.fail("measured again for the first reader"))
    monkeypatch.setattr(studio, "leverage", lambda: pytest.fail("counted again for the first reader"))
    assert source.front().decisions[0].choices == 492


def test_nothing_is_said_to_be_well_before_it_was_looked_at(studio: mt.Studio) -> None:
    from matinee.console.building.front import _headline

    rows = StudioSource(studio).front().decisions
    assert _headline(rows, (), looking=True).endswith("The studio is being checked.")
    assert _headline(rows, (), looking=False).endswith("Nothing needs a person.")


def test_figures_that_were_begun_before_an_act_are_not_kept_beyond_it(studio: mt.Studio) -> None:
    desk = StudioSource(studio).desk

    def make() -> str:
        desk.forget()
        return "before"

    assert desk.kept(("figure",), make) == "before"
    assert desk.kept(("figure",), lambda: "after") == "after"


def test_names_are_asked_for_once_a_page_and_not_again_for_a_minute(
    studio: mt.Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[Any]] = []

    def names(of: Any, ids: Any) -> dict[Any, str]:
        asked.append(list(ids))
        return small_domain.names(of, ids)

    monkeypatch.setitem(small_domain.domain.names, "title", names)
    source = StudioSource(studio)
    page = source.ledger(LedgerQuery(decision="home"))
    assert len(page.choices) == 40 and {a for c in page.choices for a in c.action} <= set(small_domain.TITLES)
    assert len(asked) == 1 and len(asked[0]) == len(set(asked[0]))
    source.ledger(LedgerQuery(decision="home"))
    source.choice(page.choices[0].id)
    assert len(asked) == 2 and not set(asked[0]) & set(asked[1])  # what a guard kept out was new


def test_commands_in_what_is_missing_are_marked_up_and_contexts_are_named_in_words(studio: mt.Studio) -> None:
    with TestClient(Starlette(routes=routes(studio))) as client:
        text = client.get("/decisions/retry").text
        missing = client.get("/decisions/retry.json").json()["value_missing"]
        member = client.get("/members/7?decision=home&c.three_d=1").text
    assert missing and "`" not in text.split("Value over time")[1].split("</section>")[0]
    assert "Three d</label>" in member and "Preview for an invoice" in text


def test_a_chart_that_stands_alone_says_whose_mean_it_shows_and_why(source: StudioSource) -> None:
    from matinee.console.building.decision import _said, alone
    from matinee.console.building.log_figures import log_figures

    figures = log_figures(source.desk, source.desk.decision("home"))
    known = [p for p in figures.points if p.value is not None]
    live = next(a for a in figures.arms if a.role == "live")
    assert _said(figures, known).startswith("home@1 brings ") and "[" in _said(figures, known)
    only = replace(figures, arms=(replace(live, role="baseline"),))
    assert _said(only, known).startswith("home@1 brings ")
    assert _said(replace(figures, arms=()), known).startswith(f"What was chosen on {known[-1].at.day} Nov brought ")
    releases = source.studio.releases.all("home")
    assert "release 2 have not decided on the same day" in alone(releases)
    assert alone(releases[1:]) == "nothing is held back to compare with"


def test_a_policy_that_looks_at_a_few_is_a_step_of_its_own() -> None:
    from matinee.console.building.members import funnel

    choice = mt.Choice(
        id="c", decision="home", unit=1, at=NOW, policy="home@1", arm="live", mode="decide", context={},
        candidates=list(range(290)), blocked={"licence window": list(range(1000, 1010))}, action=[1, 2],
    )  # fmt: skip
    steps = funnel(small_domain.home, choice, 9125, "title").steps
    assert steps == (("titles", 9125), ("proposed by the policy", 300), ("after licence window", 290), ("drawn", 2))
    assert [name for name, _ in funnel(small_domain.home, choice, 300, "title").steps][1] == "after licence window"


@pytest.mark.parametrize("typed", ["²", "--5", "9" * 400, "-", "7\n", "٣"])
def test_an_id_that_is_no_number_is_looked_up_as_it_was_typed(source: StudioSource, typed: str) -> None:
    assert source.desk.unit_id(source.desk.decision("home"), typed) == typed
    assert source.desk.unit_id(source.desk.decision("home"), "-7") == -7


def test_a_context_value_of_nothing_but_brackets_is_text() -> None:
    from matinee.console.building.desk import as_value

    assert as_value("[" * 100_000) == "[" * 100_000
    assert (as_value("3"), as_value("tv"), as_value("true"), as_value('{"a": 1}')) == (3, "tv", True, '{"a": 1}')


def test_a_fact_leads_to_the_models_that_were_trained_on_a_pin_of_it() -> None:
    from matinee.console.building.lineage import _through_pins

    edges = [
        ("fact://played", "pin://played@t1", "pinned"),
        ("pin://played@t1", "model://m@1", "trained on"),
        ("fact://played", "features://taste@1", "read by"),
    ]
    assert _through_pins(edges) == [("fact://played", "model://m@1", "trained on")]


def test_every_model_of_a_studio_is_json(source: StudioSource) -> None:
    for page in (
        source.shell(), source.front(), source.decision("home", DecisionQuery(), allowed=True), source.lineage(""),
        source.quarantine(QuarantineQuery(), allowed=True), source.members(""), source.member(MemberQuery("7", "home")),
        source.ledger(LedgerQuery()), source.search("ho"),
    ):  # fmt: skip
        assert msgspec.json.decode(msgspec.json.encode(page, enc_hook=str))


def test_the_arms_have_the_values_of_the_log(source: StudioSource) -> None:
    page = source.decision("home", DecisionQuery(), allowed=True)
    arms = {a.policy: a for a in page.arms}
    assert arms["home@1"].role == "live" and arms["home@2"].role == "challenger"
    assert arms["home@1"].choices + arms["home@2"].choices == 480
    assert arms["home@2"].value.value == pytest.approx(1.0)
    assert arms["home@1"].value.value == pytest.approx(0.5, abs=0.25)
    lift, base = arms["home@2"].against, arms["home@1"].value.value
    assert lift is not None and lift.value is not None and base is not None
    assert lift.value == pytest.approx(100 * (1.0 / base - 1), abs=1e-6)
    assert lift.told_apart and "ahead of it" in page.lead


def test_what_guards_kept_out_and_what_was_left_make_a_whole(source: StudioSource) -> None:
    page = source.decision("home", DecisionQuery(), allowed=True)
    shares = {g.name: g.share for g in page.guards}
    assert shares["licence window"] == pytest.approx(1 / 6)
    assert next(g for g in page.guards if g.name == "at most 1 a provider").note == "between slots"
    assert page.left is not None and sum(shares.values()) + page.left.share == pytest.approx(1.0)
    assert page.chance is not None and page.chance.title == "Nothing stood in slot 1 with a chance under 20 %"


def test_an_arm_without_a_choice_is_listed_and_is_not_called_worthless(
    studio: mt.Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = studio.releases.live("home")
    assert live is not None
    arms = (Arm("live", "home@9", 0.5, "live"), Arm("baseline", "home@1", 0.5, "baseline"))
    released = replace(live, arms=arms)
    monkeypatch.setattr(studio.releases, "live", lambda name: released if name == "home" else None)
    found = {a.policy: a for a in StudioSource(studio).decision("home", DecisionQuery(), allowed=True).arms}
    assert list(found)[:2] == ["home@9", "home@1"]
    assert (found["home@9"].choices, found["home@9"].value.refused) == (0, "no choice yet")
    assert found["home@9"].fallbacks is None and found["home@1"].value.baseline


def test_what_nobody_was_asked_for_is_not_counted_as_nought(studio: mt.Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards of a decision without a choice have kept out an unknown share, not 0 %."""
    from matinee.console.building import decision as decisions

    pages = TestClient(Starlette(routes=routes(studio)))
    counted = pages.get("/decisions/home").text
    monkeypatch.setattr(
        decisions,
        "guard_rows",
        lambda desk, decision: (tuple(GuardRow(g.name, g.reason, 0.0, 0) for g in decision.guards), None, 0),
    )
    assert "Licence window" in counted and "16.7\xa0%" in counted
    text = pages.get("/decisions/home").text.partition('id="s-guards"')[2].partition("</section>")[0]
    assert (
        "Licence window" in text
        and "%" not in text.replace("--w:", "")
        and text.count('<span class="val">–</span>') == 2
    )


def test_a_live_policy_that_nothing_is_compared_with_says_what_was_asked(
    source: StudioSource, studio: mt.Studio
) -> None:
    from matinee.console.building.decision import worth
    from matinee.console.building.log_figures import log_figures

    desk, home, live = source.desk, studio.decision("home"), studio.releases.live("home")
    assert live is not None
    figures, alone = (
        replace(log_figures(desk, home), worth=None),
        replace(live, arms=(Arm("live", "home@1", 1.0, "live"),)),
    )
    own = {"policy": "home@1", "against": "logged", "choices": 100, "effective_n": 100.0}
    for asked, words in (([own], "it was judged on its own choices only"), ([], "it was never evaluated")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(studio, "evidence", lambda *_, found=asked: found)
            said, how = worth(desk, home, figures, alone)
            assert said.refused is not None and said.refused.endswith(words) and "challenger" in how
    assert worth(desk, home, figures, None)[0].refused == "nothing is released"


def test_a_decision_that_nothing_is_released_for_says_so(source: StudioSource) -> None:
    page = source.decision("retry", DecisionQuery(), allowed=True)
    assert page.lead.startswith("**Nothing is released**")
    assert (
        page.value is None
        and page.value_missing == "This decision declares no reward, so its choices have no value to draw."
    )
    assert page.release.policies == () and page.release.live is None
    with pytest.raises(UnknownNameError, match="did you mean 'home'"):
        source.decision("hone", DecisionQuery(), allowed=True)


def test_evidence_is_a_row_whether_it_answers_or_refuses(source: StudioSource, studio: mt.Studio) -> None:
    rows = source.decision("home", DecisionQuery(), allowed=True).evidence
    recorded = studio.evidence("home")
    assert len(rows) == len(recorded) == 1
    assert rows[0].question == "**home@2** against what was logged"
    if recorded[0]["refused"]:
        assert rows[0].value.value is None and recorded[0]["refused"] in rows[0].says
    else:
        assert rows[0].value.value == pytest.approx(recorded[0]["difference"])


def test_lineage_says_what_breaks(source: StudioSource) -> None:
    page = source.lineage("fact://played")
    assert page.impact is not None
    assert {"decision://home"} <= {uri for uri, _, _ in page.impact.breaks}
    assert "`home` is live" in page.impact.sentence
    states = {n.uri: n.state for n in page.drawing.nodes}
    assert states["fact://played"] == "focus" and states["decision://home"] == "downstream"
    assert {i.label: i.value for i in page.impact.facts}["Key"] == "`member`"
    assert not any("://" in why for _, _, why in page.impact.breaks)  # names, which a person reads
    assert source.lineage("").impact is None
    # What a decision chooses among and whose windows its guards heed break it too.
    for fact in ("title", "licence"):
        broken = source.lineage(f"fact://{fact}").impact
        assert broken is not None and "decision://home" in {uri for uri, _, _ in broken.breaks}
    with pytest.raises(UnknownNameError):
        source.lineage("fact://playd")


def test_a_preview_is_drawn_within_the_guards_and_never_logged(source: StudioSource, studio: mt.Studio) -> None:
    logged = len(source.ledger(LedgerQuery(unit="7")).choices)
    page = source.member(MemberQuery("7", "home", slot=2, context={"device": "web"}))
    preview = page.preview
    assert preview is not None and len(preview.slots) == 2 and preview.as_posters
    assert [k.name for k in preview.kept_out] == ["Signal Box"]
    assert preview.kept_out[0].reason == "no right to show it at that moment"
    assert preview.funnel.steps == (("titles", 6), ("after licence window", 5), ("drawn", 2))
    assert all(c.name in small_domain.TITLES and c.probability for c in preview.slots)
    assert preview.chosen is preview.slots[1]
    assert dict(page.context)["device"] == "web"
    assert {(f.features, f.name) for f in page.features} == {("taste", "plays"), ("taste", "last")}
    assert len(page.choices) == logged == 6 and len(source.ledger(LedgerQuery(unit="7")).choices) == logged


def test_an_id_of_which_nothing_is_held_is_said_to_be_so(source: StudioSource) -> None:
    assert source.member(MemberQuery("987654", "home")).lead.startswith("**Nothing is held about this member**")
    assert source.member(MemberQuery("7", "home")).lead.startswith("What this member would get now")
    # Something was decided for it, though no feature says anything.
    assert "Nothing is held" not in source.member(MemberQuery("in_3", "retry")).lead


def test_every_title_of_a_choice_has_its_name(source: StudioSource) -> None:
    rows = source.ledger(LedgerQuery(decision="home")).choices
    assert rows and all(name in small_domain.TITLES for row in rows for name in row.action)


def test_a_preview_at_another_time_and_for_options(source: StudioSource) -> None:
    late = source.member(MemberQuery("7", "home", at="2027-06-01T00:00:00Z"))
    assert late.preview is not None and late.preview.fallback is not None and "kept out" in late.preview.fallback
    assert source.member(MemberQuery("7", "home", at="yesterday")).error is not None
    other = source.member(MemberQuery("in_3", "retry"))
    assert other.unit_name == "invoice" and other.preview is not None and not other.preview.as_posters
    assert [c.name for c in other.preview.slots] == ["stop"] and other.preview.fallback is not None


def test_the_ledger_joins_the_log_and_the_tables_without_doubles(source: StudioSource) -> None:
    page = source.ledger(LedgerQuery(decision="home"))
    ids = [c.id for c in page.choices]
    assert len(ids) == len(set(ids)) == 40 and page.choices[0].unit == "111" and page.choices[12].unit == "79"
    assert [c.at for c in page.choices] == sorted((c.at for c in page.choices), reverse=True)
    assert page.older is not None
    older = source.ledger(LedgerQuery(**dict(page.older)))
    assert not {c.id for c in older.choices} & set(ids) and older.choices[0].at < page.choices[-1].at
    shown = source.ledger(LedgerQuery(action="3")).choices
    assert shown and all("Ninety Days of Rain" in c.action for c in shown)


def test_a_choice_has_everything_that_was_logged_and_what_followed(source: StudioSource) -> None:
    row = next(c for c in source.ledger(LedgerQuery(unit="5", decision="home")).choices if c.outcomes)
    page = source.choice(row.id)
    assert page.headline == "Two titles for member 5" and page.decision == "home"
    assert [c.name for c in page.slots] == list(row.action) and page.slots[0].probability == pytest.approx(0.2)
    assert page.blocked == (("licence window", ("Signal Box",), 1),)
    assert [o.fact for o in page.outcomes] == ["played"] and "seconds 900" in page.outcomes[0].row
    assert msgspec.json.decode(page.raw.encode())["unit"] == 5
    fresh = source.ledger(LedgerQuery(unit="in_3", decision="retry")).choices[0]
    assert "fell back" in source.choice(fresh.id).lead
    assert source.ledger(LedgerQuery(id="nope")).missing is not None
    with pytest.raises(UnknownNameError):
        source.choice("nope")


@pytest.mark.parametrize(
    ("q", "kind", "name", "path"),
    [
        ("home", "decision", "Home page ranking", "/decisions/home"),
        ("glass", "title", "Glass Harbour", "/items/title/1"),
        ("7", "member", "member 7", "/members/7?decision=home"),
        ("in_3", "invoice", "invoice in_3", "/members/in_3?decision=retry"),
        ("played", "fact", "played", "/lineage?node=fact%3A%2F%2Fplayed#impact"),
        ("taste", "features", None, None),
        ("home@2", "policy", "home@2", "/lineage?node=policy%3A%2F%2Fhome%402#impact"),
    ],
)
def test_search_finds_by_name_and_by_id(
    source: StudioSource, q: str, kind: str, name: str | None, path: str | None
) -> None:
    hits = [h for h in source.search(q).hits if h.kind == kind]
    assert hits and (name is None or hits[0].name == name) and (path is None or hits[0].path == path)


def test_search_for_nothing_and_for_nonsense(source: StudioSource) -> None:
    assert source.search("").hits == () and source.search("zzz qqq").hits == ()


def test_a_day_of_health_is_read_from_the_log(source: StudioSource) -> None:
    rows = {r.name: r for r in source.front().health}
    home, retry = rows["Home page ranking"], rows["Retry"]
    assert home.lamps[-13:] == ("none", *["lit"] * 11, "lit") or home.lamps.count("lit") == 12
    assert (home.value, home.note) == ("12 choices", "none fell back")
    assert retry.lamps.count("out") == 12 and retry.note == "12 fell back"
    lamps, say = source.shell().lamps, source.shell().lamps_say
    assert lamps.count("out") == 12 and say == "out for 12 h"
    assert rows["Quarantine"].value == "3 rows"


def test_lamps() -> None:
    assert [lamp(0, 0), lamp(100, 0), lamp(100, 1), lamp(100, 50), lamp(1, 1)] == ["none", "lit", "dim", "out", "out"]
    assert says(NOW, ["lit"] * 22 + ["dim", "out"]) == "22 hours well, 1 weak (hour to 13:00), 1 out (hour to 14:00)"


def test_cells_of_held_rows_are_short() -> None:
    from matinee.console.building.quarantine import _cell

    assert _cell("2026-08-27T09:20:23.169029+00:00") == "2026-08-27 09:20:23"
    assert (
        _cell("2026-08-27T09:20:23.169029") == "2026-08-27T09:20:23.169029"
    )  # without a zone: as it came, that is why
    assert [_cell(None), _cell(["thriller", "action"]), _cell(-400)] == ["–", "thriller, action", "-400"]


def test_values_of_features_are_short() -> None:
    assert [shown_value(v) for v in (None, True, 1.23456, 12345.6, 7, "x", [], {})] == [
        "–",
        "yes",
        "1.23",
        "12,346",
        "7",
        "x",
        "none",
        "none",
    ]
    assert shown_value([1, 2, 3, 4, 5, 87232]) == "6 values, newest: 2, 3, 4, 5, 87232"
    assert shown_value({"a": 1, "b": 3}) == "2: b × 3, a × 1"


def test_every_page_of_a_studio_answers(studio: mt.Studio, source: StudioSource) -> None:
    choice = source.ledger(LedgerQuery()).choices[0].id
    with TestClient(Starlette(routes=routes(studio))) as client:
        for path in (
            "/", "/decisions/home", "/decisions/retry", "/lineage", "/lineage?node=decision://home", "/quarantine",
            "/members", "/members/7", "/members/in_3?decision=retry", "/choices", "/choices?decision=home&unit=7",
            f"/choices/{choice}", "/search?q=ho", "/decisions/home?ask=rollback",
            "/decisions/home?ask=release&policy=home@1&share=0.5",
        ):  # fmt: skip
            head, mark, query = path.partition("?")
            for one in (path, f"{head}.json{mark}{query}"):
                answer = client.get(one)
                assert answer.status_code in (200, 422), (one, answer.text[-600:])


# --------------------------------------------------------------------------------- acts, each on a studio of its own


@pytest.fixture
def own(tmp_path: Path) -> Iterator[mt.Studio]:
    clock = Clock()
    with mt.open(tmp_path / "acme", clock=clock) as made:
        made.use(small_domain.domain, module=small_domain.__file__)
        clock.now = NOW
        yield made


def plays(*seconds: float) -> Any:
    import polars as pl

    n = len(seconds)
    return pl.DataFrame({"member": range(n), "title": range(n), "seconds": seconds, "at": [START] * n})


def test_rows_that_are_alike_are_tried_and_let_go_together(own: mt.Studio) -> None:
    for i, seconds in enumerate([(-1.0, -2.0), (-3.0,), (-4.0, -5.0, -6.0)]):
        own.append(Played, plays(*seconds), source=f"file-{i}")
    source = StudioSource(own)
    page = source.quarantine(QuarantineQuery(), allowed=True)
    assert [(g.fact, g.rows) for g in page.groups] == [("played", 6)]
    assert len(page.batches) == 1 and page.batches[0].batches == 3 and page.batches[0].rows == 6
    name = page.batches[0].batch
    ask = source.quarantine(QuarantineQuery("drop", name), allowed=True).ask
    assert ask is not None and ask.harm and "Let 6 rows" in ask.ask
    assert source.quarantine(QuarantineQuery("drop", name), allowed=False).ask is None
    assert source.retry(name, "ada") == (0, 6)
    assert source.drop(name, "ada") == 6
    empty = source.quarantine(QuarantineQuery("drop", name, "drop:6"), allowed=True)
    assert (
        empty.headline == "Quarantine is empty" and empty.done == "**6 rows** were let go." and empty.error is not None
    )
    assert own.quarantine.count() == 0


def test_what_was_done_in_quarantine_cannot_be_made_up(own: mt.Studio) -> None:
    source = StudioSource(own)
    for made_up in ("drop:<b>", "drop:", "retry:1", "burn:1", "drop:99999999999999999999"):
        assert source.quarantine(QuarantineQuery(done=made_up), allowed=True).done is None


@pytest.mark.slow
def test_a_release_passes_its_gates_or_says_which_held_it(own: mt.Studio) -> None:
    first, second = own.save_policy("retry", mt.Uniform()), own.save_policy("retry", mt.Mixture({mt.Uniform(): 1.0}))
    source = StudioSource(own)
    assert source.release("retry", ReleaseForm(first, "1"), "ada") == 1
    panel = source.decision("retry", DecisionQuery(form=ReleaseForm(second, "0.5")), allowed=True).release
    assert panel.ask_reason == "nothing was measured about it"
    with pytest.raises(ReleaseError, match="evidence attached"):
        source.release("retry", ReleaseForm(second, "0.5"), "ada")
    assert source.release("retry", ReleaseForm(second, "0.5", "0.1", "a first look"), "ada") == 2
    live = own.releases.live("retry")
    assert live is not None and live.by == "ada" and "a first look" in live.note
    assert {(a.role, a.policy, a.share) for a in live.arms} == {
        ("challenger", second, 0.5),
        ("live", first, 0.4),
        ("baseline", first, 0.1),
    }
    page = source.decision("retry", DecisionQuery(done="2"), allowed=True)
    assert page.release.done is not None and page.release.undo is not None and page.release.back_to == 1
    assert source.rollback("retry", 1, "ada") == 3
    rows = source.decision("retry", DecisionQuery(), allowed=True).releases
    assert [r.number for r in rows] == [3, 2, 1] and rows[0].live and rows[0].rolled_back


def test_guards_that_changed_since_the_release_are_a_need(own: mt.Studio) -> None:
    arms = [Arm("live", own.save_policy("home", mt.Uniform()), 1.0, "live")]
    own.releases.put("home", "release", arms, salt="s", guards=["old rule"], note="", by="")
    needs = [n for n in StudioSource(own).front().needs if n.when == "gate"]
    assert [n.title for n in needs] == ["The guards of `home` changed"]
    assert "−old rule" in needs[0].text and "+licence window" in needs[0].text


def test_an_empty_studio_says_what_to_do_next(tmp_path: Path) -> None:
    with mt.open(tmp_path / "new") as made:
        source = StudioSource(made)
        page = source.front()
        assert page.empty is not None and page.empty.steps[0].verb == "Declare what happens."
        assert source.lineage("").empty is not None
        assert source.ledger(LedgerQuery()).headline == "No choice has been logged"
        assert source.members("").units == () and source.search("x").hits == ()


def test_a_unit_is_called_by_words(tmp_path: Path) -> None:
    advised = mt.Decision("localise", unit="title_language", among=["dub", "wait"], mode="advise", reward_unit="euro")
    with mt.open(tmp_path / "s", clock=lambda: NOW) as studio:
        studio.use(mt.Domain("local", decisions=[advised]))
        advice = studio.decide("localise", "dark-de")
        pages = TestClient(Starlette(routes=routes(studio)))
        for path in ("/decisions/localise", "/members", "/members/dark-de", f"/choices/{advice.id}"):
            text = pages.get(path).text
            assert "title language" in text.lower() and "title_language" not in text
        text = pages.get(f"/choices/{advice.id}").text
        assert "Expected, euro" in text and "Nobody has chosen on this advice" in text and ">Chance<" not in text
        assert "a person decides, on advice" in pages.get("/members/dark-de").text
