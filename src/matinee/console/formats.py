"""How the console writes numbers, times and intervals, and where a whisker stands on its scale.

Everything here takes plain values and returns text or percentages of a width; the templates call it through filters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from markupsafe import Markup, escape

from matinee.console.pages import Estimate, Point
from matinee.results import MINUS, number

NBSP = "\u00a0"  # between a number and its unit, so that no line ends between them
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def decimals(low: float | None, high: float | None) -> int:
    """How many decimals an interval carries: the fewest that leave at least five steps between its ends.

    Example:
        >>> decimals(2.2, 4.0), decimals(5.76, 5.81), decimals(120.0, 180.0)
        (1, 2, 0)
    """
    if low is None or high is None or not math.isfinite(high - low) or high <= low:
        return 1
    return min(6, max(0, math.ceil(math.log10(5 / (high - low)) - 1e-9)))


def fixed(value: float, places: int, *, signed: bool = False) -> str:
    """The value with that many decimals, thousands with commas and a real minus sign; zero carries no sign.

    Example:
        >>> fixed(3.14, 1, signed=True), fixed(-1234.5, 0), fixed(-0.04, 1, signed=True)
        ('+3.1', '−1,234', '0.0')
    """
    text = f"{abs(value):,.{places}f}"
    if not any(c in "123456789" for c in text):
        return text
    sign = MINUS if value < 0 else "+" if signed else ""
    return sign + text


def value_text(estimate: Estimate) -> str:
    """`+3.1 %`: the value with its unit, as precisely as its interval allows; `no answer` when it was refused.

    Example:
        >>> value_text(Estimate(3.14, 2.2, 4.0, unit="%", signed=True))
        '+3.1\xa0%'
    """
    if estimate.value is None:
        return "no answer"
    text = fixed(estimate.value, decimals(estimate.low, estimate.high), signed=estimate.signed)
    return f"{text}{NBSP}%" if estimate.unit == "%" else text


def interval_text(estimate: Estimate) -> str:
    """`[+2.2, +4.0]`, or nothing when there is no interval."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return ""
    places = decimals(estimate.low, estimate.high)
    low, high = (fixed(v, places, signed=estimate.signed) for v in (estimate.low, estimate.high))
    return f"[{low}, {high}]"


def percent(share: float | None, places: int = 1) -> str:
    """A share as per cent, with a space before the sign; what is not zero is never written as zero.

    Example:
        >>> percent(0.6123), percent(0.00002), percent(1.0), percent(None)
        ('61.2\xa0%', 'under 0.1\xa0%', '100\xa0%', '–')
    """
    if share is None or math.isnan(share):
        return "–"
    least = 10.0**-places
    if 0 < share * 100 < least / 2:
        return f"under {least:.{places}f}{NBSP}%"
    text = f"{share * 100:.{places}f}"
    if text.rstrip("0").rstrip(".") in ("0", "100"):
        text = text.rstrip("0").rstrip(".")
    return f"{text}{NBSP}%"


def chance(probability: float | None) -> str:
    """A probability as per cent with two significant digits: `18 %`, `0.92 %`."""
    if probability is None or math.isnan(probability):
        return "–"
    if probability in (0.0, 1.0):
        return f"{probability * 100:.0f}{NBSP}%"
    shown = probability * 100
    places = max(0, 1 - math.floor(math.log10(shown)))
    return f"under 0.0001{NBSP}%" if places > 5 else f"{shown:.{places}f}{NBSP}%"


def count(value: float | None) -> str:
    """A whole number with commas; an en dash for what is absent."""
    return "–" if value is None else number(round(value))


def large(value: float) -> str:
    """A count as it is said aloud: `212`, `48,730`, `2.41 million`.

    Example:
        >>> large(2_410_332), large(48_730)
        ('2.41 million', '48,730')
    """
    if abs(value) >= 1e9:
        return f"{number(value / 1e9)} billion"
    if abs(value) >= 1e6:
        return f"{number(value / 1e6)} million"
    return count(value)


def in_words(value: int) -> str:
    """Small counts in words, larger ones in figures: `four`, `48`."""
    return _WORDS[value] if 0 <= value < len(_WORDS) else count(value)


def plural(value: int, one: str, many: str | None = None) -> str:
    """`1 row`, `2 rows`."""
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


def verb(n: int, one: str = "is", many: str = "are") -> str:
    """The verb that goes with a count: one is, two are."""
    return one if n == 1 else many


def article(word: str) -> str:
    """`a member`, `an invoice`."""
    return "an" if word[:1].lower() in "aeiou" else "a"


def moment(at: datetime | None, now: datetime | None = None) -> str:
    """`22 Nov 14:10`; the year is added when it is not the present one."""
    if at is None:
        return "–"
    at = at.astimezone(UTC)
    year = "" if now is None or at.year == now.astimezone(UTC).year else f" {at.year}"
    return f"{at.day} {at:%b}{year} {at:%H:%M}"


def day(at: datetime | None) -> str:
    """`22 Nov`."""
    return "–" if at is None else f"{at.astimezone(UTC).day} {at.astimezone(UTC):%b}"


def date(at: datetime) -> str:
    """`22 Nov 2026`."""
    return f"{day(at)} {at.astimezone(UTC).year}"


def window(starts: datetime | None, ends: datetime | None) -> str:
    """When something is allowed: `1 Nov 2025 to 1 Dec 2025`, `from 1 Nov 2025`, `until 1 Dec 2025`, `always`."""
    if starts is None:
        return "always" if ends is None else f"until {date(ends)}"
    return f"from {date(starts)}" if ends is None else f"{date(starts)} to {date(ends)}"


