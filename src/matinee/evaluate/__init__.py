"""Evidence: off-policy estimates with intervals and refusals, reward models, back-tests, calibration, metrics."""

from matinee.evaluate.compare import Comparison, compare
from matinee.evaluate.estimators import LAMBDAS, METHODS, Terms, terms
from matinee.evaluate.evidence import Evidence, EvidenceTable, closed_only, estimate, estimate_all
from matinee.evaluate.logged import Logged, SlateLog, balanced, unsupported_mass
from matinee.evaluate.reward_model import CrossFitted, cross_fit
from matinee.evaluate.slates import SLATE_METHODS, slate_terms
from matinee.evaluate.thresholds import Refusal, Thresholds, effective_size

__all__ = [
    "LAMBDAS",
    "METHODS",
    "SLATE_METHODS",
    "Comparison",
    "CrossFitted",
    "Evidence",
    "EvidenceTable",
    "Logged",
    "Refusal",
    "SlateLog",
    "Terms",
    "Thresholds",
    "balanced",
    "closed_only",
    "compare",
    "cross_fit",
    "effective_size",
    "estimate",
    "estimate_all",
    "slate_terms",
    "terms",
    "unsupported_mass",
]
