"""Shares, roles and rollbacks, by hand; the gates are tried in tests/loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from matinee.exceptions import MatineeError, ReleaseError, UnknownNameError
from matinee.graph import Graph
from matinee.registry import Registry
from matinee.releases import Arm, Release, Releases, arms_after

Shape = list[tuple[str, str, float]]


@pytest.fixture
def releases(tmp_path: Path) -> Iterator[Releases]:
    registry = Registry(tmp_path / "studio.db", lambda: datetime(2026, 11, 22, tzinfo=UTC))
    graph = Graph(registry)
    graph.put("decision://home", {})
    yield Releases(registry, graph)
    registry.close()


def put(releases: Releases, arms: Sequence[Arm]) -> Release:
    return releases.put("home", "release", arms, salt="s", guards=["licence"], note="", by="Ada")


def live(*arms: Arm) -> Release:
    return Release("home", 1, "release", arms, "s", (), "", "", 0.0)


def shape(arms: Sequence[Arm]) -> Shape:
    assert sum(a.share for a in arms) == pytest.approx(1)
    return [(a.role, a.policy, pytest.approx(a.share)) for a in arms]


ONE = live(Arm("live", "home@1", 1.0, "live"))
HALF = live(
    Arm("live", "home@1", 0.7, "live"),
    Arm("challenger", "home@2", 0.2, "challenger"),
    Arm("baseline", "home@0", 0.1, "baseline"),
)


@pytest.mark.parametrize(
    ("before", "policy", "share", "held", "after"),
    [
        (None, "home@1", 0.05, 0.0, [("live", "home@1", 1.0)]),
        (ONE, "home@2", 0.05, 0.0, [("live", "home@1", 0.95), ("challenger", "home@2", 0.05)]),
        (ONE, "home@2", 0.2, 0.1, [("live", "home@1", 0.7), ("challenger", "home@2", 0.2), ("baseline", "home@1", 0.1)]),
        (ONE, "home@2", 1.0, 0.0, [("live", "home@2", 1.0)]),
        (ONE, "home@2", 1.0, 0.1, [("live", "home@2", 0.9), ("baseline", "home@1", 0.1)]),
        (HALF, "home@2", 0.5, 0.0, [("live", "home@1", 0.4), ("challenger", "home@2", 0.5), ("baseline", "home@0", 0.1)]),
        (HALF, "home@2", 1.0, 0.0, [("live", "home@2", 0.9), ("baseline", "home@0", 0.1)]),
        (HALF, "home@3", 0.3, 0.0, [("live", "home@1", 0.6), ("challenger", "home@3", 0.3), ("baseline", "home@0", 0.1)]),
    ],
)
def test_the_arms_after_a_release(before: Release | None, policy: str, share: float, held: float, after: Shape) -> None:
    assert shape(arms_after(before, policy, share, held)) == after


@pytest.mark.parametrize(
    ("share", "held"), [(0.0, 0.0), (-0.1, 0.0), (1.1, 0.0), (0.5, 1.0), (0.5, -0.1), (0.8, 0.3), (float("nan"), 0.0)]
)
def test_shares_that_cannot_be_are_refused(share: float, held: float) -> None:
    with pytest.raises(MatineeError, match="share"):
        arms_after(ONE, "home@2", share, held)


def test_the_newest_release_is_live_and_the_version_moves(releases: Releases) -> None:
    assert releases.live("home") is None
    before = releases.version()
    put(releases, [Arm("live", "home@1", 1.0, "live")])
    second = put(releases, arms_after(releases.live("home"), "home@2", 0.1, 0.0))
    assert releases.live("home") == second
    assert (second.number, second.live.policy, second.baseline.policy, second.guards) == (2, "home@1", "home@1", ("licence",))
    assert releases.version() != before
    assert releases.live("away") is None


def test_rollbacks_go_further_back_each_time(releases: Releases) -> None:
    with pytest.raises(ReleaseError, match="has no release"):
        releases.roll_back("home", to=None, note="", by="")
    for k in (1, 2, 3):
        put(releases, [Arm("live", f"home@{k}", 1.0, "live")])
    backs = [releases.roll_back("home", to=None, note="", by="") for _ in range(2)]
    assert [b.live.policy for b in backs] == ["home@2", "home@1"]
    assert backs[0].note == "back to release 2"
    with pytest.raises(ReleaseError, match="is the first one"):
        releases.roll_back("home", to=None, note="", by="")
    assert releases.roll_back("home", to=3, note="it was not the cause", by="").live.policy == "home@3"
    with pytest.raises(UnknownNameError, match="release of home == '99'"):
        releases.roll_back("home", to=99, note="", by="")
    assert [r.number for r in releases.all("home")] == [6, 5, 4, 3, 2, 1]


def test_a_release_is_made_with_its_lineage_or_not_at_all(releases: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Graph, "replace_uses", dies)
    with pytest.raises(KeyboardInterrupt):
        put(releases, [Arm("live", "home@1", 1.0, "live")])
    assert releases.live("home") is None
    assert releases.version()[0] == 0
