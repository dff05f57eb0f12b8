"""Serving in one process: threads that wait for the disk share a sync, and an event counts once across a reload."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from benchmarks.serving import build

import matinee as mt
from matinee import catalogue, live, unit_features
from matinee.console.building.source import StudioSource
from matinee.exceptions import BadInputError, ConsentError, StorageError
from matinee.ledger import Ledger, wal
from matinee.live import Live
from matinee.registry import Registry
from matinee.releases import Arm, Releases
from matinee.tables import Tables
from matinee.unit_features import UnitFeatures

FILMS = Path(__file__).parent / "serve" / "real_domain.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studio with films, one released policy and published features; each test has its own viewer."""
    root = tmp_path_factory.mktemp("live") / "films"
    mt.open(root).close()
    shutil.copy(FILMS, root / "films.py")
    (root / "matinee.toml").write_text('domains = []\nmodules = ["films.py"]\n')
    at = datetime.now(UTC) - timedelta(days=1)
    with mt.open(root) as studio:
        studio.append("film", pl.DataFrame({"film": [1, 2, 3], "maturity": [0, 6, 12], "at": [at] * 3}))
        rows = {"viewer": [7, 8, 9], "film": [1] * 3, "seconds": [60.0] * 3, "at": [at] * 3}
        studio.append("watched", pl.DataFrame(rows))
        studio.release("front", mt.Uniform(), 1.0, by="tests")
        studio.publish()
    return root


