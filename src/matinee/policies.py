"""Policies choose within the guards, with a known probability: greedy, epsilon, softmax, Thompson, uniform, mixtures.

A policy has a scorer (what the candidates are worth) and a rule (how a score becomes a chance). Anybody's policy works
if it subclasses `Policy` and implements `distribution`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from matinee.checks import must
from matinee.choices import Id
from matinee.draw import FUNCTION, GREEDY, SOFTMAX, Component, Limit, fill_slots
from matinee.exceptions import DeclarationError, MatineeError, UnknownNameError

if TYPE_CHECKING:
    import numpy as np

    from matinee.features import Features

    Array = np.ndarray[Any, Any]


@dataclass(slots=True)
class Request:
    """What is known when a decision is asked for.

    Attributes:
        decision: Name of the decision.
        unit: Key of whom or what it is for.
        at: The moment of the decision (UTC).
        context: What the caller sent: device, country, amount.
        features: Values of the unit's features as of `at`.
        lookup: Features of any other key: `lookup("consents", "performer-7")`.
    """

    decision: str
    unit: Id
    at: datetime
    context: Mapping[str, Any]
    features: Mapping[str, Any]
    lookup: Callable[[str, Id], Mapping[str, Any]] | None = None


@dataclass(slots=True)
class Candidates:
    """What may be chosen: ids, and columns aligned with them (NumPy arrays whose first axis is the candidate)."""

    ids: Array
    columns: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: Array) -> Candidates:
        """The candidates at these positions."""
        if index.dtype.kind == "b":
            index = index.nonzero()[0]
        return Candidates(self.ids.take(index), _Taken(self.columns, index))


class _Taken(Mapping[str, "Array"]):
    """Columns at some positions, each taken when it is first read: most are read by guards alone, which are through."""

    __slots__ = ("_columns", "_index", "_taken")

    def __init__(self, columns: Mapping[str, Array], index: Array) -> None:
        self._columns, self._index = columns, index
        self._taken: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        found = self._taken.get(name)
        if found is None:
            found = self._taken[name] = self._columns[name].take(self._index, axis=0)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


@dataclass(slots=True)
class Scores:
    """What candidates are worth: a mean and, for Thompson, its standard deviation; shape (candidates,)."""

    mean: Array
    std: Array | None = None


@runtime_checkable
class Scorer(Protocol):
    """Turns a request and its candidates into scores. `propose` may narrow a large catalogue first."""

    name: str

    @property
    def needs(self) -> Sequence[Features]:
        """Features of the unit that it reads from the request."""
        ...

    def score(self, request: Request, candidates: Candidates) -> Scores:
        """One score a candidate."""
        ...


def _checked(scores: Scores, scorer: Scorer, n: int) -> Scores:
    import numpy as np

    mean = np.asarray(scores.mean, np.float64)
    if mean.shape != (n,):
        raise MatineeError(f"scorer {scorer.name!r} gave shape {mean.shape}, must be ({n},): one score a candidate")
    if not isfinite(mean.sum()) and not np.isfinite(mean).all():
        bad = int((~np.isfinite(mean)).sum())
        raise MatineeError(f"scorer {scorer.name!r} gave {bad} scores that are not finite, must all be numbers")
    return Scores(mean, scores.std)


@dataclass(slots=True)
class Drawn:
    """A slate as it was drawn.

    Attributes:
        picked: Indices of the candidates chosen, in order, shape (filled,).
        chance: Conditional probability of each given those before it, shape (filled,).
        matrix: The whole distribution of each slot, shape (filled, candidates), where it was asked for.
        among: Indices of the candidates that some slot could have taken, ascending; None for all. The others had no
            influence, so that these alone need to be logged.
        layout: How the slots are arranged, such as the rows of a page: JSON text, kept in the record's context.
        components: The one distribution that every slot was drawn from; None where slots were drawn in stages.
    """

    picked: Array
    chance: Array
    matrix: Array
    among: Array | None = None
    layout: str | None = None
    components: Sequence[Component] | None = None


class Policy:
    """Base of every policy. Subclass it and implement `distribution` to bring your own.

    A policy that fills its slots in stages, such as a page of rows, overrides `draw`.
    """

    kind: ClassVar[str] = ""
    scorer: Scorer | None = None
    parameters: Mapping[str, Any] = {}

    def distribution(self, scores: Scores, allowed: Array) -> Array:
        """Probabilities over the allowed indices, shape (allowed,); must sum to one."""
        raise NotImplementedError

    def components(self, request: Request, candidates: Candidates) -> list[Component]:
        """The policy's distribution for this request, ready for the draw."""
        scores = self._scores(request, candidates)
        return [Component(1.0, FUNCTION, scores.mean, lambda allowed: self.distribution(scores, allowed))]

    def draw(
        self,
        request: Request,
        candidates: Candidates,
        slots: int,
        *,
        limits: Sequence[Limit] = (),
        uniforms: Array | None = None,
        forced: Array | None = None,
        full: bool = False,
    ) -> Drawn:
        """Fill the slots among candidates that are all allowed; see `draw.fill_slots`, which this does by default."""
        import numpy as np

        allowed = np.ones(len(candidates), np.bool_)
        parts = self.components(request, candidates)
        filled = fill_slots(parts, allowed, slots, limits=limits, uniforms=uniforms, forced=forced, full=full)
        return Drawn(*filled, components=parts)

    def scorers(self) -> list[Scorer]:
        """Every scorer it uses."""
        return [] if self.scorer is None else [self.scorer]

    def spec(self) -> dict[str, Any]:
        """Plain values from which `from_spec` builds the same policy; scorers by name."""
        return {"kind": self.kind, "scorer": self.scorer and self.scorer.name, **self.parameters}

    @classmethod
    def of_spec(cls, spec: Mapping[str, Any], scorers: Callable[[str], Scorer]) -> Policy:
        """The policy that `spec` of this kind describes; a policy that holds others overrides it."""
        parameters = {k: v for k, v in spec.items() if k not in ("kind", "scorer")}
        if spec.get("scorer"):
            return cls(scorers(spec["scorer"]), **parameters)  # type: ignore[call-arg]
        return cls(**parameters)

    def _scores(self, request: Request, candidates: Candidates) -> Scores:
        import numpy as np

        if self.scorer is None:
            return Scores(np.zeros(len(candidates)))
        return _checked(self.scorer.score(request, candidates), self.scorer, len(candidates))

    def __repr__(self) -> str:
        parts = ([self.scorer.name] if self.scorer else []) + [f"{k}={v!r}" for k, v in self.parameters.items()]
        return f"{type(self).__name__}({', '.join(parts)})"


