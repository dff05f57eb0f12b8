"""Lineage: what was used, what depends on it, in how many steps."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from matinee.exceptions import MatineeError, UnknownNameError
from matinee.graph import Graph, parse
from matinee.registry import Registry


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[Graph]:
    registry = Registry(tmp_path / "studio.db")
    made = Graph(registry)
    made.put("features://taste@1", {"n": 1}, {"fact://played": "read by"})
    made.put("model://ranker@1", {}, {"features://taste@1": "trained on", "fact://played": "pinned"})
    made.put("policy://home@1", {}, {"model://ranker@1": "scored by"})
    yield made
    registry.close()


def steps(graph: Graph, uri: str) -> dict[str, int]:
    return {r["uri"]: r["steps"] for r in graph.impact(uri).rows()}


def test_impact_is_nearest_first_and_each_thing_once(graph: Graph) -> None:
    assert steps(graph, "fact://played") == {"features://taste@1": 1, "model://ranker@1": 1, "policy://home@1": 2}
    assert graph.impact("policy://home@1").notes() == ["nothing depends on policy://home@1"]


def test_origin_goes_the_other_way(graph: Graph) -> None:
    assert {r["uri"] for r in graph.origin("policy://home@1").rows()} == {
        "model://ranker@1", "features://taste@1", "fact://played",
    }  # fmt: skip


def test_a_cycle_ends(graph: Graph) -> None:
    graph.put("fact://played", None, {"policy://home@1": "made by"})
    assert "policy://home@1" in steps(graph, "fact://played")


def test_putting_again_updates_and_putting_nothing_keeps(graph: Graph) -> None:
    graph.put("features://taste@1", {"n": 2})
    graph.put("features://taste@1")
    assert graph.get("features://taste@1").data == {"n": 2}
    assert len(graph.nodes("features")) == 1


def test_uses_of_a_kind_are_replaced_and_others_stay(graph: Graph) -> None:
    graph.put("decision://home", {}, {"fact://played": "rewards"})
    graph.replace_uses("decision://home", "decides for", ["policy://home@1"])
    graph.put("policy://home@2", {})
    graph.replace_uses("decision://home", "decides for", ["policy://home@2"])
    into = {(e.source, e.kind) for e in graph.edges() if e.target == "decision://home"}
    assert into == {("fact://played", "rewards"), ("policy://home@2", "decides for")}


@pytest.mark.parametrize("uri", ["played", "fact://", "://x", "film://x", ""])
def test_what_is_no_uri_is_refused(uri: str) -> None:
    with pytest.raises(MatineeError, match="must be one of fact://NAME"):
        parse(uri)


def test_a_bare_name_is_answered_with_its_uris(graph: Graph) -> None:
    for version in (6, 7, 8, 9):
        graph.put(f"policy://stage@{version}", {})
    with pytest.raises(MatineeError, match=r"uri == 'stage@9', must be a URI.*did you mean 'policy://stage@9'\?"):
        graph.impact("stage@9")
    newest = "'policy://stage@7' or 'policy://stage@8' or 'policy://stage@9'"
    with pytest.raises(MatineeError, match=rf"did you mean {newest}\?"):
        graph.impact("stage")
    graph.put("decision://stage", {})
    with pytest.raises(MatineeError, match=r"did you mean 'decision://stage'\?"):
        graph.impact("stage")


def test_an_unknown_uri_names_the_nearest(graph: Graph) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'fact://played'"):
        graph.impact("fact://plaid")


def test_things_are_stamped_by_the_studios_clock_and_listed_in_the_order_they_came(tmp_path: Path) -> None:
    times = iter([datetime(2031, 1, 2, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC), datetime(2032, 1, 1, tzinfo=UTC)])
    graph = Graph(Registry(tmp_path / "studio.db", lambda: next(times)))
    for uri in ("policy://home@1", "policy://home@2", "policy://home@3"):
        graph.put(uri, {})
    nodes = graph.nodes("policy")
    assert [n.name for n in nodes] == ["home@1", "home@2", "home@3"], "a clock that goes back changes no order"
    assert [datetime.fromtimestamp(n.at, UTC).year for n in nodes] == [2031, 2030, 2032]
