"""Results print themselves as tables, turn into Polars and JSON, and format each number by its kind, in one place."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

MINUS = "−"


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, thousands with commas, a real minus sign; an en dash for what is absent.

    Example:
        >>> number(0.40312), number(-12345.6), number(None)
        ('0.403', '−12,346', '–')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        text = f"{int(value):,}"
    else:
        size = math.floor(math.log10(abs(value))) if math.isfinite(value) and value else 0
        text = f"{value:,.{max(0, digits - 1 - size)}f}"
    return text.replace("-", MINUS)


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """`[0.385, 0.421]`; an en dash where there is none."""
    return "–" if low is None or high is None else f"[{number(low, digits)}, {number(high, digits)}]"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple) and len(value) == 2:
        return interval(*value)
    if value is None or isinstance(value, int | float):
        return number(value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    return str(value)


class Table:
    """Mixin of every result: implement `rows()`, get text, HTML, Polars and JSON."""

    def rows(self) -> list[dict[str, Any]]:
        """One dict of plain values a row; a tuple of two numbers is an interval."""
        raise NotImplementedError

    def notes(self) -> Sequence[str]:
        """Lines printed under the table: refusals, caveats, what to do next."""
        return ()

    def __str__(self) -> str:
        return "\n".join([text_table(self.rows()), *self.notes()])

    def _repr_html_(self) -> str:
        rows = self.rows()
        head = "".join(f"<th>{html.escape(str(k))}</th>" for k in (rows[0] if rows else {}))
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_cell(v))}</td>" for v in r.values()) + "</tr>" for r in rows
        )
        notes = "".join(f"<p>{html.escape(n)}</p>" for n in self.notes())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"

    def to_polars(self) -> pl.DataFrame:
        """The rows as a frame; an interval becomes two columns, `_low` and `_high`."""
        import polars as pl

        flat = []
        for row in self.rows():
            out: dict[str, Any] = {}
            for key, value in row.items():
                if isinstance(value, tuple) and len(value) == 2:
                    out[f"{key}_low"], out[f"{key}_high"] = value
                else:
                    out[key] = value
            flat.append(out)
        return pl.DataFrame(flat, infer_schema_length=None)

    def to_json(self) -> dict[str, Any]:
        """Plain values: `{"rows": [...], "notes": [...]}`."""
        rows = [{k: list(v) if isinstance(v, tuple) else v for k, v in r.items()} for r in self.rows()]
        return {"rows": rows, "notes": list(self.notes())}


def text_table(rows: Sequence[dict[str, Any]]) -> str:
    """Aligned columns, two spaces apart; numbers right, words left.

    Example:
        >>> print(text_table([{"policy": "home@13", "value": 0.403, "interval": (0.385, 0.421)}]))
        policy   value  interval
        home@13  0.403  [0.385, 0.421]
    """
    if not rows:
        return "(no rows)"
    heads = list(dict.fromkeys(k for r in rows for k in r))
    cells = [[_cell(r.get(h)) for h in heads] for r in rows]
    widths = [max(len(h), *(len(c[i]) for c in cells)) for i, h in enumerate(heads)]
    right = [
        all(r.get(h) is None or (isinstance(r.get(h), int | float) and not isinstance(r.get(h), bool)) for r in rows)
        for h in heads
    ]

    def line(values: Sequence[str]) -> str:
        return "  ".join(
            v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True)
        ).rstrip()

    return "\n".join([line(heads), *(line(c) for c in cells)])