def length(span: timedelta) -> str:
    """A length of time in its largest fitting unit: `41 s`, `14 min`, `5 h`, `9 days`.

    Example:
        >>> length(timedelta(seconds=41)), length(timedelta(hours=5, minutes=10)), length(timedelta(days=9))
        ('41 s', '5 h', '9 days')
    """
    seconds = max(0, round(span.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    if seconds < 172_800:
        return f"{seconds // 3600} h"
    return f"{seconds // 86_400} days"


def signed(value: float) -> str:
    """`+0.31`: points of score."""
    return fixed(value, 2, signed=True)


def clip(text: str, most: int) -> str:
    """The text, shortened in the middle to at most that many letters, so that a version at its end stays."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


def capitalize_first(text: str) -> str:
    """A capital at the beginning; the rest stays as it is."""
    return text[:1].upper() + text[1:]


_BOLD, _CODE = re.compile(r"\*\*(.+?)\*\*"), re.compile(r"`(.+?)`")


def rich(text: str) -> Markup:
    """Text in which `**bold**` and backticked code are marked up; everything else is escaped.

    Example:
        >>> str(rich("worth **+3.1 %** on `home` <now>"))
        'worth <b>+3.1 %</b> on <code>home</code> &lt;now&gt;'
    """
    return Markup(_CODE.sub(r"<code>\1</code>", _BOLD.sub(r"<b>\1</b>", str(escape(text)))))


@dataclass(frozen=True, slots=True)
class Scale:
    """The shared scale of a column of whiskers: its ends and its ticks, as (value, label) pairs."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def at(self, value: float) -> float:
        """Where a value stands, in per cent of the width, held inside it."""
        return round(min(100.0, max(0.0, 100 * (value - self.low) / (self.high - self.low))), 2)


def _step(span: float) -> float:
    size = 10.0 ** math.floor(math.log10(span))
    return next(m * size for m in (0.5, 1.0, 2.0, 5.0) if span / (m * size) <= 5)


def scale(estimates: Iterable[Estimate], *, include: float | None = 0.0) -> Scale:
    """A scale on which all whiskers of a column can be compared.

    It ends at the outermost interval plus a little air, except that one interval more than five times as wide as
    the median one does not flatten the others: it runs off the edge.

    Args:
        estimates: The column; refused ones are skipped.
        include: A value the scale must hold, such as zero or the baseline.

    Example:
        >>> scale([Estimate(3.1, 2.2, 4.0, unit="%", signed=True)]).ticks
        ((0.0, '0'), (1.0, '+1'), (2.0, '+2'), (3.0, '+3'), (4.0, '+4\xa0%'))
    """
    shown = [e for e in estimates if e.value is not None]
    ends = [(e.low if e.low is not None else e.value, e.high if e.high is not None else e.value) for e in shown]
    spans = [(low, high) for low, high in ends if low is not None and high is not None]
    widths = sorted(high - low for low, high in spans)
    typical = widths[len(widths) // 2] if widths else 0.0
    kept = [(low, high) for low, high in spans if typical == 0 or high - low <= 5 * typical] or spans
    values = [v for pair in kept for v in pair] + ([] if include is None else [include])
    if not shown:
        return Scale(-1.0, 1.0, ((0.0, "0"),))  # nothing but refusals: no figure is made up for the ticks
    low, high = min(values), max(values)
    if high <= low:
        low, high = low - 1.0, high + 1.0
    air = 0.08 * (high - low)
    low, high = low - air, high + air
    step = _step(high - low)
    if step < 0.01 or step >= 1000:
        step = _step(2 * (high - low))  # long labels need more room
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    unit = next((e.unit for e in shown if e.unit == "%"), "")
    signed = any(e.signed for e in shown)
    marks = [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    texts = ["0" if m == 0 else fixed(m, places, signed=signed) for m in marks]
    if texts and unit:
        texts[-1] += NBSP + unit
    return Scale(low, high, tuple(zip(marks, texts, strict=True)))


def whisker(estimate: Estimate, on: Scale) -> tuple[str, str]:
    """Class and style of a whisker: `open` when the interval holds the reference, `none` when there is no answer."""
    inside = on.low <= estimate.reference <= on.high
    zero = f"--z:{on.at(estimate.reference)}%"
    if estimate.value is None:
        return "none" if inside else "none nz", f"{zero};--lo:0%;--hi:100%"
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    kind = "base" if estimate.baseline else "" if estimate.told_apart else "open"
    return (
        kind if inside else f"{kind} nz".strip()
    ), f"{zero};--lo:{on.at(low)}%;--hi:{on.at(high)}%;--v:{on.at(estimate.value)}%"


@dataclass(frozen=True, slots=True)
class Spark:
    """SVG paths of a small line with its band, in a box of 100 by 24."""

    band: str
    line: str
    zero: float | None


def spark(points: Sequence[Point]) -> Spark | None:
    """The last weeks as a small line with its interval; None when there are fewer than three points."""
    known = [p for p in points if p.value is not None]
    if len(known) < 3:
        return None
    lows = [p.low if p.low is not None else p.value for p in known]
    highs = [p.high if p.high is not None else p.value for p in known]
    top, bottom = max(*highs, 0.0), min(*lows, 0.0)  # type: ignore[type-var]  # None was filtered above
    span = (top - bottom) or 1.0  # type: ignore[operator]

    def spot(i: int, value: float | None) -> str:
        return f"{100 * i / (len(known) - 1):.1f} {24 * (top - (value or 0.0)) / span:.1f}"  # type: ignore[operator]

    upper = [spot(i, v) for i, v in enumerate(highs)]
    lower = [spot(i, v) for i, v in reversed(list(enumerate(lows)))]
    line = "M" + "L".join(spot(i, p.value) for i, p in enumerate(known))
    return Spark("M" + "L".join(upper + lower) + "Z", line, round(24 * top / span, 1))  # type: ignore[operator]
