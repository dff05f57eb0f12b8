"""Which recommender suits the histories at hand, and why: by their number, their order, what is installed, and the time."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from matinee.checks import must
from matinee.domains.personalization.recommenders.base import Recommender
from matinee.domains.personalization.recommenders.chain import Chain
from matinee.domains.personalization.recommenders.ensemble import Blend
from matinee.domains.personalization.recommenders.factors import Factors
from matinee.domains.personalization.recommenders.following import Following
from matinee.domains.personalization.recommenders.histories import Histories
from matinee.domains.personalization.recommenders.popular import Popular
from matinee.domains.personalization.recommenders.sequence import LONG, SHORT, Block, Successor
from matinee.domains.personalization.recommenders.stages import Staged
from matinee.domains.personalization.recommenders.together import Together
from matinee.domains.personalization.recommenders.transformer import Transformer

Array = np.ndarray[Any, Any]
KINDS = ("popular", "together", "factors", "following", "blend", "staged", "transformer")
FEW_EVENTS = 500  # below, nothing but popularity can be told from chance
FEW_PAIRS = 200  # members with two events, from whose newest title an order is learnt
DENSE = 30  # events of a title; below, a ridge regression adds nothing to counts of pairs (weight -.03 of 1 on Beauty)
SHORT_HISTORY = 30  # events of a member; below, the newest one is much of what is known, and the parts are fitted again
TIED = 0.9  # share of events at the same moment as another of the member, above which there is no order
CLOSED_TITLES = 30_000  # largest catalogue of a closed form: two matrices of 3.6 GB
WORTHWHILE = 240.0  # seconds of training below which a transformer adds nothing to the closed forms
FORMS: dict[str, Callable[[], Successor]] = {
    "long": lambda: Successor(blocks=LONG),
    "short": lambda: Successor(blocks=SHORT),
    # Hardly any pair occurs often: one block, little ridge, and a wide target.
    "sparse": lambda: Successor(blocks=(Block(1, 20, 0.8),), ahead=0.8, ridge=5.0),
}
FLOPS = 5e10  # float32 operations a second of one core, in LAPACK
TOUCH = 1.5e-8  # seconds to add to one cell of a matrix that does not fit into the cache


@dataclass(frozen=True)
class Chosen:
    """A recommender, not yet fitted, and why it was chosen.

    Attributes:
        recommender: Fit it on the histories.
        kind: One of `KINDS`.
        reasons: A sentence each.
        seconds: What a fit is expected to take, processor time.
    """

    recommender: Recommender
    kind: str
    reasons: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        return f"{self.kind}: " + "; ".join(self.reasons)


def choose(
    histories: Histories, *, seconds: float = 180.0, kind: str | None = None, torch: bool | None = None, seed: int = 0
) -> Chosen:
    """The recommender that is likely best within a time, by rules that say what they looked at.

    Few events: popularity. No order in time: a linear autoencoder, or factors above 30,000 titles. With an order: the
    closed-form sequence model with as many blocks as the time allows beside chain and window, put in order by trees;
    with the extra `torch` and time to train it, a transformer as one more part.

    Args:
        histories: What it will be fitted on.
        seconds: Processor time that a fit may take.
        kind: This one, whatever the rules say; one of `KINDS`.
        torch: Whether the transformer may be used; None: whether torch is installed.
        seed: Of whatever draws.

    Raises:
        MatineeError: If `kind` is none of `KINDS`, or `seconds` is not positive.

    Example:
        >>> str(choose(Histories.of_sequences([[1, 2], [2, 1]])))
        'popular: 4 events, fewer than 500: nothing but popularity can be told from chance'
    """
    must(seconds, "seconds", gt=0)
    if kind is not None:
        must(kind, "kind", one_of=KINDS)
    installed = importlib.util.find_spec("torch") is not None if torch is None else torch
    events, titles = len(histories.items), int((np.bincount(histories.items) > 0).sum())
    pairs = int((histories.lengths >= 2).sum())
    why: list[str] = []
    if kind is not None:
        why.append("asked for")
        picked = kind
    elif events < FEW_EVENTS:
        return Chosen(
            Popular(),
            "popular",
            (f"{events:,} events, fewer than {FEW_EVENTS}: nothing but popularity can be told from chance",),
            0.1,
        )
    elif (tied := share_tied(histories)) > TIED:
        why.append(
            f"{tied:.0%} of the events share their moment with another of the same member: no order to learn from"
        )
        if titles <= CLOSED_TITLES:
            picked = "together"
            why.append(f"{titles:,} titles, at most {CLOSED_TITLES:,}: a closed form")
        else:
            picked = "factors"
            why.append(f"{titles:,} titles, more than {CLOSED_TITLES:,}: factors")
    elif pairs < FEW_PAIRS:
        picked = "following"
        why.append(f"{pairs:,} members with two events, fewer than {FEW_PAIRS}: too few to learn weights from")
    else:
        picked = "staged"
        why.append(f"{events:,} events in order, {titles:,} titles, {events / max(titles, 1):.0f} events a title")
    return _made(picked, histories, seconds, installed, seed, why)


def _made(picked: str, histories: Histories, seconds: float, installed: bool, seed: int, why: list[str]) -> Chosen:
    simple: dict[str, Recommender] = {
        "popular": Popular(), "together": Together(), "factors": Factors(seed=seed), "following": Following(),
    }  # fmt: skip
    if picked in simple:
        return Chosen(simple[picked], picked, tuple(why), 1.0)
    if picked == "transformer":
        return Chosen(Transformer(seconds=seconds, seed=seed), picked, (*why, f"trained for {seconds:.0f} s"), seconds)
    # A blend is fitted again once its weights are known; trees, where the newest event is much of a history.
    mean = len(histories.items) / max(len(histories), 1)
    again = picked == "blend" or mean < SHORT_HISTORY
    if again:
        why.append(f"{mean:.0f} events a member: the parts are fitted again with the newest ones")
    times = 2 if again else 1
    parts: dict[str, Recommender] = {"following": Following(), "chain": Chain()}
    left = seconds - times * cost_of_counting(histories)
    forms = closed_forms(histories)
    if not forms:
        why.append("no closed form of sequences: titles are seen too rarely")
    for name, one in forms.items():
        cost = times * cost_of(one, histories)
        if cost <= left * 0.5:
            parts[name] = one
            left -= cost
            why.append(f"{name} with {len(one.blocks)} blocks: about {cost:.0f} s of {seconds:.0f}")
        else:
            why.append(f"no {name} with {len(one.blocks)} blocks: about {cost:.0f} s of the {left:.0f} s left")
    n = len(histories.titles)
    if n <= CLOSED_TITLES and (cost := times * n**3 / FLOPS) < left * 0.5:
        parts["together"] = Together()
        left -= cost
    ordering = cost_of_ordering(histories, len(parts)) if picked == "staged" else 0.0
    planned = 0.0
    if not installed:
        why.append("no transformer: torch is not installed")
    elif (left - ordering) / times < WORTHWHILE:
        spare = max((left - ordering) / times, 0)
        why.append(f"no transformer: {spare:.0f} s are left to train one, must be at least {WORTHWHILE:.0f}")
    else:
        planned = 0.85 * (left - ordering) / times
        parts["transformer"] = Transformer(seconds=planned, seed=seed, **network_for(planned))
        why.append(f"a transformer trained for {planned:.0f} s")
    spent = seconds - left + times * planned + ordering
    first = Blend(parts=parts, refit=again)
    if picked == "blend":
        return Chosen(first, picked, tuple(why), spent)
    why.append(f"trees over {len(parts)} recommenders: about {ordering:.0f} s")
    return Chosen(Staged(first=first, refit=again, seed=seed), picked, tuple(why), spent)


def closed_forms(histories: Histories) -> dict[str, Successor]:
    """Sequence models worth trying, the best first; none where a title is hardly seen, for counts say all of it there."""
    dense = len(histories.items) / max(len(histories.titles), 1) >= DENSE
    return {name: FORMS[name]() for name in ("long", "short")} if dense else {}


def cost_of(one: Successor, histories: Histories) -> float:
    """Processor seconds of a fit: the factor and the solution, and the cells that pairs of events touch.

    Infinite where its matrix is larger than a fit allows.
    """
    from matinee.domains.personalization.recommenders.sequence import MOST_UNKNOWNS

    n, K = len(histories.titles), len(one.blocks)
    if n * K > MOST_UNKNOWNS:
        return float("inf")
    lengths = histories.lengths
    touched = sum(float(np.minimum(lengths, b.last) @ lengths) for b in one.blocks) * (K + 1)
    return ((n * K) ** 3 / 3 + 2 * (n * K) ** 2 * n) / FLOPS + touched * TOUCH / 2


def cost_of_counting(histories: Histories) -> float:
    """Processor seconds of the counts of pairs: windows, chain, lifts."""
    return 10.0 + 2e-5 * len(histories.items)


def cost_of_ordering(histories: Histories, parts: int) -> float:
    """Processor seconds of the second stage: scores of all titles, features, trees."""
    members = min(len(histories), 20_000)
    return 20.0 + members * (1.2e-3 + 3e-8 * parts * len(histories.titles))


def network_for(seconds: float) -> dict[str, Any]:
    """Settings of a transformer: longer training takes a lower rate and more dropout."""
    return {"rate": 1e-3, "dropout": 0.15} if seconds > 400 else {"rate": 2e-3, "dropout": 0.1}


def share_tied(histories: Histories) -> float:
    """Share of the events that have the same moment as a neighbour of the same member."""
    if not len(histories.items):
        return 0.0
    same = (np.diff(histories.day) == 0) & (np.diff(np.repeat(np.arange(len(histories)), histories.lengths)) == 0)
    tied = np.zeros(len(histories.items), np.bool_)
    tied[1:] |= same
    tied[:-1] |= same
    return float(tied.mean())
