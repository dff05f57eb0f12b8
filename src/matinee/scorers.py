"""Scorers: what turns a request and its candidates into scores. A trained model with its features, or any object that
follows the protocol; saved as a folder, found again by name and version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

from matinee.disk import write_whole
from matinee.exceptions import MatineeError, RefusedError, StorageError, UnknownNameError
from matinee.policies import Candidates, Request, Scorer, Scores

if TYPE_CHECKING:
    from matinee.features import Features
    from matinee.models import Model

CLOCK = ("hour", "weekday")


@runtime_checkable
class Storable(Scorer, Protocol):
    """A scorer that can be kept in a studio. `kind` names its class in saved files; register it with `register`."""

    kind: ClassVar[str]

    def save(self, folder: Path) -> None:
        """Write everything needed to load it, without pickle."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The scorer that `save` wrote."""
        ...


_KINDS: dict[str, type[Storable]] = {}


def register(cls: type[Any]) -> type[Any]:
    """Class decorator: make scorers of this kind loadable by name."""
    _KINDS[cls.kind] = cls
    return cls


@dataclass(frozen=True)
class Inputs:
    """Which columns a trained model reads, by where they come from. Their names in the model carry the prefix.

    Attributes:
        unit: Features of the unit: `unit.hours_7d`.
        item: Columns of the candidates: `item.plays_7d`.
        context: What the caller sent: `context.device`.
        clock: Whether `clock.hour` and `clock.weekday` (UTC) are read.
        scorers: Scores of other scorers: `score.ease`.
        action: Whether the candidate's own id is a column: `action`.
    """

    unit: tuple[str, ...] = ()
    item: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    clock: bool = False
    scorers: tuple[str, ...] = ()
    action: bool = False

    def names(self) -> list[str]:
        """Names of the model's columns."""
        return [
            *(f"unit.{n}" for n in self.unit),
            *(f"item.{n}" for n in self.item),
            *(f"context.{n}" for n in self.context),
            *(f"clock.{n}" for n in CLOCK if self.clock),
            *(f"score.{n}" for n in self.scorers),
            *(("action",) if self.action else ()),
        ]