class Uniform(Policy):
    """Every allowed candidate alike: the cleanest log there is, and the dearest."""

    kind = "uniform"

    def distribution(self, scores: Scores, allowed: Array) -> Array:
        import numpy as np

        return np.full(len(allowed), 1.0 / len(allowed))

    def components(self, request: Request, candidates: Candidates) -> list[Component]:
        import numpy as np

        return [Component(1.0, SOFTMAX, np.zeros(len(candidates)))]


class Greedy(Policy):
    """The best score, always. Cannot be evaluated later nor evaluate others: mix it with exploration."""

    kind = "greedy"

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def distribution(self, scores: Scores, allowed: Array) -> Array:
        import numpy as np

        p = np.zeros(len(allowed))
        p[int(np.argmax(scores.mean[allowed]))] = 1.0
        return p

    def components(self, request: Request, candidates: Candidates) -> list[Component]:
        return [Component(1.0, GREEDY, self._scores(request, candidates).mean)]


class Epsilon(Policy):
    """The best score with probability 1 - epsilon, any allowed candidate with epsilon, slot by slot."""

    kind = "epsilon"

    def __init__(self, scorer: Scorer, epsilon: float = 0.1) -> None:
        self.scorer = scorer
        self.epsilon = must(float(epsilon), "epsilon", ge=0, le=1)
        self.parameters = {"epsilon": self.epsilon}

    def distribution(self, scores: Scores, allowed: Array) -> Array:
        import numpy as np

        p = np.full(len(allowed), self.epsilon / len(allowed))
        p[int(np.argmax(scores.mean[allowed]))] += 1.0 - self.epsilon
        return p

    def components(self, request: Request, candidates: Candidates) -> list[Component]:
        import numpy as np

        mean = self._scores(request, candidates).mean
        return [
            Component(1.0 - self.epsilon, GREEDY, mean),
            Component(self.epsilon, SOFTMAX, np.zeros(len(candidates))),
        ]


class Softmax(Policy):
    """Chance in proportion to exp(score / temperature), with an optional floor shared evenly.

    Args:
        scorer: What candidates are worth.
        temperature: In units of the score; small is nearly greedy.
        floor: Share of the draw spread evenly over the allowed, so that nothing allowed has no chance at all.
    """

    kind = "softmax"

    def __init__(self, scorer: Scorer, temperature: float = 1.0, floor: float = 0.0) -> None:
        self.scorer = scorer
        self.temperature = must(float(temperature), "temperature", gt=0)
        self.floor = must(float(floor), "floor", ge=0, le=1)
        self.parameters = {"temperature": self.temperature, "floor": self.floor}

    def distribution(self, scores: Scores, allowed: Array) -> Array:
        import numpy as np

        z = scores.mean[allowed] / self.temperature
        w = np.exp(z - z.max())
        result: Array = (1 - self.floor) * w / w.sum() + self.floor / len(allowed)
        return result

    def components(self, request: Request, candidates: Candidates) -> list[Component]:
        import numpy as np

        scaled = self._scores(request, candidates).mean
        if self.temperature != 1:
            scaled = scaled / self.temperature
        if self.floor == 0:
            return [Component(1.0, SOFTMAX, scaled)]
        return [
            Component(1 - self.floor, SOFTMAX, scaled),
            Component(self.floor, SOFTMAX, np.zeros(len(candidates))),
        ]


