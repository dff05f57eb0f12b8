"""The quarantine page: rows that do not fit, by fact and reason, tried again or let go by the batch they came in."""

from __future__ import annotations

from matinee.console.building.desk import Desk
from matinee.console.formats import capitalize_first, count, plural, verb
from matinee.console.pages import Act, QuarantineBatch, QuarantineGroup, QuarantinePage
from matinee.console.source import QuarantineQuery

SHOWN, BATCHES = 8, 12


def quarantine_page(desk: Desk, query: QuarantineQuery, *, allowed: bool) -> QuarantinePage:
    """What waits, and the question that is open."""
    quarantine = desk.studio.quarantine
    groups = tuple(
        QuarantineGroup(fact, reason, n, batch, source, advice(reason))
        for fact, batch, source, reason, n in quarantine.list().groups
    )
    names = list(dict.fromkeys(g.batch for g in groups))
    # The batch that is asked about is always among those shown.
    names = [b for b in names if b == query.batch] + [b for b in names if b != query.batch]
    batches = tuple(_batch(desk, name) for name in names[:BATCHES])
    total = sum(g.rows for g in groups)
    ask = None
    error = None
    if query.ask in ("retry", "drop"):
        found = next((b for b in batches if b.batch == query.batch), None)
        if found is None:
            error = f"batch == {query.batch!r}, must be one that waits; it may have been tried or let go already"
        elif allowed:
            ask = _question(query.ask, found)
    lead = (
        "Rows that do not fit their fact are kept here with the reason. **Nothing reads them until somebody decides.**"
        if groups
        else "Every row that was appended or logged is in its table."
    )
    headline = (
        f"{plural(total, 'row')} wait{'s' if total == 1 else ''} in quarantine" if groups else "Quarantine is empty"
    )
    return QuarantinePage(capitalize_first(headline), lead, groups, batches, ask, _done(query.done), error, allowed)


def advice(reason: str) -> str:
    """What usually helps with a reason."""
    hints = (
        ("time zone", "Say which zone the times are in where they are written, and append the rows again."),
        ("must be one of", "Add the value to the fact's declaration and try again, or mend the source."),
        ("missing", "Ask who sends them; what is required cannot be guessed."),
        ("twice", "They are in their table already: let them go."),
        ("already", "They are in their table already: let them go."),
        ("must be a column", "Declare the column, then try them again."),
        ("no fact", "Declare the fact, then try them again."),
        ("must be", "Mend them where they come from and append them again; then let these go."),
    )
    return next((text for mark, text in hints if mark in reason), "Mend what the reason names, then try them again.")


def _batch(desk: Desk, batch: str) -> QuarantineBatch:
    held = desk.studio.quarantine.rows(batch)
    columns = tuple(dict.fromkeys(c for h in held[:SHOWN] for c in h.row))[:12]
    sample = tuple(
        (tuple("–" if h.row.get(c) is None else str(h.row[c])[:60] for c in columns), "; ".join(h.reasons))
        for h in held[:SHOWN]
    )
    first = held[0]
    title = f"{plural(len(held), 'row')} of {first.fact}"
    return QuarantineBatch(
        first.fact, batch, first.source, len(held), title, columns, sample, max(0, len(held) - SHOWN)
    )


def _question(kind: str, batch: QuarantineBatch) -> Act:
    rows = f"{plural(batch.rows, 'row')} of `{batch.fact}`"
    them, they = ("it", "It is") if batch.rows == 1 else ("them", "They are")
    fields = {"batch": batch.batch}
    if kind == "drop":
        return Act(
            "drop",
            f"**Let {rows} go?** {they} deleted, and cannot come back.",
            f"Let {them} go",
            f"Keep {them} here",
            fields,
            harm=True,
        )
    text = f"**Try {rows} again?** What fits goes to its table in one commit; the rest stays, with today's reasons."
    return Act("retry", text, f"Try {them} again", "Not now", fields)


def _done(done: str) -> str | None:
    """What was just done, from its figures in the address; nothing else of the address is shown."""
    kind, *figures = done.split(":")
    if not figures or not all(f.isdecimal() and len(f) < 12 for f in figures):
        return None
    if kind == "drop" and len(figures) == 1:
        return f"**{plural(int(figures[0]), 'row')}** {'was' if figures[0] == '1' else 'were'} let go."
    if kind == "retry" and len(figures) == 2:
        taken, left = int(figures[0]), int(figures[1])
        rest = f"; {count(left)} still {'waits' if left == 1 else 'wait'}" if left else "; none is left"
        return f"**{plural(taken, 'row')}** {verb(taken, 'is in its', 'are in their')} table now{rest}."
    return None
