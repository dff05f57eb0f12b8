"""The quarantine page: rows that do not fit, by fact and reason, tried again or let go together.

The studio keeps rows in batches, as they came in; a sealed log gives a batch a row. Batches of the same fact with the
same reasons are shown, asked about and acted upon as one.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from matinee.console.building.desk import Desk
from matinee.console.formats import capitalize_first, count, plural, verb
from matinee.console.pages import Act, QuarantineBatch, QuarantineGroup, QuarantinePage
from matinee.console.source import QuarantineQuery
from matinee.quarantine import Held

SHOWN, SETS = 8, 12
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d+)?(\+00:00|Z)")  # pages say UTC at their foot


@dataclass
class Alike:
    """Batches of one fact with the same reasons: how many rows for each reason, and where they came from."""

    fact: str
    reasons: dict[str, int]
    batches: list[str] = field(default_factory=list)
    sources: dict[str, None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The batch's own name; for several one that is made from what they share."""
        if len(self.batches) == 1:
            return self.batches[0]
        text = "\n".join([self.fact, *sorted(self.reasons)])
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    @property
    def rows(self) -> int:
        """How many rows."""
        return sum(self.reasons.values())


def alike(desk: Desk) -> list[Alike]:
    """What waits, in sets that can be acted upon together, most rows first."""
    by_batch: dict[str, tuple[str, str, dict[str, int]]] = {}
    for fact, batch, source, reason, n in desk.studio.quarantine.list().groups:
        by_batch.setdefault(batch, (fact, source, {}))[2][reason] = n
    sets: dict[tuple[str, frozenset[str]], Alike] = {}
    for batch, (fact, source, reasons) in by_batch.items():
        one = sets.setdefault((fact, frozenset(reasons)), Alike(fact, dict.fromkeys(reasons, 0)))
        one.batches.append(batch)
        one.sources[source] = None
        for reason, n in reasons.items():
            one.reasons[reason] += n
    return sorted(sets.values(), key=lambda s: -s.rows)


def batches_of(desk: Desk, name: str) -> list[str]:
    """The batches behind a name of this page; the name itself where it is one."""
    return next((s.batches for s in alike(desk) if s.name == name), [name])


def quarantine_page(desk: Desk, query: QuarantineQuery, *, allowed: bool) -> QuarantinePage:
    """What waits, and the question that is open."""
    sets = alike(desk)
    groups = sorted(
        (
            QuarantineGroup(s.fact, reason, n, s.name, _sources(s), advice(reason))
            for s in sets
            for reason, n in s.reasons.items()
        ),
        key=lambda g: -g.rows,
    )
    # What is asked about is always among those shown.
    ordered = [s for s in sets if s.name == query.batch] + [s for s in sets if s.name != query.batch]
    batches = tuple(_shown(desk, s) for s in ordered[:SETS])
    ask = error = None
    if query.ask in ("retry", "drop"):
        found = next((b for b in batches if b.batch == query.batch), None)
        if found is None:
            error = f"batch == {query.batch!r}, must be one that waits; it may have been tried or let go already"
        elif allowed:
            ask = _question(query.ask, found)
    total = sum(s.rows for s in sets)
    if not groups:
        headline, lead = "Quarantine is empty", "Every row that was appended or logged is in its table."
    else:
        headline = f"{plural(total, 'row')} {verb(total, 'waits', 'wait')} in quarantine"
        lead = "Rows that do not fit their fact are kept here with the reason. "
        lead += "**Nothing reads them until somebody decides.**"
    return QuarantinePage(
        capitalize_first(headline), lead, tuple(groups), batches, ask, _done(query.done), error, allowed
    )


def advice(reason: str) -> str:
    """What usually helps with a reason."""
    hints = (
        ("time zone", "Say which zone the times are in where they are written, and append the rows again."),
        ("in the future", "Look at the clock of whoever wrote them; once the time has come they can be tried again."),
        ("must be one of", "Add the value to the fact's declaration and try again, or mend the source."),
        ("missing", "Ask who sends them; what is required cannot be guessed."),
        ("twice", "They are in their table already: let them go."),
        ("already", "They are in their table already: let them go."),
        ("must be a column", "Declare the column, then try them again."),
        ("no fact", "Declare the fact, then try them again."),
        ("must be", "Mend them where they come from and append them again; then let these go."),
    )
    return next((text for mark, text in hints if mark in reason), "Mend what the reason names, then try them again.")


def _sources(one: Alike) -> str:
    first = next(iter(one.sources))
    return first if len(one.sources) == 1 else f"{plural(len(one.sources), 'place')}, such as {first}"


def _shown(desk: Desk, one: Alike) -> QuarantineBatch:
    held: list[Held] = []
    for batch in one.batches:
        held += desk.studio.quarantine.rows(batch)[: SHOWN - len(held)]
        if len(held) >= SHOWN:
            break
    columns = tuple(dict.fromkeys(c for h in held for c in h.row))[:12]
    sample = tuple((tuple(_cell(h.row.get(c)) for c in columns), "; ".join(h.reasons)) for h in held)
    title = f"{plural(one.rows, 'row')} of {one.fact}"
    more = max(0, one.rows - len(held))
    return QuarantineBatch(one.fact, one.name, len(one.batches), _sources(one), one.rows, title, columns, sample, more)


def _cell(value: Any) -> str:
    """A value of a row as it came; a time without the fractions of its second, where it has its zone."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(map(str, value))[:40]
    if isinstance(value, str) and _TIME.fullmatch(value):
        return f"{value[:10]} {value[11:19]}"
    return str(value)[:40]


def _question(kind: str, batch: QuarantineBatch) -> Act:
    rows = f"{plural(batch.rows, 'row')} of `{batch.fact}`"
    them = verb(batch.rows, "it", "them")
    fields = {"batch": batch.batch}
    if kind == "drop":
        text = f"**Let {rows} go?** {verb(batch.rows, 'It is', 'They are')} deleted, and cannot come back."
        return Act("drop", text, f"Let {them} go", f"Keep {them} here", fields, harm=True)
    text = f"**Try {rows} again?** What fits goes to its table; the rest stays, with today's reasons."
    return Act("retry", text, f"Try {them} again", "Not now", fields)


def _done(done: str) -> str | None:
    """What was just done, from its figures in the address; nothing else of the address is shown."""
    kind, *figures = done.split(":")
    if not figures or not all(f.isdecimal() and len(f) < 12 for f in figures):
        return None
    if kind == "drop" and len(figures) == 1:
        n = int(figures[0])
        return f"**{plural(n, 'row')}** {verb(n, 'was', 'were')} let go."
    if kind == "retry" and len(figures) == 2:
        taken, left = int(figures[0]), int(figures[1])
        rest = f"; {count(left)} still {verb(left, 'waits', 'wait')}" if left else "; none is left"
        return f"**{plural(taken, 'row')}** {verb(taken, 'is in its', 'are in their')} table now{rest}."
    return None
