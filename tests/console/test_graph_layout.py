"""The layered drawing of the lineage graph."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from matinee.console.graph_layout import HEIGHT, WIDTH, draw, layers, reach

NODES = [
    ("fact://a", "fact", "a"),
    ("features://f", "features", "f"),
    ("model://m", "model", "m"),
    ("decision://d", "decision", "d"),
]
EDGES = [
    ("fact://a", "features://f", "read by"),
    ("features://f", "model://m", "trained on"),
    ("model://m", "decision://d", "decides"),
]
PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25)


def test_every_edge_points_to_the_right() -> None:
    drawing = draw(NODES, EDGES)
    x = {n.uri: n.x for n in drawing.nodes}
    assert all(x[e.source] + WIDTH < x[e.target] for e in drawing.edges)
    assert [text for _, text in drawing.layers] == ["Facts", "Features", "Models", "Decisions"]


def test_a_focus_lights_what_breaks_and_marks_what_it_stands_on() -> None:
    drawing = draw(NODES, EDGES, focus="features://f")
    assert {n.name: n.state for n in drawing.nodes} == {
        "a": "upstream",
        "f": "focus",
        "m": "downstream",
        "d": "downstream",
    }
    assert {(e.source, e.state) for e in drawing.edges} == {
        ("fact://a", "upstream"), ("features://f", "downstream"), ("model://m", "downstream"),
    }  # fmt: skip


def test_a_node_alone_in_focus_leaves_the_rest_aside() -> None:
    drawing = draw([*NODES, ("fact://z", "fact", "z")], EDGES, focus="fact://z")
    states = {n.name: n.state for n in drawing.nodes}
    assert states["z"] == "focus" and {states[n] for n in "afmd"} == {"aside"}


def test_facts_stay_at_the_left_and_other_beginnings_stand_before_their_users() -> None:
    nodes = [*NODES, ("model://kept", "model", "kept"), ("fact://late", "fact", "late")]
    edges = [*EDGES, ("model://kept", "decision://d", "decides"), ("fact://late", "decision://d", "rewards")]
    x = {n.name: n.x for n in draw(nodes, edges).nodes}
    assert x["late"] == x["a"] and x["kept"] == x["m"]


def test_a_cycle_and_an_edge_to_nowhere_do_not_stop_the_drawing() -> None:
    drawing = draw(NODES, [*EDGES, ("decision://d", "fact://a", "odd"), ("fact://gone", "model://m", "odd")])
    assert len(drawing.nodes) == 4 and len(drawing.edges) == 4


def test_reach_counts_steps() -> None:
    assert reach("a", [("a", "b"), ("b", "c"), ("a", "c"), ("x", "y")]) == {"b": 1, "c": 1}


@given(PAIRS)
def test_no_two_nodes_overlap(pairs: list[tuple[int, int]]) -> None:
    nodes = [(str(i), "fact" if i < 3 else "model", str(i)) for i in range(10)]
    drawing = draw(nodes, [(str(a), str(b), "x") for a, b in pairs])
    assert len(drawing.nodes) == 10
    boxes = [(n.x, n.y) for n in drawing.nodes]
    assert all(abs(x - u) >= WIDTH or abs(y - v) >= HEIGHT for i, (x, y) in enumerate(boxes) for u, v in boxes[:i])
    assert all(n.x >= 0 and n.x + n.width <= drawing.width and n.y + n.height <= drawing.height for n in drawing.nodes)


@given(PAIRS)
def test_layers_rise_along_edges_where_there_is_no_cycle(pairs: list[tuple[int, int]]) -> None:
    forward = [(str(min(p)), str(max(p))) for p in pairs if p[0] != p[1]]
    found = layers([str(i) for i in range(10)], forward)
    assert all(found[a] < found[b] for a, b in forward)


def test_a_chain_longer_than_the_stack_is_laid_out() -> None:
    nodes = [str(i) for i in range(5000)]
    assert layers(nodes, list(pairwise(nodes)))["4999"] == 4999