def in_threads(n: int, work: Callable[[int], object]) -> None:
    """Run `work(i)` in n threads at once."""
    threads = [threading.Thread(target=work, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_that_wait_for_the_disk_share_a_sync(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []

    def slow(fd: int) -> None:
        syncs.append(fd)
        time.sleep(0.05)

    monkeypatch.setattr(wal, "_sync", slow)
    with mt.open(folder) as studio:
        monkeypatch.setitem(studio.config, "durability", "disk")
        studio.decide("front", 7)
        syncs.clear()

        def both(i: int) -> None:
            made = studio.decide("front", 7)
            studio.record(made, "watched", {"viewer": 7, "film": 1, "seconds": float(i)}, id=f"o{i}")

        in_threads(12, both)
        assert len(syncs) <= 8, "24 records, each with a sync of its own, would be 24"
        assert studio.features_of("habit", 7)["plays"] == 13


def test_an_outcome_published_before_it_is_taken_in_counts_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mt.open(folder) as studio:
        made = studio.decide("front", 8)
        append = Ledger.append

        def published_meanwhile(self: Ledger, record: mt.Outcome) -> int:
            segment = append(self, record)
            if isinstance(record, mt.Outcome):
                studio.seal()
                studio.publish()
                studio.refresh()
                append(self, made)  # the next segment is open by now
            return segment

        monkeypatch.setattr(Ledger, "append", published_meanwhile)
        studio.record(made, "watched", {"viewer": 8, "film": 2, "seconds": 10.0})
        monkeypatch.undo()
        assert studio.features_of("habit", 8)["plays"] == 2


def test_the_same_outcome_from_many_threads_counts_once(folder: Path) -> None:
    with mt.open(folder) as studio:
        made = studio.decide("front", 9)
        row = {"viewer": 9, "film": 2, "seconds": 10.0}
        in_threads(8, lambda i: studio.record(made, "watched", row, id="one"))
        assert studio.features_of("habit", 9)["plays"] == 2


def test_what_the_guards_keep_out_of_a_proposal_is_made_up_from_the_whole_catalogue(tmp_path: Path) -> None:
    """300 of 600 titles are proposed; a profile of age 0 may see a fifth of them, and has 100 slots."""
    build(tmp_path / "studio", titles=600, members=12, history=20)
    with mt.open(tmp_path / "studio") as studio:
        young, grown = studio.decide("top", 3, age=0), studio.decide("top", 3, age=18)
        ages = dict(studio.as_of("film").select("film", "maturity").iter_rows())
    assert len(young.action) == len(grown.action) == 100
    assert {ages[film] for film in young.candidates} == {0}, "all that is drawn from is allowed"
    assert sum(age == 0 for age in ages.values()) >= len(young.candidates) > 100
    assert young.blocked["maturity"], "what was proposed and kept out stays in the record"
    assert set(young.candidates).isdisjoint(young.blocked["maturity"])


def watch(studio: mt.Studio, viewer: int) -> None:
    """One more film watched, in the log of this process."""
    studio.record(studio.decide("front", viewer), "watched", {"viewer": viewer, "film": 2, "seconds": 10.0})


@pytest.mark.parametrize("fails", [False, True], ids=["reads meanwhile", "fails meanwhile"])
def test_a_generation_and_what_came_since_are_swapped_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    viewer = 20 + fails
    with mt.open(folder) as studio:
        for _ in range(3):
            watch(studio, viewer)
        studio.publish()
        seen: list[int] = []
        load = Live._load

        def read() -> None:
            seen.append(studio.features_of("habit", viewer)["plays"])

        def between(self: Live, *given: Any) -> Any:
            reader = threading.Thread(target=read)
            reader.start()
            reader.join()
            if fails:
                raise StorageError("a policy that cannot be loaded")
            return load(self, *given)

        with monkeypatch.context() as patch:
            patch.setattr(Live, "_load", between)
            try:
                assert studio.refresh()
            except StorageError:
                assert fails
        assert studio.refresh() == fails
        read()
        assert seen == [3, 3]


def test_readers_never_see_an_event_twice_or_not_at_all_while_generations_change(folder: Path) -> None:
    with mt.open(folder) as studio:
        done, wrong, sent = threading.Event(), list[tuple[int, int]](), [0]

        def read() -> None:
            while not done.is_set():
                before = sent[0]
                plays = studio.features_of("habit", 30)["plays"]
                if not before <= plays <= sent[0] + 1:
                    wrong.append((before, plays))

        def forget() -> None:
            while not done.is_set():
                studio.live._erased = -1  # looks through everything again
                studio.live.poll()

        threads = [threading.Thread(target=read) for _ in range(3)] + [threading.Thread(target=forget)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            for _ in range(4):
                watch(studio, 30)
                sent[0] += 1
            studio.publish()
            studio.refresh()
        done.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert studio.features_of("habit", 30)["plays"] == 12


def test_threads_that_are_the_first_to_ask_are_served_by_one_and_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading, recorded, load = threading.Event(), threading.Event(), Live._load
    with mt.open(folder) as warm:
        watch(warm, 7)  # what is imported with the first record takes its time

    def slow(self: Live, *given: Any) -> Any:
        if threading.current_thread() is reader:
            loading.set()
            recorded.wait(1)  # in vain where the record waits for this loading
        return load(self, *given)

    monkeypatch.setattr(Live, "_load", slow)
    with mt.open(folder) as studio:
        reader = threading.Thread(target=studio.features_of, args=("habit", 31))
        reader.start()
        assert loading.wait(10)
        watch(studio, 31)
        recorded.set()
        reader.join()
        assert studio.features_of("habit", 31)["plays"] == 1
        assert len(studio.facts.listeners) == 1
        assert studio.health()["counts"]["outcomes"] == 1


def test_a_release_is_taken_up_by_what_is_still_loading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, released, load, put = threading.Event(), threading.Event(), Live._load, Releases.put

    def slow(self: Live, *given: Any) -> Any:
        made = load(self, *given)
        if threading.current_thread() is reader:
            loaded.set()
            assert released.wait(10)
            time.sleep(0.1)
        return made

    def told(self: Releases, *given: Any, **more: Any) -> Any:
        made = put(self, *given, **more)
        released.set()
        return made

    monkeypatch.setattr(Live, "_load", slow)
    monkeypatch.setattr(Releases, "put", told)
    with mt.open(folder) as studio:
        reader = threading.Thread(target=studio.health)
        reader.start()
        assert loaded.wait(10)
        made = studio.rollback("front", to=1, by="tests")
        reader.join()
        assert studio.live._serving.arms["front"].release.number == made.number


@pytest.mark.parametrize("way", ["preview", "sample"])
def test_an_event_that_comes_while_a_page_loads_its_unit_counts_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    viewer = 33 + (way == "sample")
    with mt.open(folder) as studio:
        habit, front = studio.features["habit"], studio.decision("front")
        reads_habit = SimpleNamespace(scorers=lambda: [SimpleNamespace(needs=[habit])])
        monkeypatch.setattr(studio, "policies", lambda _decision: ["reads habit"])
        monkeypatch.setattr(studio, "policy", lambda _name: reads_habit)
        monkeypatch.setattr(studio.live, "_sample_unit", lambda _decision: (viewer, {}))
        studio.features_of("habit", 7)  # so that the features are held, and this viewer's are not
        loading, recorded, since = threading.Event(), threading.Event(), UnitFeatures._since

        def slow(self: UnitFeatures, features: mt.Features) -> Any:
            if threading.current_thread() is page:
                loading.set()
                recorded.wait(0.5)  # in vain where the record waits for this loading
            return since(self, features)

        def look() -> None:
            if way == "preview":
                studio.live.preview(front, viewer, {}, cast(mt.Policy, reads_habit))
            else:
                studio.live.sample_request(front)

        monkeypatch.setattr(UnitFeatures, "_since", slow)
        page = threading.Thread(target=look)
        page.start()
        assert loading.wait(10)
        watch(studio, viewer)
        recorded.set()
        page.join()
        assert studio.features_of("habit", viewer)["plays"] == 1


def test_an_erasure_lets_go_of_one_person_and_keeps_what_others_did_since(folder: Path) -> None:
    with mt.open(folder) as studio:
        watch(studio, 40)
        watch(studio, 41)
        studio.erase("viewer", 40)
        assert [studio.features_of("habit", v)["plays"] for v in (40, 41)] == [0, 1]
        assert studio.live.choice(studio.decide("front", 40).id) is not None


def in_memory(studio: mt.Studio, console: StudioSource) -> str:
    """Everything that a serving process and its console hold of units, as text."""
    live, units = studio.live, studio.live.units
    states = {name: (dict(one.states), units.loaded[name]) for name, one in units.online.items()}
    return repr((units.events, units.appended, units.by_key, states, live._recent, live._seen, console.desk._kept))


@pytest.mark.parametrize("published", [False, True], ids=["came since", "published"])
def test_an_erasure_by_another_process_is_taken_up_with_the_next_look(folder: Path, published: bool) -> None:
    gone, stays, guest = (n + 10 * published for n in (606060601, 606060602, 606060603))
    with mt.open(folder) as serving, mt.open(folder) as other:
        console = StudioSource(serving)
        for viewer in (gone, stays):
            watch(serving, viewer)
        if published:
            other.publish()
            serving.refresh()
            watch(serving, gone)
        # A guest's row that is tied to the person by the choice that it answers.
        row = {"viewer": guest, "film": 3, "seconds": 5.0}
        serving.record(serving.decide("front", gone), "watched", row, id=f"watched by the guest of {gone}")
        console.desk.kept(("page",), lambda: f"the page of {gone}")
        plays = [serving.features_of("habit", v)["plays"] for v in (gone, stays, guest)]
        assert plays == [1 + published, 1, 1]
        assert in_memory(serving, console).count(str(gone)) > 5
        other.erase("viewer", gone)
        assert str(gone) not in str(other.registry.query("SELECT * FROM runs"))
        assert serving.refresh()
        assert str(gone) not in in_memory(serving, console)
        assert [serving.features_of("habit", v)["plays"] for v in (gone, stays, guest)] == [0, 1, 0]
        assert not serving.refresh(), "it is looked at once"
        watch(serving, gone)
        other.erase("viewer", gone)  # whoever comes back may be erased again
        serving.refresh()
        assert serving.features_of("habit", gone)["plays"] == 0


def test_an_erasure_bites_although_a_release_cannot_be_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mt.open(folder) as serving, mt.open(folder) as other:
        watch(serving, 45)
        other.erase("viewer", 45)
        other.publish()

        def broken(_name: str) -> Any:
            raise StorageError("cannot be loaded")

        monkeypatch.setattr(serving, "policy", broken)
        with pytest.raises(StorageError, match="cannot be loaded"):
            serving.refresh()
        assert serving.features_of("habit", 45)["plays"] == 0


def test_a_unit_that_another_thread_has_just_recorded_about_is_read_all_the_same(folder: Path) -> None:
    with mt.open(folder) as studio:
        made = studio.decide("front", 50)
        now = datetime.now(UTC)
        row = {"viewer": 50, "film": 1, "seconds": 1.0, "known": now + timedelta(seconds=30)}
        studio.record(made, "watched", row, at=now)
        assert studio.features_of("habit", 50)["plays"] == 1
        with pytest.raises(BadInputError, match="no earlier than the newest row"):
            studio.live.features_of(studio.features["habit"], 50, now - timedelta(hours=1))


class Member(mt.Entity, key="member"):
    member: int
    kids: bool


class NotForKids:
    """Keeps mail from children."""

    name = reason = "not for children"
    needs = (mt.Features("member", name="household", kids=mt.state(Member.kids)),)

    def mask(self, request: Any, candidates: Any) -> Any:
        return (candidates.ids != "mail") | (not request.features["kids"])


asked = mt.Decision(
    "asked", unit="member", among=["mail", "call"], consent="letters", guards=[NotForKids()], fallback="call"
)


def said(studio: mt.Studio, member: int, granted: bool, **times: Any) -> None:
    studio.append(mt.Consent, mt.Consent(person=str(member), purpose="letters", granted=granted, **times))


def live_for_all(studio: mt.Studio) -> None:
    """A release without its gates, which have tests of their own."""
    name = studio.save_policy("asked", mt.Uniform())
    studio.releases.put("asked", "release", [Arm("live", name, 1.0, "live")], salt="s", guards=(), note="", by="tests")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[mt.Studio, mt.Studio]]:
    """A process that serves and another one on the same folder; members 1 to 3 agreed before the features were published."""
    domain = mt.Domain(name="asking", facts=[Member], features=list(NotForKids.needs), decisions=[asked])
    with mt.open(tmp_path / "s") as other, mt.open(tmp_path / "s") as serving:
        other.use(domain)
        serving.use(domain)
        day = datetime.now(UTC) - timedelta(days=1)
        other.append(Member, [{"member": m, "kids": False, "at": day, "known": day} for m in (1, 2, 3)])
        for m in (1, 2, 3):
            said(other, m, granted=True, at=day, known=day)
        live_for_all(other)
        other.publish()
        serving.refresh()
        assert [profiled(serving, m) for m in (1, 2, 3, 4)] == [True, True, True, False]
        yield serving, other


def profiled(studio: mt.Studio, member: int) -> bool:
    return studio.decide("asked", member).context.get("profiled", True) is True


def test_a_consent_withdrawn_in_another_process_bites_with_the_next_look(two: tuple[mt.Studio, mt.Studio]) -> None:
    serving, other = two
    now = datetime.now(UTC)
    said(other, 1, granted=False, at=now)
    said(other, 4, granted=True, at=now)
    other.append(Member, [{"member": 2, "kids": True, "at": now}])
    generation = serving.live.store.generation
    assert serving.refresh()
    assert [profiled(serving, m) for m in (1, 2, 3, 4)] == [False, True, True, True]
    assert "mail" not in serving.decide("asked", 2).candidates
    assert not serving.refresh(), "nothing new was said"
    said(other, 2, granted=False, at=now)
    with pytest.raises(ConsentError, match="was withdrawn"):
        serving.require_consent("2", "letters")  # looks by itself
    assert serving.live.store.generation == generation
    other.publish()
    said(other, 3, granted=False, at=now)
    serving.refresh()
    assert [profiled(serving, m) for m in (1, 2, 3, 4)] == [False, False, False, True]


def test_a_withdrawal_bites_although_a_release_cannot_be_loaded(
    two: tuple[mt.Studio, mt.Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, other = two
    said(other, 1, granted=False, at=datetime.now(UTC))
    live_for_all(other)

    def broken(_name: str) -> Any:
        raise StorageError("cannot be loaded")

    monkeypatch.setattr(serving, "policy", broken)
    with pytest.raises(StorageError, match="cannot be loaded"):
        serving.refresh()
    assert not profiled(serving, 1)


@pytest.mark.parametrize("polled", [True, False])
def test_more_new_consents_than_memory_should_hold_are_read_from_the_tables(
    two: tuple[mt.Studio, mt.Studio], monkeypatch: pytest.MonkeyPatch, polled: bool
) -> None:
    serving, other = two
    for module in (live, unit_features):
        monkeypatch.setattr(module, "MANY_EVENTS", 2)
    now = datetime.now(UTC)
    writer = other if polled else serving
    rows = [{"person": str(m), "purpose": "letters", "granted": False, "at": now} for m in (1, 7, 8, 9)]
    writer.append(mt.Consent, rows)
    serving.refresh()
    assert [profiled(serving, m) for m in (1, 2)] == [False, True]


def test_a_row_that_a_generation_has_is_not_taken_in_again(two: tuple[mt.Studio, mt.Studio]) -> None:
    serving, _other = two
    now = datetime.now(UTC)
    said(serving, 5, granted=True, at=now)
    serving.publish()
    # After the generation was made and before it is taken up, and of a time before it: its number tells, not its time.
    said(serving, 6, granted=True, at=now - timedelta(hours=1), known=now - timedelta(hours=1))
    serving.refresh()
    consents = serving.features["consents"]
    for person in ("5", "6"):
        assert serving.live.features_of(consents, person, datetime.now(UTC))["granted"] == [True]


class Right(mt.Fact, key="film", scheduled=True):
    """A film may be shown from `starts` to `ends`."""

    film: int
    starts: datetime
    ends: datetime | None


class Short(mt.Entity, key="film"):
    film: int
    minutes: int


def test_a_right_is_looked_at_when_it_is_used_and_taken_up_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = datetime.now(UTC).replace(microsecond=0)
    moment, hour = timedelta(microseconds=1), timedelta(hours=1)
    shown = mt.Decision("shown", unit="member", among="film", slots=4, guards=[mt.licensed(Right)], fallback=[])
    domain = mt.Domain(name="shorts", facts=[Short, Right], decisions=[shown])
    with mt.open(tmp_path / "s") as other, mt.open(tmp_path / "s") as serving:
        for one in (other, serving):
            one.use(domain)
        early = {"at": noon - 9 * hour, "known": noon - 9 * hour}
        other.append(Short, [{"film": f, "minutes": 9, **early} for f in (1, 2, 3, 4)])
        windows = {1: (noon - hour, noon), 2: (noon, None), 3: (noon - hour, None)}
        other.append(Right, [{"film": f, "starts": s, "ends": e, **early} for f, (s, e) in windows.items()])
        name = other.save_policy("shown", mt.Uniform())
        other.releases.put(
            "shown", "release", [Arm("live", name, 1.0, "live")], salt="s", guards=(), note="", by="tests"
        )
        other.publish()
        with monkeypatch.context() as patch:
            patch.setattr(catalogue, "windows_of", lambda *_: pytest.fail("the generation has them as they are"))
            serving.refresh()
        generation = serving.live.store.generation

        def films(at: datetime) -> list[Any]:
            return sorted(serving.decide("shown", 7, at=at).action)

        assert films(noon - moment) == [1, 3], "up to its very end, and not before its start"
        assert films(noon) == [2, 3], "no publish in between"
        assert not serving.refresh()
        now = datetime.now(UTC)
        other.append(Right, [{"film": 3, "starts": noon - hour, "ends": noon, "at": now}])  # withdrawn
        serving.append(Right, [{"film": 4, "starts": noon, "ends": None, "at": now}])  # granted
        assert serving.refresh()
        assert films(noon) == [2, 4]
        assert not serving.refresh()
        live_again = [Arm("live", name, 1.0, "live")]
        other.releases.put("shown", "release", live_again, salt="t", guards=(), note="", by="tests")
        serving.refresh()
        assert films(noon) == [2, 4], "a release brings no old right back"
        assert serving.live.store.generation == generation


def test_a_preview_is_no_decision(folder: Path) -> None:
    with mt.open(folder) as studio:
        studio.decide("front", 7, dry=True)
        assert studio.health()["counts"].get("decisions:front", 0) == 0
        studio.decide("front", 7)
        assert studio.health()["counts"]["decisions:front"] == 1


def test_numbers_of_rows_are_in_the_order_of_commits(
    two: tuple[mt.Studio, mt.Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    serving, other = two
    reserve, append, order = Registry.reserve, Tables.append, list[int]()

    def slow(self: Registry, counter: str, n: int = 1) -> int:
        first = reserve(self, counter, n)
        time.sleep(0.2 if self is serving.registry else 0.0)
        return first

    def noted(self: Tables, name: str, data: pl.DataFrame, **given: Any) -> Any:
        done = append(self, name, data, **given)
        order.append(data["seq"][0])
        return done

    monkeypatch.setattr(Registry, "reserve", slow)
    monkeypatch.setattr(Tables, "append", noted)

    def work(i: int) -> None:
        time.sleep(0.1 * i)
        said((serving, other)[i], 1, granted=True, at=datetime.now(UTC))

    in_threads(2, work)
    assert order == sorted(order)
    assert serving.facts.edge("consent")[1] == order[-1] + 1


def test_a_seed_repeats_the_draws_and_without_one_they_are_new(folder: Path) -> None:
    def drawn(seed: int | None) -> list[list[Any]]:
        with mt.open(folder, seed=seed) as studio:
            return [list(studio.decide("front", 7, {"age": 99}, dry=True).action) for _ in range(20)]

    assert drawn(5) == drawn(5)
    assert drawn(5) != drawn(6)
    assert drawn(None) != drawn(None)
    with pytest.raises(mt.MatineeError, match="seed == -1, must be >= 0"):
        mt.open(folder, seed=-1)


def test_the_draws_of_a_seed_are_not_the_numbers_that_a_world_of_that_seed_is_made_of(folder: Path) -> None:
    with mt.open(folder, seed=5) as studio:
        own = studio.live._random.random(100)
    assert not np.isin(own, np.random.default_rng(5).random(1000)).any()
