"""Models: what scores candidates. One protocol, saved without pickle, and the learners every domain shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matinee.models.delayed import DelayedFeedback
    from matinee.models.gradient_boosting import LightGBM
    from matinee.models.linear import Linear, Logistic
    from matinee.models.popularity import Popularity
    from matinee.models.protocol import MatrixLearner, Model, build, load, register
    from matinee.models.signature import Column, Signature
    from matinee.models.storage import read_model, write_model
    from matinee.models.survival import Survival

__all__ = [
    "Column",
    "DelayedFeedback",
    "LightGBM",
    "Linear",
    "Logistic",
    "MatrixLearner",
    "Model",
    "Popularity",
    "Signature",
    "Survival",
    "build",
    "load",
    "read_model",
    "register",
    "write_model",
]

_HOMES = {
    "DelayedFeedback": "delayed",
    "LightGBM": "gradient_boosting",
    "Linear": "linear",
    "Logistic": "linear",
    "Popularity": "popularity",
    "Survival": "survival",
    "Column": "signature",
    "Signature": "signature",
    "read_model": "storage",
    "write_model": "storage",
}


def __getattr__(name: str) -> Any:
    # Names are imported where they are first used: NumPy and LightGBM cost what the whole package may not.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"matinee.models.{_HOMES.get(name, 'protocol')}"), name)
