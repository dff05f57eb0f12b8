"""Fixed sets of situations for true values: what a policy may see, and what only the world knows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from matinee.checks import must
from matinee.policies import Candidates
from matinee.times import duration
from matinee.worlds import frames
from matinee.worlds.billing import LEGACY_RETRY_DAYS, LEGACY_WEIGHTS, Billing
from matinee.worlds.catalogue import GENRES
from matinee.worlds.history import visits_on
from matinee.worlds.people import COUNTRIES, DEVICES
from matinee.worlds.processors import FEES_FAILURE_MINOR, FEES_SUCCESS_MINOR, PROCESSORS

if TYPE_CHECKING:
    import polars as pl

    from matinee.worlds.service import StreamingService

DECISIONS = ("home", "route", "retry", "recovery")
WAITS = ("1h", "6h", "1d", "3d", "7d")


@dataclass(frozen=True)
class Contexts:
    """n situations of one decision.

    Attributes:
        decision: Which.
        frame: What a policy may see, one row each: `at`, the unit, and what comes with a request.
        ids: The candidates: title ids, processor names, or "wait route" options and "stop".
        allowed: Which of them are, shape (n, candidates): licence and maturity for a page; all for a charge.
        columns: What is known of the candidates.
        hidden: What only the world knows; arrays of length n, and the `Billing` of its invoices.
    """

    decision: str
    frame: pl.DataFrame
    ids: np.ndarray
    allowed: np.ndarray
    columns: dict[str, np.ndarray]
    hidden: dict[str, Any]

    def __len__(self) -> int:
        return len(self.frame)

    def candidates(self, row: int) -> Candidates:
        """The allowed candidates of one situation, as a policy gets them."""
        return Candidates(self.ids, self.columns).take(np.flatnonzero(self.allowed[row]))


def retry_options(waits: tuple[str, ...] = WAITS) -> list[str]:
    """The retry actions: every wait with every processor, then "stop".

    Example:
        >>> retry_options(("1h",))
        ['1h alder', '1h birch', '1h cedar', '1h dogwood', 'stop']
    """
    return [f"{wait} {route}" for wait in waits for route in PROCESSORS] + ["stop"]


def make_contexts(world: StreamingService, decision: str, n: int, seed: int) -> Contexts:
    """Draws `n` situations; the same seed gives the same ones."""
    must(decision, "decision", one_of=DECISIONS)
    must(n, "n", typ=int, ge=2)
    rng = np.random.default_rng([world.seed, 200 + DECISIONS.index(decision), seed])
    if decision == "home":
        return _home(world, n, rng)
    if decision == "route":
        return _route(world, n, rng)
    return _declined(world, decision, n, rng)


def declined_now(world: StreamingService, invoices: Sequence[str]) -> Contexts:
    """The retry situations of these declined invoices as they stand: a copy, which later charges do not change."""
    import polars as pl

    billing = copy.deepcopy(world.billing)
    index = np.array([world.index_of(one) for one in invoices], dtype=np.int64)
    frame = frames.invoice_frame(world.settings, billing, index).drop("at", "known")
    frame = frame.with_columns(
        frames.stamps(world.settings, billing.last_attempt[index]).alias("at"),
        pl.Series("number", billing.attempts[index]),
        frames.words(PROCESSORS, billing.last_processor[index]).alias("previous"),
    )
    ids = np.array(retry_options())
    allowed = np.ones((len(index), len(ids)), bool)
    columns = _retry_columns()
    return Contexts("retry", frame, ids, allowed, columns, {"billing": billing, "invoice": index})


def _retry_columns() -> dict[str, np.ndarray]:
    wait = np.array([duration(w).total_seconds() / 86_400 for w in WAITS]).repeat(len(PROCESSORS))
    return {"wait_days": np.append(wait, 0.0), "route": np.array([*(PROCESSORS * len(WAITS)), ""])}


def _home(world: StreamingService, n: int, rng: np.random.Generator) -> Contexts:
    """Visits of the day after the history, drawn again until there are enough; of too many some, at any hour of the day."""
    import polars as pl

    t = world.titles
    day = min(world.settings.days, world.settings.calendar_days - 1)
    came = [visits_on(world.viewing, day, rng)]
    while sum(len(v.member) for v in came) < n:
        came.append(visits_on(world.viewing, day, rng))
    # Not the first ones: they come by time, and who comes in the morning is not who comes in the afternoon.
    some = np.sort(rng.permutation(sum(len(v.member) for v in came))[:n])
    member, when, device = (np.concatenate([getattr(v, name) for v in came])[some] for name in ("member", "day", "device"))
    m = world.members
    frame = pl.DataFrame(
        {
            "member": m.ids[member],
            "at": frames.stamps(world.settings, when),
            "device": frames.words(DEVICES, device),
            "country": frames.words(COUNTRIES, m.country[member]),
            "maturity_limit": m.maturity[member],
        }
    )
    columns = {
        "maturity": t.maturity.astype(np.float64),
        "genre": np.array(GENRES)[t.genre],
        "provider": np.array(t.providers)[t.provider],
        "age_days": day - t.launch,
    }
    allowed = t.open[day] & world.viewing.suitable[member]
    return Contexts("home", frame, t.ids, allowed, columns, {"member": member, "day": when, "device": device})


def _private_billing(world: StreamingService) -> Billing:
    """A billing of its own over the same members and processors: contexts leave the world as it is."""
    return Billing(world.settings, world.members, world.processors)


def _times(world: StreamingService, n: int, rng: np.random.Generator, spare: float) -> np.ndarray:
    """Random times of the live days (of the history where there are none), with `spare` days left behind them."""
    s = world.settings
    first = float(s.days) if s.live_days > spare + 1 else 0.0
    return np.sort(rng.uniform(first, max(s.calendar_days - spare - 1, first + 0.5), n))


def _route(world: StreamingService, n: int, rng: np.random.Generator) -> Contexts:
    billing = _private_billing(world)
    member, day = rng.integers(0, world.members.count, n), _times(world, n, rng, 0.0)
    invoice = billing.add(member, day, rng)
    frame = frames.invoice_frame(world.settings, billing, invoice).drop("known")
    ids = np.array(PROCESSORS)
    return Contexts(
        "route", frame, ids, np.ones((n, len(ids)), bool), _fees(), {"billing": billing, "invoice": invoice}
    )


def _fees() -> dict[str, np.ndarray]:
    return {"fee_success_minor": FEES_SUCCESS_MINOR * 1.0, "fee_failure_minor": FEES_FAILURE_MINOR * 1.0}


def _declined(world: StreamingService, decision: str, n: int, rng: np.random.Generator) -> Contexts:
    """Invoices that were declined: for "retry" after none to three legacy retries, for "recovery" just now."""
    import polars as pl

    billing = _private_billing(world)
    kept, code = np.zeros(0, np.int64), np.zeros(0, "<U2")
    while len(kept) < n:  # about one first charge in eight is declined; the others are drawn in vain
        some, shown = _decline(world, billing, 8 * n, rng, retried=decision == "retry")
        kept, code = np.concatenate([kept, some]), np.concatenate([code, shown])
    pick = rng.permutation(len(kept))[:n]
    invoice, code = kept[pick], code[pick]
    frame = frames.invoice_frame(world.settings, billing, invoice).drop("at", "known")
    frame = frame.with_columns(
        frames.stamps(world.settings, billing.last_attempt[invoice]).alias("at"),
        pl.Series("code", code.tolist(), pl.String),
        pl.Series("number", billing.attempts[invoice]),
        pl.Series("days_since_decline", billing.last_attempt[invoice] - billing.first_decline[invoice]),
        frames.words(PROCESSORS, billing.last_processor[invoice]).alias("previous"),
    )
    ids = np.array(retry_options())
    columns = _retry_columns()
    allowed = np.ones((len(invoice), len(ids)), bool)
    return Contexts(decision, frame, ids, allowed, columns, {"billing": billing, "invoice": invoice})


def _decline(
    world: StreamingService, billing: Billing, total: int, rng: np.random.Generator, *, retried: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Charges `total` new invoices as in the history; returns those still declined and the last code of each.

    With `retried`, a quarter stays after its first decline, the others go through one to three of the legacy retries.
    """
    spare = world.settings.give_up_days + 1
    open_ = billing.add(rng.integers(0, world.members.count, total), _times(world, total, rng, spare), rng)
    code = np.empty(total, dtype="<U2")
    stage = rng.integers(0, len(LEGACY_RETRY_DAYS), total) if retried else np.zeros(total, np.int64)
    for number, wait in enumerate((0.0, *LEGACY_RETRY_DAYS[:-1])):
        again = open_[(stage >= number) & ~billing.paid[open_]]
        day = np.where(number == 0, billing.due[again], billing.first_decline[again] + wait)
        route = rng.choice(len(PROCESSORS), len(again), p=LEGACY_WEIGHTS)
        code[again - open_[0]] = billing.charge(again, route, day, rng).code
    left = open_[~billing.paid[open_]]
    return left, code[left - open_[0]]