class Thompson(Policy):
    """Each candidate with the probability that it is the best, given normal beliefs about the scores.

    The probability P(argmax) has no closed form; it is computed by quadrature over the maximum,
    P(i) = integral of phi_i(x) prod_{j != i} Phi_j(x) dx, so that the logged number is the one that was drawn from.
    Every slot draws anew from the beliefs.

    Args:
        scorer: Must give `Scores.std`.
        floor: Share spread evenly, so that the log keeps support.
        nodes: Points of the quadrature (trapezoid over the range that holds the maximum).
    """

    kind = "thompson"

    def __init__(self, scorer: Scorer, floor: float = 0.01, nodes: int = 256) -> None:
        self.scorer = scorer
        self.floor = must(float(floor), "floor", ge=0, le=1)
        self.nodes = must(int(nodes), "nodes", ge=32)
        self.parameters = {"floor": self.floor, "nodes": self.nodes}

    def distribution(self, scores: Scores, allowed: Array) -> Array:
        import numpy as np

        if scores.std is None:
            name = self.scorer.name if self.scorer else "none"
            raise DeclarationError(f"Thompson over scorer {name!r}, must have a scorer whose scores carry `std`")
        p = probability_of_best(scores.mean[allowed], np.asarray(scores.std, np.float64)[allowed], self.nodes)
        result: Array = (1 - self.floor) * p + self.floor / len(allowed)
        return result


def probability_of_best(mean: Array, std: Array, nodes: int = 256) -> Array:
    """P(i is the largest) for independent normals, shape (n,), by quadrature; sums to one.

    Example:
        >>> import numpy as np
        >>> probability_of_best(np.array([0.0, 0.0]), np.array([1.0, 1.0])).round(6).tolist()
        [0.5, 0.5]
    """
    import numpy as np
    from scipy.special import log_ndtr

    if len(mean) == 1:
        return np.ones(1)
    sure = std <= 0
    if sure.all():
        p = (mean == mean.max()).astype(np.float64)
        return np.asarray(p / p.sum())
    # A belief without spread is given a hair of it: the quadrature then needs no special case.
    scale = np.maximum(std, 1e-6 * max(float(std.max()), 1e-12))
    low, high = float((mean - 8 * scale).max()), float((mean + 8 * scale).max())
    narrow = float(scale.min())
    count = int(min(max(nodes, 6 * (high - low) / narrow), 8192))
    x = np.linspace(low, high, count)
    z = (x[None, :] - mean[:, None]) / scale[:, None]
    below = log_ndtr(z)
    density = -0.5 * z * z - np.log(scale)[:, None]
    total = below.sum(axis=0)
    mass: Array = np.exp(density + total[None, :] - below).sum(axis=1)
    return np.asarray(mass / mass.sum())


class Mixture(Policy):
    """Several policies, mixed slot by slot: `Mixture({Softmax(ranker): 0.9, Uniform(): 0.1})`."""

    kind = "mixture"

    def __init__(self, parts: Mapping[Policy, float]) -> None:
        if not parts:
            raise DeclarationError("parts == {}, must hold at least one policy with its share")
        for policy, share in parts.items():
            must(float(share), f"share of {policy!r}", gt=0, le=1)
        total = sum(parts.values())
        if abs(total - 1) > 1e-9:
            raise DeclarationError(f"shares sum to {total:.6g}, must sum to 1")
        self.parts = dict(parts)

    def scorers(self) -> list[Scorer]:
        return [scorer for part in self.parts for scorer in part.scorers()]

    def distribution(self, scores: Scores, allowed: Array) -> Array:
        """With one set of scores for all parts; the draw itself scores each part on its own."""
        import numpy as np

        return np.asarray(sum(share * part.distribution(scores, allowed) for part, share in self.parts.items()))

    def components(self, request: Request, candidates: Candidates) -> list[Component]:
        return [
            Component(share * c.weight, c.kind, c.values, c.function)
            for part, share in self.parts.items()
            for c in part.components(request, candidates)
        ]

    @classmethod
    def of_spec(cls, spec: Mapping[str, Any], scorers: Callable[[str], Scorer]) -> Policy:
        return cls({from_spec(part["policy"], scorers): part["share"] for part in spec["parts"]})

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, "parts": [{"share": s, "policy": p.spec()} for p, s in self.parts.items()]}

    def __repr__(self) -> str:
        return "Mixture(" + ", ".join(f"{share:g} {part!r}" for part, share in self.parts.items()) + ")"


KINDS: dict[str, type[Policy]] = {p.kind: p for p in (Uniform, Greedy, Epsilon, Softmax, Thompson, Mixture)}


def from_spec(spec: Mapping[str, Any], scorers: Callable[[str], Scorer]) -> Policy:
    """The policy that `spec` describes.

    Args:
        spec: What `Policy.spec` gave.
        scorers: Finds a scorer by its name.

    Raises:
        UnknownNameError: If the kind is not registered; a policy of one's own registers itself in `KINDS`.
    """
    kind = spec["kind"]
    if kind not in KINDS:
        raise UnknownNameError("policy kind", kind, KINDS)
    return KINDS[kind].of_spec(spec, scorers)
