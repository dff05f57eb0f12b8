"""Matinee: the decisions platform behind a streaming service and its studio.

    facts -> features -> model -> decision (under guards) -> choice, logged with its probability -> outcome -> evidence

Everything a studio needs day to day is here; `matinee.testing` has the conformance suites, `matinee.evaluate` the
estimators, `matinee.worlds` the simulators with known truth. Names are loaded when they are first used, so that
`import matinee` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matinee.choices import Choice as Choice
    from matinee.choices import Outcome as Outcome
    from matinee.decisions import Decision as Decision
    from matinee.decisions import Option as Option
    from matinee.decisions import grid as grid
    from matinee.decisions import stop as stop
    from matinee.domain import Domain as Domain
    from matinee.exceptions import MatineeError as MatineeError
    from matinee.facts import Entity as Entity
    from matinee.facts import Fact as Fact
    from matinee.facts import OneOf as OneOf
    from matinee.facts import Range as Range
    from matinee.features import Features as Features
    from matinee.features import apply as apply
    from matinee.features import counts as counts
    from matinee.features import history as history
    from matinee.features import last as last
    from matinee.features import mean as mean
    from matinee.features import nightly as nightly
    from matinee.features import rate as rate
    from matinee.features import recency as recency
    from matinee.features import state as state
    from matinee.guards import at_most as at_most
    from matinee.guards import cap as cap
    from matinee.guards import licensed as licensed
    from matinee.guards import maturity as maturity
    from matinee.guards import never as never
    from matinee.guards import quiet as quiet
    from matinee.guards import requires as requires
    from matinee.log_weights import LogWeights as LogWeights
    from matinee.models import LightGBM as LightGBM
    from matinee.models import Linear as Linear
    from matinee.models import Logistic as Logistic
    from matinee.models import Popularity as Popularity
    from matinee.models import Survival as Survival
    from matinee.plans import BestSlate as BestSlate
    from matinee.plans import Solver as Solver
    from matinee.policies import Candidates as Candidates
    from matinee.policies import Epsilon as Epsilon
    from matinee.policies import Greedy as Greedy
    from matinee.policies import Mixture as Mixture
    from matinee.policies import Policy as Policy
    from matinee.policies import Request as Request
    from matinee.policies import Scores as Scores
    from matinee.policies import Softmax as Softmax
    from matinee.policies import Thompson as Thompson
    from matinee.policies import Uniform as Uniform
    from matinee.rewards import cost as cost
    from matinee.rewards import count as count
    from matinee.rewards import did as did
    from matinee.rewards import fee as fee
    from matinee.rewards import own as own
    from matinee.rewards import sum as sum
    from matinee.rights import Consent as Consent
    from matinee.studio import Studio as Studio
    from matinee.studio import open as open

_HOMES: dict[str, tuple[str, ...]] = {
    "matinee.choices": ("Choice", "Outcome"),
    "matinee.decisions": ("Decision", "Option", "grid", "stop"),
    "matinee.domain": ("Domain",),
    "matinee.exceptions": ("MatineeError",),
    "matinee.log_weights": ("LogWeights",),
    "matinee.facts": ("Entity", "Fact", "OneOf", "Range"),
    "matinee.features": (
        "Features", "apply", "counts", "history", "last", "mean", "nightly", "rate", "recency", "state",
    ),
    "matinee.guards": ("at_most", "cap", "licensed", "maturity", "never", "quiet", "requires"),
    "matinee.models": ("LightGBM", "Linear", "Logistic", "Popularity", "Survival"),
    "matinee.plans": ("BestSlate", "Solver"),
    "matinee.policies": (
        "Candidates", "Epsilon", "Greedy", "Mixture", "Policy", "Request", "Scores", "Softmax", "Thompson", "Uniform",
    ),
    "matinee.rewards": ("cost", "count", "did", "fee", "own", "sum"),
    "matinee.rights": ("Consent",),
    "matinee.studio": ("Studio", "open"),
}  # fmt: skip
_WHERE = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_WHERE)  # a list of str, built from the table above


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(import_module(_WHERE[name]), name)
        globals()[name] = value
        return value
    if not name.startswith("_"):
        from importlib.util import find_spec

        if find_spec(f"matinee.{name}") is not None:
            return import_module(f"matinee.{name}")
    from matinee.exceptions import did_you_mean

    raise AttributeError(f"matinee has no {name!r}{did_you_mean(name, __all__)}")


def __dir__() -> list[str]:
    return __all__
