"""What a policy is truly worth: exact where the world has a closed form, else simulated with common random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from matinee.checks import must
from matinee.exceptions import MatineeError
from matinee.policies import Candidates
from matinee.results import Table
from matinee.worlds.contexts import WAITS, Contexts
from matinee.worlds.history import draw_slates
from matinee.worlds.processors import FEES_FAILURE_MINOR, FEES_SUCCESS_MINOR, PROCESSORS

if TYPE_CHECKING:
    from matinee.worlds.service import StreamingService

# A function of what is known, or probabilities (see `true_value`).
Policy = Callable[[dict[str, Any], Candidates, np.random.Generator], Any] | np.ndarray
REWARDS = {
    "home": ("qualified", "plays", "hours"),
    "route": ("net", "approved"),
    "retry": ("net", "approved"),
    "recovery": ("net", "recovered", "attempts", "days"),
}
_UNITS = {"qualified": "qualified plays a page", "plays": "plays a page", "hours": "hours a page", "approved": "share",
          "net": "EUR cents", "recovered": "share", "attempts": "attempts", "days": "days"}  # fmt: skip
_MOST_ATTEMPTS = 20


@dataclass(frozen=True)
class TrueValue(Table):
    """The true value of a policy and the standard error that comes from the contexts being a sample.

    Attributes:
        decision, reward, unit: Of what.
        value: Mean over the contexts.
        error: Its standard error.
        n: Number of contexts.
        method: How it was found.
        each: Value in each context, shape (n,): two policies on the same contexts are compared pair by pair.
    """

    decision: str
    reward: str
    unit: str
    value: float
    error: float
    n: int
    method: str
    each: np.ndarray = field(repr=False, compare=False)

    def rows(self) -> list[dict[str, Any]]:
        low, high = self.value - 1.96 * self.error, self.value + 1.96 * self.error
        return [
            {"decision": self.decision, "reward": self.reward, "value": self.value, "interval": (low, high),
             "unit": self.unit, "contexts": self.n, "method": self.method}
        ]  # fmt: skip

    def minus(self, other: TrueValue) -> TrueValue:
        """The difference to another policy, pair by pair: far narrower than the two values.

        Raises:
            MatineeError: If the two were not found on the same contexts.
        """
        same = (self.decision, self.reward, self.n) == (other.decision, other.reward, other.n)
        if not same:
            raise MatineeError(
                f"{other.decision} {other.reward} on {other.n} contexts, must be "
                f"{self.decision} {self.reward} on {self.n} to be subtracted"
            )
        return _summary(self.decision, self.reward, self.each - other.each, f"difference, {self.method}")


def _summary(decision: str, reward: str, each: np.ndarray, method: str) -> TrueValue:
    error = float(each.std(ddof=1) / math.sqrt(len(each)))
    return TrueValue(decision, reward, _UNITS[reward], float(each.mean()), error, len(each), method, each)


def true_value(
    world: StreamingService, decision: str, policy: Policy, *, n: int, reward: str | None, seed: int
) -> TrueValue:
    """The value of a policy, a choice, over `n` contexts of the world's present state.

    Args:
        policy: One of
            - an array of non-negative weights over the candidates, shape (candidates,) or (n, candidates), in the order
              of `world.contexts(decision, n).ids`; what is not allowed gets none, and the rest is scaled to one. For a
              page it also may be (slots, candidates) or (n, slots, candidates), a row for each slot; with fewer
              dimensions the same weights serve every slot. Slots are filled one after another without replacement;
            - a function `choose(context, candidates, rng)` that returns an id, a list of ids for a page, or a float
              array of probabilities over `candidates`. `context` is a row of `world.contexts(decision, n).frame`.

    A charge is exact given the context: its expectation over the actions, and over what is random in the answer. A page
    is drawn, then exact given the page. A recovery is simulated, with the same uniforms for every policy.
    """
    contexts = world.contexts(decision, n, seed=seed)
    reward = must(reward or REWARDS[decision][0], "reward", one_of=REWARDS[decision])
    if decision == "recovery":
        return _recovery(world, contexts, policy, reward, seed)
    if decision == "home":
        slates = _slates(world, contexts, policy, seed)
        each = _page_values(world, contexts, slates, reward)
        return _summary("home", reward, each, "pages drawn, exact given a page")
    worth = charge_worth(contexts, reward)
    chance = _chances(contexts, policy, seed)
    return _summary(decision, reward, (worth * chance).sum(axis=1), "exact over the actions")


def best_value(world: StreamingService, decision: str, *, n: int, reward: str | None, seed: int) -> TrueValue:
    """The value of choosing with the truth in hand; for a page, slots ordered by what each brings by itself."""
    contexts = world.contexts(decision, n, seed=seed)
    must(decision, "decision", one_of=("home", "route", "retry"))
    reward = must(reward or REWARDS[decision][0], "reward", one_of=REWARDS[decision])
    if decision != "home":
        return _summary(decision, reward, charge_worth(contexts, reward).max(axis=1), "best action, truth known")
    hidden, everything = contexts.hidden, np.arange(world.titles.count)[None, :]
    alone = np.empty(contexts.allowed.shape)
    for title in range(world.titles.count):
        page = np.broadcast_to(everything[:, title : title + 1], (len(contexts), 1))
        alone[:, title] = getattr(
            world.viewing.expected(hidden["member"], page, hidden["day"], hidden["device"]), reward
        )[:, 0]
    slates = np.argsort(np.where(contexts.allowed, -alone, np.inf), axis=1, kind="stable")[:, : world.settings.slots]
    return _summary("home", reward, _page_values(world, contexts, slates, reward), "best single slots, truth known")


def charge_worth(contexts: Contexts, reward: str) -> np.ndarray:
    """Expected reward of every action in every context of "route" or "retry", shape (n, actions).

    "net" is the amount less the fee of an approved attempt, and minus the fee of a declined one, in cents.
    """
    billing, invoice = contexts.hidden["billing"], contexts.hidden["invoice"]
    if contexts.decision == "route":
        pays = billing.reason_probabilities(billing.member[invoice], billing.due[invoice])[:, 0]
        p = pays[:, None] * billing.acceptance(invoice, billing.due[invoice])
        tried = np.ones(p.shape[1])
    else:
        p = np.zeros(contexts.allowed.shape)
        for action in range(p.shape[1] - 1):  # the last is "stop"
            wait, route = contexts.columns["wait_days"][action], action % len(PROCESSORS)
            p[:, action] = billing.retry_success(
                invoice, billing.last_attempt[invoice] + wait, np.full(len(invoice), route)
            )
        tried = np.append(np.ones(p.shape[1] - 1), 0.0)
    if reward == "approved":
        return np.asarray(p)
    repeats = len(WAITS) if contexts.decision == "retry" else 1
    success, failure = np.tile(FEES_SUCCESS_MINOR, repeats), np.tile(FEES_FAILURE_MINOR, repeats)
    if contexts.decision == "retry":
        success, failure = np.append(success, 0), np.append(failure, 0)
    amount = billing.amount_minor[invoice][:, None]
    return np.asarray(p * (amount - success) - (1 - p) * failure * tried)


def _weights(contexts: Contexts, policy: np.ndarray) -> np.ndarray:
    weights = np.asarray(policy, dtype=np.float64)
    wanted = len(contexts.ids)
    if weights.shape[-1:] != (wanted,) or (weights.ndim > 1 and weights.ndim > 3):
        raise MatineeError(f"policy has shape {weights.shape}, must end in {wanted}, one weight a candidate")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise MatineeError("policy holds negative or missing weights, must be >= 0")
    return weights


def _chances(contexts: Contexts, policy: Policy, seed: int) -> np.ndarray:
    """Probabilities over the actions, shape (n, actions)."""
    n = len(contexts)
    if callable(policy):
        rng = np.random.default_rng([seed, 1])
        rows = contexts.frame.to_dicts()
        out = np.zeros(contexts.allowed.shape)
        position = {value: i for i, value in enumerate(contexts.ids.tolist())}
        for i, row in enumerate(rows):
            said = policy(row, contexts.candidates(i), rng)
            if isinstance(said, np.ndarray) and said.dtype.kind == "f":
                out[i, contexts.allowed[i]] = said
            else:
                out[i, _position(position, _single(said))] = 1.0
        return out
    weights = np.broadcast_to(_weights(contexts, policy), (n, len(contexts.ids))) * contexts.allowed
    total = weights.sum(axis=1, keepdims=True)
    if (total <= 0).any():
        raise MatineeError("policy gives no weight to any allowed candidate, must give some in every context")
    return np.asarray(weights / total)


def _single(said: Any) -> Any:
    """The one id a policy chose: itself, or the only element of a list."""
    if isinstance(said, list | tuple | np.ndarray):
        if len(said) != 1:
            raise MatineeError(f"policy chose {said!r}, must choose one candidate")
        said = said[0]
    return said.item() if hasattr(said, "item") else said


def _position(position: dict[Any, int], chosen: Any) -> int:
    if chosen not in position:
        raise MatineeError(f"policy chose {chosen!r}, must choose one of the candidates")
    return position[chosen]


def _slates(world: StreamingService, contexts: Contexts, policy: Policy, seed: int) -> np.ndarray:
    """Pages as title indices, shape (n, slots)."""
    n, slots = len(contexts), world.settings.slots
    rng = np.random.default_rng([seed, 2])
    if callable(policy):
        pages = []
        for i, row in enumerate(contexts.frame.to_dicts()):
            offered = contexts.candidates(i)
            said = policy(row, offered, rng)
            if isinstance(said, np.ndarray) and said.dtype.kind == "f":
                said = offered.ids[draw_slates(said[None, :], np.ones((1, len(said)), bool), slots, rng)[0]]
            pages.append([int(title) - 1 for title in said])
        lengths = {len(page) for page in pages}
        if len(lengths) != 1 or any(not 0 <= t < world.titles.count for page in pages for t in page):
            raise MatineeError("policy chose pages of different lengths or unknown titles, must fill the same slots")
        return np.array(pages, dtype=np.int64)
    weights = _weights(contexts, policy)
    if weights.ndim == 1 or (weights.ndim == 2 and len(weights) == n):
        return draw_slates(weights, contexts.allowed, slots, rng)
    # A row of weights for each slot: one race a slot among what is left.
    left = contexts.allowed.copy()
    per_slot = np.broadcast_to(weights, (n, *weights.shape[-2:]))
    chosen = []
    for slot in range(per_slot.shape[1]):
        title = draw_slates(per_slot[:, slot], left, 1, rng)[:, 0]
        left[np.arange(n), title] = False
        chosen.append(title)
    return np.stack(chosen, axis=1)


def _page_values(world: StreamingService, contexts: Contexts, slates: np.ndarray, reward: str) -> np.ndarray:
    hidden = contexts.hidden
    expected = world.viewing.expected(hidden["member"], slates, hidden["day"], hidden["device"])
    return np.asarray(getattr(expected, reward).sum(axis=1))


def _recovery(world: StreamingService, contexts: Contexts, policy: Policy, reward: str, seed: int) -> TrueValue:
    """Follows each invoice from its first decline until it is paid, given up or stopped."""
    billing, invoice, s = contexts.hidden["billing"], contexts.hidden["invoice"], world.settings
    n = len(invoice)
    uniforms = np.random.default_rng([seed, 3]).random((n, _MOST_ATTEMPTS, 3))
    rng = np.random.default_rng([seed, 4])
    alive, paid = np.ones(n, bool), np.zeros(n, bool)
    fees, tries, day_paid = np.zeros(n), np.zeros(n), np.full(n, s.give_up_days)
    waits = contexts.columns["wait_days"]
    stop = len(contexts.ids) - 1
    rows = contexts.frame
    for attempt in range(_MOST_ATTEMPTS):
        now = np.flatnonzero(alive)
        if not len(now):
            break
        step = Contexts(contexts.decision, rows[now], contexts.ids, contexts.allowed[now], contexts.columns, {})
        fixed = policy if callable(policy) or np.ndim(policy) == 1 else np.asarray(policy)[now]
        if callable(policy):
            chance = _chances(step, lambda c, k, _: policy(c, k, rng), seed)
        else:
            chance = _chances(step, fixed, seed)
        edges = np.cumsum(chance, axis=1)
        action = np.minimum((edges < uniforms[now, attempt, 0, None]).sum(axis=1), stop)
        day = billing.last_attempt[invoice[now]] + waits[action]
        going = (action != stop) & (day - billing.first_decline[invoice[now]] <= s.give_up_days)
        alive[now[~going]] = False
        tried, route, day = now[going], action[going] % len(PROCESSORS), day[going]
        index = invoice[tried]
        hit = uniforms[tried, attempt, 1] < billing.retry_success(index, day, route)
        billing.attempts[index] += 1
        billing.last_attempt[index], billing.last_processor[index] = day, route
        tries[tried] += 1
        fees[tried] += np.where(hit, FEES_SUCCESS_MINOR[route], FEES_FAILURE_MINOR[route])
        paid[tried[hit]], alive[tried[hit]] = True, False
        day_paid[tried[hit]] = (day - billing.first_decline[index])[hit]
        rows = _after_decline(world, rows, billing, invoice)
    if reward == "recovered":
        each = paid.astype(float)
    elif reward == "attempts":
        each = tries
    elif reward == "days":
        each = day_paid
    else:
        each = paid * billing.amount_minor[invoice] - fees - s.waiting_minor_per_day * day_paid
    return _summary("recovery", reward, each, "simulated, common random numbers")


def _after_decline(world: StreamingService, rows: Any, billing: Any, invoice: np.ndarray) -> Any:
    """What a policy sees after another declined attempt; the code shown stays the first one."""
    import polars as pl

    from matinee.worlds import frames

    return rows.with_columns(
        frames.stamps(world.settings, billing.last_attempt[invoice]).alias("at"),
        pl.Series("number", billing.attempts[invoice]),
        pl.Series("days_since_decline", billing.last_attempt[invoice] - billing.first_decline[invoice]),
        frames.words(PROCESSORS, billing.last_processor[invoice]).alias("previous"),
    )
