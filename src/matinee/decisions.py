"""Decisions: a place in the product where something is chosen, and the one function that chooses and logs.

The unit, the candidates, the slots, the reward, the guards, the fallback, the mode: declared once, the same for every
domain. `choose` masks, draws, and returns the Choice with its exact propensities; it reads no clock and no global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from matinee import guards as guarding
from matinee.checks import must
from matinee.choices import Advice, Choice, Id, new_id
from matinee.exceptions import DeclarationError, GuardError, MatineeError
from matinee.guards import Guard
from matinee.plans import Solver
from matinee.policies import Candidates, Policy, Request
from matinee.rewards import Reward
from matinee.times import duration_us

if TYPE_CHECKING:
    import numpy as np

    from matinee.facts import Fact
    from matinee.features import Features

MODES = ("decide", "advise", "plan")
NO_CANDIDATES = "there are no candidates"


@dataclass(frozen=True)
class Option:
    """One candidate of a fixed list: its id and its attributes."""

    id: Id
    attributes: Mapping[str, Any]


stop = Option("stop", {})


class Options:
    """A fixed list of candidates, with attributes that guards, rewards and models may read."""

    def __init__(self, options: Sequence[Option]) -> None:
        ids = [o.id for o in options]
        if not ids:
            raise DeclarationError("options == [], must hold at least one candidate")
        if len(set(ids)) != len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise DeclarationError(f"option {twice!r} is named twice, must be named once")
        self.options = tuple(options)

    def __add__(self, other: Sequence[Option | Id]) -> Options:
        return Options([*self.options, *(o if isinstance(o, Option) else Option(o, {}) for o in other)])

    def __len__(self) -> int:
        return len(self.options)

    def candidates(self) -> Candidates:
        """As arrays: text attributes as strings, numbers as floats, durations also as microseconds (`wait#us`)."""
        import numpy as np

        ids = [o.id for o in self.options]
        if len({type(i) for i in ids}) > 1:
            ids = [str(i) for i in ids]
        columns: dict[str, np.ndarray[Any, Any]] = {}
        for name in dict.fromkeys(n for o in self.options for n in o.attributes):
            values = [o.attributes.get(name) for o in self.options]
            if all(v is None or (isinstance(v, int | float) and not isinstance(v, bool)) for v in values):
                columns[name] = np.array([np.nan if v is None else float(v) for v in values])
            else:
                columns[name] = np.array(["" if v is None else str(v) for v in values])
                columns[f"{name}#codes"] = np.unique(columns[name], return_inverse=True)[1].astype(np.int64)
                if all(v is None or _is_duration(v) for v in values):
                    columns[f"{name}#us"] = np.array([0 if v is None else duration_us(str(v)) for v in values], np.int64)
        return Candidates(np.array(ids), columns)


def _is_duration(value: object) -> bool:
    try:
        duration_us(str(value))
    except MatineeError:
        return False
    return True


def grid(**axes: Sequence[Any]) -> Options:
    """Every combination of the axes, each with its attributes: `grid(wait=["1h", "1d"], route=["a", "b"]) + [stop]`.

    Example:
        >>> [o.id for o in grid(wait=["1h", "1d"], route=["a"]).options]
        ['1h a', '1d a']
    """
    from itertools import product

    combos = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    return Options([Option(" ".join(str(v) for v in c.values()), c) for c in combos])


class Decision:
    """A place in the product where something is chosen.

    Args:
        name: What it is called in code, on the command line and in addresses.
        unit: Column that names whom or what it is for; the key of its features.
        among: What is chosen: the name of an entity's key ("title"), a list of options, or `grid(...)`.
        slots: How many are chosen, in order.
        reward: What a choice is worth (see `rewards`).
        guards: What must not be chosen; they mask before the draw.
        fallback: What is done when nothing is allowed or a guard fails: an option, a list of them, or None for
            nothing at all. It must be safe under every guard.
        mode: "decide", "advise" or "plan".
        consent: The purpose for which a unit must have agreed to be profiled. Without consent in force, training
            leaves the unit out, and its decisions see none of its features but those that guards read. The same
            holds for one request whose context says `profiled=False`.
        sheltered: Feature of the unit, read by one of the guards, that forbids profiling whatever was agreed, such as
            `kids`.
        title: What people call it; the name where not given.
        reward_unit: What the reward is measured in: "plays", "EUR cents".
        proxy: Another reward that stands in for a slower or noisier one when a model learns (`studio.train(...,
            proxy=True)`). Evidence always shows it beside the reward, never instead of it.
        proxy_unit: What the proxy is measured in; needed where there is one.
        description: One line for people.

    Raises:
        DeclarationError: If the parts do not fit together.

    Example:
        >>> localise = Decision("localise", unit="title_language", among=["human dub", "subtitle"], mode="advise")
        >>> localise
        Decision('localise', unit='title_language', among=2 options, slots=1, mode='advise')
    """

    def __init__(
        self,
        name: str,
        *,
        unit: str,
        among: str | Options | Sequence[Id | Option] | type[Fact],
        slots: int = 1,
        reward: Reward | None = None,
        guards: Sequence[Guard] = (),
        fallback: Id | Option | Sequence[Id] | None = None,
        mode: str = "decide",
        consent: str | None = None,
        sheltered: str | None = None,
        title: str | None = None,
        reward_unit: str = "",
        proxy: Reward | None = None,
        proxy_unit: str = "",
        description: str = "",
    ) -> None:
        if not name.replace("_", "").replace("-", "").isalnum() or not name[0].isalpha():
            raise DeclarationError(f"decision name == {name!r}, must be letters, digits, '-' and '_', a letter first")
        self.name, self.unit = name, unit
        self.slots = must(slots, "slots", typ=int, ge=1)
        self.mode = must(mode, "mode", one_of=MODES)
        self.reward, self.guards, self.consent, self.sheltered = reward, tuple(guards), consent, sheltered
        self.title, self.reward_unit, self.description = title or name.replace("_", " "), reward_unit, description
        if proxy is not None and (reward is None or not proxy_unit or proxy_unit == reward_unit):
            raise DeclarationError(
                f"proxy of decision {name!r}, must stand beside a reward and have a proxy_unit of its own: a proxy is never "
                "shown alone, nor under the reward's name"
            )
        self.proxy, self.proxy_unit = proxy, proxy_unit
        if isinstance(among, type):
            among = among.schema.key
        if isinstance(among, str):
            self.entity: str | None = among
            self.options: Options | None = None
        else:
            self.entity = None
            given = [] if isinstance(among, Options) else [o if isinstance(o, Option) else Option(o, {}) for o in among]
            self.options = among if isinstance(among, Options) else Options(given)
        if isinstance(fallback, Option):
            fallback = fallback.id
        self.fallback: list[Id] = (
            [] if fallback is None else list(fallback) if isinstance(fallback, list | tuple) else [fallback]  # type: ignore[list-item]
        )
        if self.options is not None:
            ids = [o.id for o in self.options.options]
            for one in self.fallback:
                must(one, "fallback", one_of=ids)
        for guard in self.guards:
            if not (hasattr(guard, "mask") and hasattr(guard, "name") and hasattr(guard, "reason")):
                raise DeclarationError(f"guard {guard!r}, must have a name, a reason and mask(request, candidates)")
        if sheltered is not None and not any(f.key == unit and sheltered in f.names for f in self.needs):
            raise DeclarationError(f"sheltered == {sheltered!r}, must be a feature of the {unit} that a guard reads")

    @property
    def windows(self) -> list[type[Fact]]:
        """Scheduled facts whose windows its guards look at, such as licences."""
        return [w for g in self.guards if (w := getattr(g, "windows", None)) is not None]

    @property
    def needs(self) -> list[Features]:
        """Features that its guards read, and consents where it needs them."""
        own = [guarding.consents()] if self.consent else []
        return [*own, *(f for g in self.guards for f in getattr(g, "needs", ()))]

    def by_proxy(self) -> Decision:
        """This decision with its proxy as the reward, for learning from it and for judging by it beside the reward.

        Raises:
            DeclarationError: If it has no proxy.
        """
        if self.proxy is None:
            raise DeclarationError(f"decision {self.name!r} has no proxy, must have one to be learned from: proxy=")
        other = copy(self)
        other.reward, other.reward_unit, other.proxy, other.proxy_unit = self.proxy, self.proxy_unit, None, ""
        return other

    @property
    def shelter(self) -> tuple[Features, str] | None:
        """The features that hold `sheltered`, and its name; None where nobody is sheltered."""
        if self.sheltered is None:
            return None
        return next(f for f in self.needs if f.key == self.unit and self.sheltered in f.names), self.sheltered

    @property
    def guard_names(self) -> list[str]:
        """Names of its guards, in the order in which they act."""
        return [g.name for g in self.guards]

    def __repr__(self) -> str:
        among = self.entity or f"{len(self.options or ())} options"
        return f"Decision({self.name!r}, unit={self.unit!r}, among={among}, slots={self.slots}, mode={self.mode!r})"


def choose(
    decision: Decision,
    policy: Policy,
    request: Request,
    candidates: Candidates,
    *,
    uniforms: np.ndarray[Any, Any],
    policy_name: str = "",
    arm: str = "",
    items_at: datetime | None = None,
    choice_id: str | None = None,
) -> Choice:
    """Choose within the guards and return the record of it.

    A guard that raises, a scorer that fails, no candidate, or all of them masked: the fallback, with probability 1 and
    the reason in the record. A decision never goes unguarded and never raises for what its parts did.

    Args:
        decision: What is decided.
        policy: Who decides.
        request: For whom, when, in what context.
        candidates: What may be chosen, before the guards.
        uniforms: Numbers in [0, 1), one a slot.
        policy_name, arm, items_at, choice_id: What else is written into the record.
    """
    common: dict[str, Any] = {
        "id": choice_id or new_id(),
        "decision": decision.name,
        "unit": request.unit,
        "at": request.at,
        "policy": policy_name,
        "arm": arm,
        "mode": decision.mode,
        "context": dict(request.context),
        "items_at": items_at,
    }

    def fall_back(reason: str, blocked: Mapping[str, list[Any]] = {}) -> Choice:  # never written to
        action = decision.fallback[: decision.slots]
        return Choice(
            **common, action=action, propensities=[1.0] * len(action), fallback=reason, blocked=dict(blocked)
        )

    if len(candidates) == 0:
        return fall_back(NO_CANDIDATES)
    try:
        guarded = guarding.apply(decision.guards, request, candidates)
    except GuardError as error:
        return fall_back(str(error))
    narrowed = candidates
    if guarded.blocked:
        where = guarded.allowed.nonzero()[0]
        if len(where) == 0:
            return fall_back("every candidate is kept out: " + ", ".join(guarded.blocked), guarded.blocked)
        # Score only what is allowed: it is cheaper, and a masked candidate cannot disturb the others.
        narrowed = candidates.take(where)
        for limit in guarded.limits:
            limit.codes = limit.codes.take(where)
    if decision.mode == "advise":
        return _advise(decision, policy, request, candidates, narrowed, guarded, common)
    if decision.mode == "plan":
        try:
            return _planned(decision, policy, request, candidates, narrowed, guarded, common)
        except Exception as error:  # noqa: BLE001  # as below: the record says why
            return fall_back(f"policy {policy_name or policy!r} failed: {error}", guarded.blocked)
    try:
        for limit in guarded.limits:
            limit.codes = _dense(limit.codes)
        drawn = policy.draw(request, narrowed, decision.slots, limits=guarded.limits, uniforms=uniforms)
    except Exception as error:  # noqa: BLE001  # a model that fails must not take the page down: the record says why
        return fall_back(f"policy {policy_name or policy!r} failed: {type(error).__name__}: {error}", guarded.blocked)
    ids, codes = narrowed.ids, [limit.codes for limit in guarded.limits]
    if drawn.among is not None:
        ids, codes = ids.take(drawn.among), [c.take(drawn.among) for c in codes]
    if drawn.layout is not None:
        common["context"]["layout"] = drawn.layout
    return Choice(
        **common,
        candidates=ids.tolist(),
        blocked=dict(guarded.blocked),
        groups={name: c.tolist() for name, c in zip(guarded.limit_names, codes, strict=True)},
        action=narrowed.ids.take(drawn.picked).tolist(),
        propensities=drawn.chance.tolist(),
    )


def _advise(
    decision: Decision,
    policy: Policy,
    request: Request,
    candidates: Candidates,
    allowed: Candidates,
    guarded: guarding.Guarded,
    common: Mapping[str, Any],
) -> Choice:
    """Options with their expected value, interval and the guards that bite. Nothing is drawn: a person decides."""
    scores = policy._scores(request, allowed) if policy.scorer is not None else None
    advice = []
    if scores is not None:
        order = scores.mean.argsort()[::-1]
        for i in order.tolist():
            std = None if scores.std is None else float(scores.std[i])
            mean = float(scores.mean[i])
            advice.append(
                Advice(
                    option=allowed.ids[i].item(),
                    value=mean,
                    low=None if std is None else mean - 1.2816 * std,  # 80%, as forecasts are shown
                    high=None if std is None else mean + 1.2816 * std,
                    drivers=_drivers(policy, request, allowed, i),
                )
            )
    else:
        advice = [Advice(option=i) for i in allowed.ids.tolist()]
    advice += [Advice(option=i, blocked_by=name) for name, ids in guarded.blocked.items() for i in ids]
    return Choice(**common, candidates=allowed.ids.tolist(), blocked=dict(guarded.blocked), advice=advice)


def _planned(
    decision: Decision,
    policy: Policy,
    request: Request,
    candidates: Candidates,
    allowed: Candidates,
    guarded: guarding.Guarded,
    common: Mapping[str, Any],
) -> Choice:
    """What the solver found, once the guards themselves have found nothing wrong with it."""
    if not isinstance(policy, Solver):
        raise DeclarationError("it draws, must be a solver (mt.Solver): the decision is in plan mode")
    solved = policy.solve(request, allowed, guarded.limits, decision.slots)
    action = list(solved.action)
    wrong = check_slate(decision, request, candidates, action)
    if wrong:
        raise GuardError("its plan is not allowed: " + "; ".join(wrong[:3]))
    return Choice(
        **common,
        candidates=allowed.ids.tolist(),
        blocked=dict(guarded.blocked),
        groups={name: limit.codes.tolist() for name, limit in zip(guarded.limit_names, guarded.limits, strict=True)},
        action=action,
        plan=solved.claim,
    )


def _drivers(policy: Policy, request: Request, candidates: Candidates, index: int) -> dict[str, float]:
    explain = getattr(policy.scorer, "explain", None)
    return {} if explain is None else dict(explain(request, candidates, index))


def check_slate(decision: Decision, request: Request, candidates: Candidates, action: Sequence[Id]) -> list[str]:
    """What is wrong with a finished slate or plan, by the decision's own guards; an empty list when nothing is.

    The independent checker of `plan` mode and of every sealed choice: it knows nothing of how the slate was made.
    """
    import numpy as np

    index = {i: k for k, i in enumerate(candidates.ids.tolist())}
    unknown = [a for a in action if a not in index]
    if unknown:
        return [f"{unknown[0]!r} is not among the candidates"]
    guarded = guarding.apply(decision.guards, request, candidates)
    where = np.array([index[a] for a in action], np.int64)
    wrong = [f"{action[i]!r} is kept out" for i in np.flatnonzero(~guarded.allowed[where]).tolist()]
    wrong += [f"{a!r} is chosen twice" for a in dict.fromkeys(action) if list(action).count(a) > 1]
    if len(action) > decision.slots:
        wrong.append(f"{len(action)} are chosen, must be at most {decision.slots}")
    for name, limit in zip(guarded.limit_names, guarded.limits, strict=True):
        codes = limit.codes[where]
        groups, counts = np.unique(codes[codes >= 0], return_counts=True)
        wrong += [f"{name}: {int(c)} from one group" for c in counts[counts > limit.limit].tolist() or [] if len(groups)]
    return wrong


def _dense(codes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Group codes numbered from 0 among the candidates at hand: the draw counts them in an array of that size."""
    import numpy as np

    if len(codes) and np.maximum.reduce(codes) < len(codes) and np.minimum.reduce(codes) >= -1:
        return codes
    dense: np.ndarray[Any, Any] = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    if (codes < 0).any():
        dense = np.where(codes < 0, -1, dense)
    return dense
