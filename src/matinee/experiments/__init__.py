"""Experiments: splits that never move a unit, sample ratio checks, power, readouts at any time, two rankers on one page."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from matinee.experiments.split import Split

if TYPE_CHECKING:
    from matinee.experiments.boundaries import Design
    from matinee.experiments.interleaving import Draft, Interleaved, draft, interleaved, replay, sign_power, sign_test
    from matinee.experiments.readouts import Guardrail, Readout, Verdict, readout
    from matinee.experiments.samples import Sample, cuped
    from matinee.experiments.sizing import Power, power, units_needed
    from matinee.experiments.srm import RatioCheck, ratio_check

# Serving needs only the split: what reads experiments brings NumPy and SciPy, and is loaded when it is used.
_LATER = {
    "Design": "boundaries",
    "Draft": "interleaving",
    "Guardrail": "readouts",
    "Interleaved": "interleaving",
    "Power": "sizing",
    "RatioCheck": "srm",
    "Readout": "readouts",
    "Sample": "samples",
    "Verdict": "readouts",
    "cuped": "samples",
    "draft": "interleaving",
    "interleaved": "interleaving",
    "power": "sizing",
    "ratio_check": "srm",
    "readout": "readouts",
    "replay": "interleaving",
    "sign_power": "interleaving",
    "sign_test": "interleaving",
    "units_needed": "sizing",
}

__all__ = [
    "Design",
    "Draft",
    "Guardrail",
    "Interleaved",
    "Power",
    "RatioCheck",
    "Readout",
    "Sample",
    "Split",
    "Verdict",
    "cuped",
    "draft",
    "interleaved",
    "power",
    "ratio_check",
    "readout",
    "replay",
    "sign_power",
    "sign_test",
    "units_needed",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