@register
@dataclass
class Trained:
    """A model with the features it was trained on: scores candidates the same way online as in training.

    Attributes:
        name: Name and version: `home-ranker@3`.
        model: The learner, fitted.
        inputs: Which columns it reads.
        features: The unit's features that must be in the request.
        parts: Scorers whose scores are columns of the model, by name.
    """

    kind: ClassVar[str] = "trained"
    name: str
    model: Model
    inputs: Inputs
    features: Sequence[Features] = ()
    parts: Mapping[str, Scorer] = field(default_factory=dict)

    @property
    def needs(self) -> list[Features]:
        """Features of the unit that it reads, and those of its parts."""
        return [*self.features, *(f for part in self.parts.values() for f in part.needs)]

    def columns(self, request: Request, candidates: Candidates) -> dict[str, Any]:
        """The model's columns for this request: arrays over the candidates, or one value for all of them."""
        inputs, columns = self.inputs, candidates.columns
        row: dict[str, Any] = {f"unit.{n}": request.features.get(n) for n in inputs.unit}
        for n in inputs.item:
            if n not in columns:
                raise UnknownNameError("candidate column", n, columns)
            row[f"item.{n}"] = columns[n]
        row |= {f"context.{n}": request.context.get(n) for n in inputs.context}
        if inputs.clock:
            row |= {"clock.hour": request.at.hour, "clock.weekday": request.at.weekday()}
        for n in inputs.scorers:
            row[f"score.{n}"] = self.parts[n].score(request, candidates).mean
        if inputs.action:
            row["action"] = candidates.ids.astype(str)  # as the log writes ids
        return row

    def score(self, request: Request, candidates: Candidates) -> Scores:
        """One score a candidate, from the model."""
        matrix = self.model.encode(self.columns(request, candidates), len(candidates))
        return Scores(self.model.score_array(matrix), self._spread(matrix))

    def explain(self, request: Request, candidates: Candidates, index: int) -> dict[str, float]:
        """What each column adds to the score of one candidate, before the link (log-odds where it is a probability).

        Together with the model's base, its score where nothing is known, they add up to the score. Empty for a model
        that cannot say (one without `contributions_array`).
        """
        contributions = getattr(self.model, "contributions_array", None)
        if contributions is None:
            return {}
        import numpy as np

        # A part may score a candidate by what stands beside it: where there are parts all candidates are scored.
        if not self.parts:
            candidates, index = candidates.take(np.array([index])), 0
        matrix = self.model.encode(self.columns(request, candidates), len(candidates))
        added = contributions(matrix[index : index + 1])[0, :-1]
        names: list[str] = self.model.signature.names  # type: ignore[attr-defined]  # what can say so has one
        return dict(zip(names, added.tolist(), strict=True))

    def _spread(self, matrix: Any) -> Any:
        """Standard deviation of each score given the data, for Thompson; None for a model that does not know it."""
        spread = getattr(self.model, "spread", None)
        if spread is None:
            return None
        try:
            return spread(matrix)
        except RefusedError:
            return None  # too many coefficients for it to be computed while someone waits

    def propose(self, request: Request, candidates: Candidates) -> Any:
        """Indices worth scoring, from the parts that propose some; None for all."""
        import numpy as np

        found = [p for part in self.parts.values() if (p := propose(part, request, candidates)) is not None]
        return np.unique(np.concatenate(found)) if found else None

    def save(self, folder: Path) -> None:
        """Write the model and what it reads; its features are named, and come from the studio on loading."""
        self.model.save(folder / "model")
        inputs = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.inputs).items()}
        meta = {
            "inputs": inputs,
            "features": [f.name for f in self.features],
            "parts": {k: s.name for k, s in self.parts.items()},
        }
        write_whole(folder / "trained.json", json.dumps(meta, indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> Trained:
        """The scorer without its features and parts, which `load_scorer` fills in from the studio."""
        from matinee import models

        meta = _read_json(folder / "trained.json")
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in meta["inputs"].items()}
        inputs = Inputs(**given)
        return cls("", models.load(folder / "model"), inputs)

    def __repr__(self) -> str:
        return f"Trained({self.name!r}, {self.model!r})"


def propose(scorer: Scorer, request: Request, candidates: Candidates) -> Any:
    """Indices that the scorer proposes out of a large catalogue, or None for all of them."""
    own = getattr(scorer, "propose", None)
    return None if own is None else own(request, candidates)


class Shelf:
    """The scorers of a studio: folders `models/NAME/VERSION`, each written whole before it gets its number."""

    def __init__(self, folder: Path, features: Mapping[str, Features]) -> None:
        self.folder, self._features = folder, features
        self._loaded: dict[str, Scorer] = {}

    def names(self) -> list[str]:
        """Every `name@version`, by name, oldest version first."""
        return [
            f"{v.parent.name}@{v.name}" for v in sorted(self.folder.glob("*/*"), key=_by_version) if v.name.isdigit()
        ]

    def newest(self, name: str) -> str | None:
        """The newest version of a name, or None."""
        versions = [n for n in self.names() if n.rpartition("@")[0] == name]
        return versions[-1] if versions else None

    def save(self, name: str, scorer: Storable) -> str:
        """Keep a scorer under the next version of its name; returns `name@version` and sets it on the scorer."""
        if "/" in name or "\\" in name or name.startswith(".") or "@" in name or not name:
            raise MatineeError(f"name == {name!r}, must be letters, digits, '-' and '_'")
        parent = self.folder / name
        parent.mkdir(parents=True, exist_ok=True)
        number = max((int(v.name) for v in parent.iterdir() if v.name.isdigit()), default=0) + 1
        part = parent / f".{number}.part"
        part.mkdir(exist_ok=True)
        scorer.save(part)
        write_whole(part / "scorer.json", json.dumps({"kind": scorer.kind}).encode())
        while True:
            try:
                part.rename(parent / str(number))
                break
            except OSError:  # another process took the number meanwhile
                if not (parent / str(number)).exists():
                    raise
                number += 1
        scorer.name = f"{name}@{number}"
        self._loaded[scorer.name] = scorer
        return scorer.name

    def path(self, name: str) -> Path:
        """The folder of a scorer.

        Raises:
            UnknownNameError: If there is none of that name and version.
        """
        if "@" not in name:
            name = self.newest(name) or name
        if name not in self.names():
            raise UnknownNameError("model", name, self.names())
        stem, _, version = name.rpartition("@")
        return self.folder / stem / version

    def load(self, name: str) -> Scorer:
        """The scorer of that name and version; the newest version where none is named."""
        path = self.path(name)
        full = f"{path.parent.name}@{path.name}"
        if full in self._loaded:
            return self._loaded[full]
        kind = _read_json(path / "scorer.json")["kind"]
        if kind not in _KINDS:
            raise UnknownNameError("scorer kind", kind, _KINDS)
        scorer = _KINDS[kind].load(path)
        scorer.name = full
        if isinstance(scorer, Trained):
            meta = _read_json(path / "trained.json")
            scorer.features = [self._named(f, full) for f in meta["features"]]
            scorer.parts = {k: self.load(v) for k, v in meta["parts"].items()}
        self._loaded[full] = scorer
        return scorer

    def _named(self, features: str, model: str) -> Features:
        if features not in self._features:
            raise UnknownNameError(f"features of model {model}", features, self._features)
        return self._features[features]


def _by_version(path: Path) -> tuple[str, int]:
    return path.parent.name, int(path.name) if path.name.isdigit() else 0


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise StorageError(f"{path.parent.name}/{path.name} is missing; train the model again") from None
    except ValueError as error:
        raise StorageError(f"{path.parent.name}/{path.name} is cut short or damaged; train the model again") from error
