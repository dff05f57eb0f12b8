"""Charts as Vega-Lite specifications: each function takes plain rows and returns a dict, so a test can read it.

A specification names its colours by the styles `ours`, `base`, `band`, ... and leaves the colours themselves to
`config("light")` or `config("dark")`: the page embeds it with the one that suits the reader's screen, a notebook with
`{**spec, "config": config("light")}`. Ours is amber, baselines are grey, labels stand in the plot, no legend.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Literal

from matinee.console.formats import decimals, fixed
from matinee.console.pages import Point

Spec = dict[str, Any]
Scheme = Literal["light", "dark"]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_WIDE = "width > 420"  # where a chart has room for words beside its last point and its releases
TAIL = 132  # pixels kept free at the right for the label of the last point, where the chart is wide enough
_END = f"width - ({_WIDE} ? {TAIL} : 0)"  # where the values end

_COLOURS: dict[str, tuple[str, str]] = {
    "ink": ("#191712", "#F1EDE3"),
    "ink-2": ("#57534A", "#B8B2A5"),
    "ink-3": ("#6B665B", "#969084"),
    "paper": ("#FBFAF6", "#12110E"),
    "grid": ("#DCD8CD", "#2F2C26"),
    "ours": ("#C47000", "#FFB01F"),
    "ours-text": ("#855400", "#FFBE45"),
    "amber": ("#F2A900", "#FFB01F"),
    "wash": ("#F9EBCA", "#3A2C10"),
    "base": ("#7B766A", "#8D877A"),
    "gap": ("#E7E4DA", "#27251F"),
    "stop": ("#B3261E", "#FF8172"),
}


def config(scheme: Scheme) -> Spec:
    """The house style for light or dark paper."""
    c = {name: pair[scheme == "dark"] for name, pair in _COLOURS.items()}
    return {
        "font": "Archivo",
        "background": None,
        "padding": 0,
        "view": {"stroke": None},
        "legend": {"disable": True},
        "title": {
            "anchor": "start", "fontSize": 15, "fontWeight": 650, "subtitleFontSize": 13, "offset": 12,
            "color": c["ink"], "subtitleColor": c["ink-2"],
        },
        "axis": {
            "title": None, "ticks": False, "domain": False, "labelFontSize": 11, "labelPadding": 8,
            "labelColor": c["ink-3"], "gridColor": c["grid"], "aria": False,
        },
        "axisX": {"grid": False, "domain": True, "domainColor": c["ink"]},
        "mark": {"aria": False, "tooltip": False},
        "line": {"strokeWidth": 2.25, "strokeCap": "round", "strokeJoin": "round", "color": c["ours"]},
        "area": {"color": c["wash"], "line": False},
        "bar": {"color": c["base"]},
        "point": {"filled": True, "size": 60},
        "rule": {"color": c["ink"]},
        "text": {"fontSize": 12, "color": c["ink-2"]},
        "range": {"category": [c["ours"], c["base"]]},
        # Vega-Lite takes a mark's colour from `color` of its style; a `fill` there would lose to the built-in blue.
        "style": {
            "ours": {"color": c["ours"], "strokeWidth": 2.25},
            "ours-mark": {"color": c["ours"], "opacity": 1},
            "ours-bar": {"color": c["amber"]},
            "ours-text": {"color": c["ours-text"], "fontWeight": 650},
            "base": {"color": c["base"], "strokeWidth": 1.5},
            "base-mark": {"color": c["base"], "opacity": 1},
            "base-bar": {"color": c["base"]},
            "band": {"color": c["wash"], "opacity": 1},
            "gap": {"color": c["gap"], "opacity": 1},
            "zero": {"color": c["ink"], "strokeWidth": 1},
            "stop": {"color": c["stop"], "strokeWidth": 1.5, "strokeDash": [4, 3]},
            "milestone": {"color": c["ink"], "strokeWidth": 1, "strokeDash": [1, 3]},
            "note": {"color": c["ink-2"], "fontSize": 12},
        },
    }  # fmt: skip


def _base(title: str, subtitle: str, height: int, layers: list[Spec]) -> Spec:
    return {
        "$schema": SCHEMA,
        "title": {"text": title, "subtitle": subtitle},
        "description": title,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "layer": layers,
    }


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def value_over_time(
    points: Sequence[Point],
    *,
    title: str,
    subtitle: str,
    unit: str = "",
    signed: bool = False,
    marks: Sequence[tuple[datetime, str]] = (),
    gaps: Sequence[tuple[datetime, datetime, str]] = (),
    stop_at: tuple[float, str] | None = None,
    baseline: Sequence[Point] = (),
    zero: bool = True,
    height: int = 320,
) -> Spec:
    """A value by day with its interval as a band, releases as dotted rules, gaps as grey blocks.

    Args:
        points: One a day; a point without a value breaks the line.
        title: The sentence that says what is seen.
        subtitle: What is measured, its unit, its interval.
        unit: "%", or nothing when the subtitle says it.
        signed: True for a difference: ticks carry their sign.
        marks: Moments with a word, such as releases.
        gaps: Stretches without data, each with what was done about it.
        stop_at: The value at which the release stops by itself, with its words.
        baseline: The same for the baseline, in grey.
        zero: True to draw the zero line over the band.
        height: Of the plot, in pixels.
    """
    x: Spec = {
        "field": "at",
        "type": "temporal",
        "scale": {"type": "utc", "range": [0, {"expr": _END}]},
        "axis": {
            "format": "%-d %b",
            "values": _days([p.at for p in points]),
            "labelFlush": 24,
            "labelOverlap": True,
            "labelSeparation": 10,
        },
    }
    shape, suffix = ("+,~r" if signed else ",~r"), (f" + ' {unit}'" if unit else "")
    y: Spec = {
        "type": "quantitative",
        "scale": {"zero": zero, "nice": True},
        "axis": {"tickCount": 5, "labelExpr": f"datum.value == 0 ? '0' : format(datum.value, '{shape}'){suffix}"},
    }
    rows = [_row(p) for p in points]
    layers = _gap_blocks(gaps, x)
    layers.append(
        {
            "name": "interval",
            "data": {"values": rows},
            "mark": {"type": "area", "style": "band", "line": False},
            "encoding": {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}},
        }
    )
    if zero:
        layers.append(_across("zero", 0.0, y))
    if stop_at is not None:
        layers += [_across("stop", stop_at[0], y), _words_at("stop words", stop_at[0], stop_at[1], y)]
    if baseline:
        layers.append(_line("baseline", "base", [_row(p) for p in baseline], x, y))
    layers += _milestones(marks, x)
    layers.append(_line("value", "ours", rows, x, y))
    known = [p for p in points if p.value is not None]
    if known:
        layers += _last(known[-1], unit, signed, x, y)
    return _base(title, subtitle, height, layers)


def _days(at: Sequence[datetime], most: int = 7) -> list[Spec]:
    """At most so many of the days, evenly apart, the last one among them; Vega-Lite drops days given as plain numbers."""
    days = sorted({one.astimezone(UTC).date() for one in at})
    every = max(1, math.ceil(len(days) / most))
    shown = reversed(days[::-1][::every])
    return [{"year": d.year, "month": d.month, "date": d.day, "utc": True} for d in shown]


def _row(point: Point) -> Spec:
    count = {} if point.n is None else {"n": point.n}
    return {"at": _stamp(point.at), "value": point.value, "low": point.low, "high": point.high, **count}


def _line(name: str, style: str, rows: list[Spec], x: Spec, y: Spec) -> Spec:
    return {
        "name": name,
        "data": {"values": rows},
        "mark": {"type": "line", "style": style, "interpolate": "linear"},
        "encoding": {"x": x, "y": {**y, "field": "value"}},
    }


def _across(style: str, at: float, y: Spec) -> Spec:
    """A level line over the plot, which ends where the values end."""
    return {
        "name": style,
        "data": {"values": [{}]},
        "mark": {"type": "rule", "style": style},
        "encoding": {"y": {**y, "datum": at}, "x": {"value": 0}, "x2": {"value": {"expr": _END}}},
    }


def _words_at(name: str, at: float, words: str, y: Spec) -> Spec:
    mark = {"type": "text", "style": "note", "align": "right", "dy": -7, "text": words, "x": {"expr": _END}}
    return {"name": name, "data": {"values": [{}]}, "mark": mark, "encoding": {"y": {**y, "datum": at}}}


def _gap_blocks(gaps: Sequence[tuple[datetime, datetime, str]], x: Spec) -> list[Spec]:
    if not gaps:
        return []
    blocks = [{"from": _stamp(a), "to": _stamp(b), "text": words} for a, b, words in gaps]
    return [
        {
            "name": "gaps",
            "data": {"values": blocks},
            "mark": {"type": "rect", "style": "gap"},
            "encoding": {"x": {**x, "field": "from"}, "x2": {"field": "to"}},
        }
    ]


def _milestones(marks: Sequence[tuple[datetime, str]], x: Spec) -> list[Spec]:
    """Releases as dotted rules; their words only where there is room for them."""
    if not marks:
        return []
    data = {"values": [{"at": _stamp(at), "text": text} for at, text in marks]}
    words = {
        "type": "text", "style": "note", "align": "left", "baseline": "top", "dx": 4, "y": 2,
        "opacity": {"expr": f"{_WIDE} ? 1 : 0"},
    }  # fmt: skip
    return [
        {"name": "releases", "data": data, "mark": {"type": "rule", "style": "milestone"}, "encoding": {"x": x}},
        {"name": "release words", "data": data, "mark": words, "encoding": {"x": x, "text": {"field": "text"}}},
    ]


def _last(point: Point, unit: str, signed: bool, x: Spec, y: Spec) -> list[Spec]:
    """The last point with its value and interval: beside it, or on a narrow screen above it."""
    spot = {"at": _stamp(point.at), "value": point.value}
    where = {"x": x, "y": {**y, "field": "value"}}
    words = {
        "type": "text", "style": "ours-text",
        "align": {"expr": f"{_WIDE} ? 'left' : 'right'"},
        "dx": {"expr": f"{_WIDE} ? 10 : 0"},
        "dy": {"expr": f"{_WIDE} ? 0 : -14"},
    }  # fmt: skip
    return [
        {
            "name": "last",
            "data": {"values": [spot]},
            "mark": {"type": "point", "style": "ours-mark", "size": 70, "filled": True},
            "encoding": where,
        },
        {
            "name": "last words",
            "data": {"values": [{**spot, "text": _tail(point, unit, signed)}]},
            "mark": words,
            "encoding": {**where, "text": {"field": "text"}},
        },
    ]


def _tail(point: Point, unit: str, signed: bool) -> str:
    """`+1.2 % [0.4, 2.0]`: the label of the last point."""
    places = decimals(point.low, point.high)
    text = fixed(point.value or 0.0, places, signed=signed) + (f" {unit}" if unit else "")
    if point.low is None or point.high is None:
        return text
    return f"{text} [{fixed(point.low, places)}, {fixed(point.high, places)}]"


def chance_histogram(
    bins: Sequence[Mapping[str, float]], *, title: str, subtitle: str, floor: float | None = None, height: int = 150
) -> Spec:
    """How probable the logged choices were: share of choices by their probability, on a log scale.

    Args:
        bins: `low` and `high` (probabilities) and `share` (of choices, 0 to 1) of each bar.
        title: The sentence that says what is seen.
        subtitle: What is measured.
        floor: The smallest probability that was logged; drawn as a rule with its figure.
        height: Of the plot, in pixels.
    """
    rows = [{"low": 100 * b["low"], "high": 100 * b["high"], "share": 100 * b["share"]} for b in bins]
    least, most = min((r["low"] for r in rows), default=0.1), max((r["high"] for r in rows), default=100.0)
    x = {
        "field": "low", "type": "quantitative", "scale": {"type": "log", "domain": [least, most], "nice": False},
        "axis": {
            "values": [v for v in (0.0001, 0.001, 0.01, 0.1, 1, 10, 100) if least * 0.999 <= v <= most * 1.001],
            "labelExpr": "format(datum.value, '~r') + ' %'", "labelFlush": True, "labelOverlap": True,
        },
    }  # fmt: skip
    y = {
        "field": "share", "type": "quantitative", "scale": {"zero": True, "nice": True},
        "axis": {"tickCount": 3, "labelExpr": "format(datum.value, '~r')"},
    }  # fmt: skip
    layers: list[Spec] = [
        {
            "name": "choices",
            "data": {"values": rows},
            "mark": {"type": "rect", "style": "base-bar", "xOffset": 1, "x2Offset": -1},
            "encoding": {"x": x, "x2": {"field": "high"}, "y": y, "y2": {"datum": 0}},
        }
    ]
    if floor is not None:
        mark = {"values": [{"low": 100 * floor, "text": f"least {100 * floor:.2g} %"}]}
        layers += [
            {"name": "floor", "data": mark, "mark": {"type": "rule", "style": "milestone"}, "encoding": {"x": x}},
            {
                "name": "floor words",
                "data": mark,
                "mark": {"type": "text", "style": "note", "align": "left", "dx": 5, "y": -9},
                "encoding": {"x": x, "text": {"field": "text"}},
            },
        ]
    return {**_base(title, subtitle, height, layers), "padding": {"top": 18, "bottom": 0, "left": 0, "right": 0}}


def lines_per_decision(rows: Sequence[tuple[str, int]], *, title: str, subtitle: str, height: int = 300) -> Spec:
    """Lines written for each decision, in the order in which they went live; the last one in amber.

    Args:
        rows: Name of the decision and its lines of code.
        title: The sentence that says what is seen.
        subtitle: What is measured.
        height: Of the plot, in pixels.
    """
    values = [{"decision": n, "lines": c, "last": i == len(rows) - 1} for i, (n, c) in enumerate(rows)]
    x = {
        "field": "decision", "type": "nominal", "sort": None, "scale": {"padding": 0.5},
        "axis": {"labelAngle": -38, "labelOverlap": False},
    }  # fmt: skip
    y = {"field": "lines", "type": "quantitative", "scale": {"zero": True}, "axis": {"tickCount": 5}}

    def stems(name: str, last: bool) -> list[Spec]:
        kind = "ours" if last else "base"
        chosen = [{"filter": f"datum.last == {str(last).lower()}"}]
        return [
            {
                "name": f"{name} stems",
                "transform": chosen,
                "mark": {"type": "rule", "style": kind},
                "encoding": {"x": x, "y": y, "y2": {"datum": 0}},
            },
            {
                "name": f"{name} dots",
                "transform": chosen,
                "mark": {"type": "point", "style": f"{kind}-mark", "filled": True, "size": 50},
                "encoding": {"x": x, "y": y},
            },
            {
                "name": f"{name} figures",
                "transform": chosen,
                "mark": {"type": "text", "style": "ours-text" if last else "note", "dy": -12},
                "encoding": {"x": x, "y": y, "text": {"field": "lines", "type": "quantitative", "format": ","}},
            },
        ]

    spec = _base(title, subtitle, height, stems("earlier", False) + stems("last", True))
    return {**spec, "data": {"values": values}}


def curves(
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    *,
    title: str,
    subtitle: str,
    x_unit: str = "",
    y_unit: str = "",
    mark: float | None = None,
    height: int = 240,
) -> Spec:
    """Several curves over one number, each with its name at its end: the first in amber, the others in grey.

    Args:
        series: Name and points of each; one that is called dashed is.
        title: The sentence that says what is seen.
        subtitle: What is measured, and its unit.
        x_unit, y_unit: Written after the figures of the axes.
        mark: A value of x that is marked by a dotted rule.
        height: Of the plot, in pixels.
    """
    right = max((p[0] for _, points in series for p in points), default=1.0)
    left = min((p[0] for _, points in series for p in points), default=0.0)
    x: Spec = {
        "field": "x", "type": "quantitative", "scale": {"domain": [left, right], "nice": False, "range": [0, {"expr": _END}]},
        "axis": {"tickCount": 5, "labelExpr": f"format(datum.value, ',~r') + '{x_unit}'", "labelFlush": True},
    }  # fmt: skip
    y: Spec = {
        "type": "quantitative", "scale": {"zero": True, "nice": True},
        "axis": {"tickCount": 5, "labelExpr": f"format(datum.value, ',~r') + '{y_unit}'"},
    }  # fmt: skip
    layers: list[Spec] = []
    if mark is not None:
        rule = {"type": "rule", "style": "milestone"}
        layers.append({"name": "mark", "data": {"values": [{"x": mark}]}, "mark": rule, "encoding": {"x": x}})
    ends = _apart([(points[-1][1], sum(v for _, v in points)) if points else (0.0, 0.0) for _, points in series])
    for k in reversed(range(len(series))):
        who, points = series[k]
        values = [{"x": a, "value": round(b, 4)} for a, b in points]
        if not values:
            continue
        style = "ours" if k == 0 else "base"
        line = {"type": "line", "style": style, "interpolate": "linear", **({"strokeDash": [5, 3]} if "dashed" in who else {})}
        words = {
            "type": "text", "style": "ours-text" if k == 0 else "note", "align": {"expr": f"{_WIDE} ? 'left' : 'right'"},
            "dx": {"expr": f"{_WIDE} ? 8 : 0"}, "dy": {"expr": f"{_WIDE} ? 0 : {-10 - 14 * k}"},
        }  # fmt: skip
        layers += [
            {"name": who, "data": {"values": values}, "mark": line, "encoding": {"x": x, "y": {**y, "field": "value"}}},
            {
                "name": f"{who} words",
                "data": {"values": [{"x": values[-1]["x"], "value": ends[k], "text": who}]},
                "mark": words,
                "encoding": {"x": x, "y": {**y, "field": "value"}, "text": {"field": "text"}},
            },
        ]
    return _base(title, subtitle, height, layers)


def _apart(ends: Sequence[tuple[float, float]], least: float = 0.07) -> list[float]:
    """Heights of the words at the ends of curves, moved down until they do not touch.

    Args:
        ends: Where each curve ends, and what it holds in all: of two that end alike the higher one has its word above.
        least: Between two words, as a share of the highest end.
    """
    step = least * max([*(abs(end) for end, _ in ends), 1e-9])
    out, order = [end for end, _ in ends], sorted(range(len(ends)), key=lambda k: (-round(ends[k][0], 6), -ends[k][1]))
    for above, k in pairwise(order):
        out[k] = min(out[k], out[above] - step)
    return out


def dumbbells(
    rows: Sequence[tuple[str, float, float]], *, title: str, subtitle: str, height: int = 240
) -> Spec:
    """Two shares of each kind on one line: a grey ring and an amber dot.

    Args:
        rows: Kind, share before (ring) and share now (dot), per cent; in the order in which they are drawn.
        title: The sentence that says what is seen.
        subtitle: What is measured.
        height: Of the plot, in pixels.
    """
    values = [{"kind": kind, "before": round(a, 3), "now": round(b, 3)} for kind, a, b in rows]
    y: Spec = {"field": "kind", "type": "nominal", "sort": None, "axis": {"labelLimit": 140, "labelFontSize": 12}}
    x: Spec = {
        "type": "quantitative", "scale": {"zero": True, "nice": True},
        "axis": {"tickCount": 5, "grid": True, "labelExpr": "format(datum.value, '~r') + ' %'"},
    }  # fmt: skip
    layers: list[Spec] = [
        {
            "name": "between",
            "mark": {"type": "rule", "style": "base"},
            "encoding": {"y": y, "x": {**x, "field": "before"}, "x2": {"field": "now"}},
        },
        {
            "name": "before",
            "mark": {"type": "point", "style": "base-mark", "filled": False, "size": 70, "strokeWidth": 2},
            "encoding": {"y": y, "x": {**x, "field": "before"}},
        },
        {
            "name": "now",
            "mark": {"type": "point", "style": "ours-mark", "filled": True, "size": 80},
            "encoding": {"y": y, "x": {**x, "field": "now"}},
        },
    ]
    return {**_base(title, subtitle, height, layers), "data": {"values": values}}
