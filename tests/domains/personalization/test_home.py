"""The home page: guards, labels that do not see the future, and a recipe that gives policies that decide."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import matinee as mt
from matinee.decisions import choose
from matinee.domains.personalization.facts import Licence, Member, Played, Title
from matinee.domains.personalization.features import profile
from matinee.domains.personalization.home import Labels, Profiled, events, home, names, reason, recommenders, train
from matinee.domains.personalization.recommenders import Following, Histories, Popular
from matinee.testing import check_features, check_guard
from matinee.times import to_us
from matinee.training import Allowed

NOW = datetime(2026, 3, 1, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)
MEMBERS, TITLES, SESSIONS = 60, 45, 18


def plays() -> pl.DataFrame:
    """Two kinds of members, each walking through their half of the catalogue; one member never agreed."""
    rng = np.random.default_rng(0)
    rows = []
    for m in range(MEMBERS):
        at = int(rng.integers(0, 20))
        for k in range(SESSIONS):
            at = (at + int(rng.integers(1, 3))) % 22
            rows.append((m, 2 * at + m % 2, START + timedelta(days=3 * k, hours=m % 24, minutes=m)))
    return pl.DataFrame(
        {
            "member": [m for m, _, _ in rows],
            "title": [t for _, t, _ in rows],
            "seconds": 1_800.0,
            "at": pl.Series([a for _, _, a in rows], dtype=pl.Datetime("us", "UTC")),
        }
    ).with_columns(known=pl.col("at"))


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> mt.Studio:
    made = mt.open(tmp_path_factory.mktemp("home") / "s", domains=["personalization"], clock=lambda: NOW)
    when = {"at": pl.lit(START, pl.Datetime("us", "UTC")), "known": pl.lit(START, pl.Datetime("us", "UTC"))}
    ids = list(range(TITLES))
    made.append(Title, pl.DataFrame({"title": ids, "name": [f"Title {i}" for i in ids]}).with_columns(**when))
    made.append(Licence, pl.DataFrame({"title": ids}).with_columns(territory=pl.lit("*"), starts=when["at"], **when))
    made.append(Member, pl.DataFrame({"member": list(range(MEMBERS))}).with_columns(**when))
    agreed = [str(m) for m in range(MEMBERS - 1)]
    yes = pl.DataFrame({"person": agreed, "purpose": "personalization", "granted": True})
    made.append(mt.Consent, yes.with_columns(**when))
    made.append(Played, plays())
    return made


def test_who_did_not_agree_is_not_learned_from(studio: mt.Studio) -> None:
    found = events(studio.source(home))
    assert MEMBERS - 1 not in found["member"].to_list()
    assert len(found) == (MEMBERS - 1) * SESSIONS
    taken_back = pl.DataFrame({"person": ["0"], "purpose": ["personalization"], "granted": [False]})
    when = pl.lit(NOW - timedelta(days=1), pl.Datetime("us", "UTC"))
    other = mt.open(studio.root.parent / "other", domains=["personalization"], clock=lambda: NOW)
    other.append(Played, plays().head(SESSIONS))
    other.append(
        mt.Consent, taken_back.with_columns(granted=pl.lit(value=True), at=when - pl.duration(days=5), known=when)
    )
    assert len(events(other.source(home))) == SESSIONS
    other.append(mt.Consent, taken_back.with_columns(at=when, known=when))
    assert len(events(other.source(home))) == 0


def test_consent_that_has_ended_is_none(tmp_path: Path) -> None:
    made = mt.open(tmp_path / "s", domains=["personalization"], clock=lambda: NOW)
    made.append(Played, plays().head(SESSIONS))
    when = pl.lit(START, pl.Datetime("us", "UTC"))
    yes = pl.DataFrame({"person": ["0"], "purpose": ["personalization"], "granted": [True]})
    made.append(mt.Consent, yes.with_columns(at=when, known=when, until=pl.lit(NOW, pl.Datetime("us", "UTC"))))

    def learned(now: datetime) -> int:
        return len(events(Allowed(made.facts, "member", ["personalization"], now)))

    assert learned(NOW - timedelta(seconds=1)) == SESSIONS
    assert learned(NOW) == learned(NOW + timedelta(days=1)) == 0
    assert learned(START - timedelta(seconds=1)) == 0  # nothing was said yet


def test_a_small_catalogue_is_no_trouble(studio: mt.Studio) -> None:
    every = events(studio.source(home)).filter(pl.col("title") < 6)
    cut = every["at"].sort()[len(every) // 2]
    before = Histories.of(every.filter(pl.col("at") < cut))
    labels = Labels(before, cut, [Popular().fit(before)])(studio.source(home))
    assert set(labels["action"].to_list()) <= set(range(6))


def test_labels_stand_before_their_play_and_see_only_what_was_before_the_cut(studio: mt.Studio) -> None:
    every = events(studio.source(home))
    cut = every["at"].sort()[int(0.8 * len(every))]
    before = Histories.of(every.filter(pl.col("at") < cut))
    labels = Labels(before, cut, [Following().fit(before)])(studio.source(home))
    assert labels["at"].min() >= cut - timedelta(microseconds=1)  # type: ignore[operator]  # a time
    chosen = labels.filter(pl.col("y") == 1)
    assert len(chosen) == labels["group"].n_unique()
    happened = every.select("member", "title", "at").rows()
    moment = timedelta(microseconds=1)
    assert all((u, t, a + moment) in set(happened) for u, t, a in chosen.select("unit", "action", "at").iter_rows())
    days = chosen.select("unit", pl.col("at").dt.date())
    assert days.n_unique() == len(days)  # one moment a member and day
    seen = {int(m): set(before.titles[before.items[before.offsets[i] : before.offsets[i + 1]]].tolist())
            for i, m in enumerate(before.members)}  # fmt: skip
    others = labels.filter(pl.col("y") == 0).select("unit", "action")
    assert all(t not in seen.get(u, set()) for u, t in others.iter_rows())


def test_the_recipe_gives_a_baseline_and_better_ones_that_decide(studio: mt.Studio) -> None:
    policies = train(studio)
    assert policies == ["home@1", "home@2", "home@3"]
    assert "baseline" in studio.policies("home")["home@1"]["note"]
    studio.publish()
    studio.release("home", "home@3", share=1.0)
    choice = studio.decide("home", member=4, country="DE")
    assert choice.fallback is None
    assert len(choice.action) == len(set(choice.action)) == 10
    assert all(0 < p <= 1 for p in choice.propensities)
    kept = {n.name for n in studio.graph.nodes("model")}
    assert {"home-popular@1", "home-together@1", "home-ranker@1"} <= kept


def candidates() -> mt.Candidates:
    """Four titles: one out of its window, one unrated, one for adults."""
    day = 86_400_000_000
    now = to_us(NOW)
    return mt.Candidates(
        np.array([1, 2, 3, 4]),
        {
            "licence.starts": np.array([[now - day]] * 4),
            "licence.ends": np.array([[now - 1], [now + day], [now + day], [now + day]]),
            "licence.territory": np.array([["*"]] * 3 + [["FR"]]),
            "maturity": np.array([0.0, np.nan, 18.0, 6.0]),
            "provider": np.array(["a", "a", "a", "a"]),
            "provider#codes": np.zeros(4, np.int64),
        },
    )


def request(limit: int | None, country: str = "FR") -> mt.Request:
    features = {**dict.fromkeys(profile.names), "maturity_limit": limit}
    return mt.Request(
        "home",
        1,
        NOW,
        {"country": country},
        {**features, **{n: {} for g in home.needs for n in g.names if n.startswith("cap")}},
    )


def test_guards_hold_for_the_member_who_asks() -> None:
    def left(limit: int | None, country: str = "FR") -> list[object]:
        choice = choose(home, mt.Uniform(), request(limit, country), candidates(), uniforms=np.full(10, 0.3))
        return sorted(choice.candidates, key=str)

    assert left(None) == [2, 3, 4]  # 1 is out of its window
    assert left(12) == [4]  # 2 is not rated, 3 is for adults
    assert left(18, "DE") == [3]  # 4 is licensed for France only, 2 is not rated


def test_at_most_three_of_a_provider() -> None:
    many = mt.Candidates(
        np.arange(8),
        {
            "licence.starts": np.zeros((8, 1), np.int64), "licence.ends": np.full((8, 1), to_us(NOW) + 1),
            "licence.territory": np.array([["*"]] * 8), "maturity": np.zeros(8),
            "provider": np.array(list("aaaaabbb")), "provider#codes": np.array([0] * 5 + [1] * 3),
        },
    )  # fmt: skip
    choice = choose(home, mt.Uniform(), request(None), many, uniforms=np.random.default_rng(0).random(10))
    assert len(choice.action) == 6
    assert sum(int(a) < 5 for a in choice.action) == 3


def test_guards_keep_their_promises() -> None:
    assert profile in home.needs  # or the limit would never be read
    check_guard(Profiled(), request=request(12), candidates=candidates())
    for guard in home.guards:
        check_guard(guard, request=request(12), candidates=candidates())
    check_features(profile, worlds=1)


def test_a_reason_names_what_truly_pulled(studio: mt.Studio) -> None:
    every = events(studio.source(home))
    parts = {n: p.fit(Histories.of(every)) for n, p in recommenders().items() if n in ("following", "popular")}
    following = parts["following"]
    best = int(following.titles[following.scores([10]).argmax()])
    assert reason(studio, {"played_recently": [10]}, best, parts) == "because you watched Title 10"
    assert reason(studio, {}, best, {"popular": Popular()}) == "popular with members now"
    assert names(studio, [3, 99]) == {3: "Title 3"}


def test_names_are_read_from_what_is_served_and_from_the_facts_only_where_they_must(
    studio: mt.Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio.publish()
    studio.refresh()
    newcomer = {"title": [TITLES], "name": ["Just in"], "at": [START], "known": [START]}
    studio.append(Title, pl.DataFrame(newcomer))
    assert names(studio, [TITLES, 3, 3, -1]) == {3: "Title 3", TITLES: "Just in"}
    assert names(studio, []) == {}
    monkeypatch.setattr(studio, "as_of", lambda *_: pytest.fail("a table was read for names that are served"))
    assert names(studio, [44, 0]) == {0: "Title 0", 44: "Title 44"}
