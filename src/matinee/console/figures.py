"""Charts for pages: a specification from `charts`, with the same data as a table beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from matinee.console import charts
from matinee.console.formats import count, day, decimals, fixed, percent
from matinee.console.pages import Chart, Point


def value_figure(
    name: str,
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
    of: str = "Choices",
) -> Chart:
    """A value by day, with its interval."""
    spec = charts.value_over_time(
        points,
        title=title,
        subtitle=subtitle,
        unit=unit,
        signed=signed,
        marks=marks,
        gaps=gaps,
        stop_at=stop_at,
        baseline=baseline,
        zero=zero,
        height=height,
    )
    rows = []
    for p in points:
        places = decimals(p.low, p.high)
        tail = f" {unit}" if unit else ""
        value = "no answer" if p.value is None else fixed(p.value, places, signed=signed) + tail
        ends = [None if v is None else fixed(v, places, signed=signed) for v in (p.low, p.high)]
        rows.append((day(p.at), count(p.n), value, "–" if None in ends else f"[{ends[0]}, {ends[1]}]"))
    return Chart(name, spec, ("Day", of, "Value", "95 % interval"), tuple(rows), height)


def chance_figure(name: str, propensities: Sequence[float], *, of: str, said: str = "was chosen") -> Chart | None:
    """How probable what was logged was; None without any choice.

    Args:
        name: Id of the figure in the page.
        propensities: Logged probabilities, in (0, 1].
        of: What has the chance: "the title in slot 1".
        said: The same in the title: "nothing stood in slot 1".
    """
    known = [p for p in propensities if 0 < p <= 1]
    if not known:
        return None
    least, most = min(known), max(known)
    # Whole decades around what was logged; three bars a decade, or six where one decade holds everything.
    first, last = math.floor(math.log10(least) + 1e-9), min(0, math.ceil(math.log10(most) - 1e-9))
    last = max(last, first + 1) if first < 0 else 0
    first = min(first, last - 1)
    fine = 6 if last - first == 1 else 3
    edges = [10 ** (first + i / fine) for i in range(fine * (last - first) + 1)]
    counts = [0] * (len(edges) - 1)
    for p in known:
        counts[min(len(counts) - 1, max(0, math.floor(fine * (math.log10(p) - first) + 1e-9)))] += 1
    bins = [
        {"low": low, "high": high, "share": n / len(known)}
        for low, high, n in zip(edges, edges[1:], counts, strict=False)
    ]
    spec = charts.chance_histogram(
        bins,
        title=f"Nothing {said} with a chance under {100 * least:.2g} %",
        subtitle=f"Chance of {of}, share of {count(len(known))} choices in per cent",
        floor=least,
        height=180,
    )
    rows = tuple((f"{100 * b['low']:.3g} to {100 * b['high']:.3g} %", percent(b["share"])) for b in bins)
    return Chart(name, spec, ("Chance", "Share of choices"), rows, 180)


def lines_figure(
    name: str,
    rows: Sequence[tuple[str, int]],
    *,
    title: str = "",
    subtitle: str = "Lines written for each decision, in the order they were added",
) -> Chart | None:
    """Lines of code, in order, the last of them in amber; None with fewer than two."""
    if len(rows) < 2:
        return None
    first, last = rows[0], rows[-1]
    said = title or f"{last[0]} took {last[1]} lines; the first, {first[0]}, took {first[1]}"
    spec = charts.lines_per_decision(rows, title=said, subtitle=subtitle)
    return Chart(name, spec, ("Decision", "Lines"), tuple((n, count(c)) for n, c in rows), 300)


def coverage_figure(
    name: str, series: Sequence[tuple[str, Sequence[float]]], *, title: str, subtitle: str, height: int = 240
) -> Chart:
    """How much of a catalogue the first pages of each policy show, page by page; ours first."""
    spec = charts.curves(
        [(who, [(k + 1.0, v) for k, v in enumerate(values)]) for who, values in series],
        title=title, subtitle=subtitle, height=height, x_unit="", y_unit="",
    )  # fmt: skip
    most = max(len(v) for _, v in series)
    at = sorted({1, *(max(1, round(most * k / 8)) for k in range(1, 9))})
    rows = tuple(
        (count(k), *(f"{fixed(v[min(k, len(v)) - 1], 1)} %" for _, v in series)) for k in at
    )
    return Chart(name, spec, ("Pages", *(who for who, _ in series)), rows, height)


def concentration_figure(
    name: str,
    steps: Sequence[float],
    series: Sequence[tuple[str, Sequence[float]]],
    *,
    title: str,
    subtitle: str,
    head: float,
    height: int = 240,
) -> Chart:
    """How concentrated places are on what is watched most; ours first, what was watched last."""
    spec = charts.curves(
        [(who, list(zip(steps, values, strict=True))) for who, values in series],
        title=title, subtitle=subtitle, height=height, x_unit=" %", y_unit="", mark=head,
    )  # fmt: skip
    rows = tuple(
        (f"{fixed(x, 0)} %", *(f"{fixed(values[k], 1)} %" for _, values in series))
        for k, x in enumerate(steps)
        if k % 4 == 0
    )
    return Chart(name, spec, ("Most watched", *(who for who, _ in series)), rows, height)


def mix_figure(
    name: str, rows: Sequence[tuple[str, float, float]], *, title: str, subtitle: str, called: str
) -> Chart:
    """Shares of kinds, per cent, in histories (rings) and on pages (dots)."""
    height = 26 * len(rows) + 24
    spec = charts.dumbbells(rows, title=title, subtitle=subtitle, height=height)
    cells = tuple((kind, f"{fixed(a, 1)} %", f"{fixed(b, 1)} %", f"{fixed(b - a, 1, signed=True)}") for kind, a, b in rows)
    return Chart(name, spec, (called.capitalize(), "Histories", "Pages", "Difference, points"), cells, height)
