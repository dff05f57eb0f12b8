"""Evidence: off-policy estimates with intervals and refusals, reward models, back-tests, calibration, metrics."""

from matinee.evaluate.backtest import Backtest, backtest, rolling_origins, score_metric
from matinee.evaluate.calibration import interval_coverage, reliability
from matinee.evaluate.compare import Comparison, compare
from matinee.evaluate.estimators import LAMBDAS, METHODS, Terms, terms
from matinee.evaluate.evidence import Evidence, EvidenceTable, closed_only, estimate, estimate_all
from matinee.evaluate.logged import Logged, SlateLog, balanced, unsupported_mass
from matinee.evaluate.logistic import OneHotLogistic
from matinee.evaluate.reward_model import CrossFitted, cross_fit
from matinee.evaluate.slates import SLATE_METHODS, slate_terms
from matinee.evaluate.thresholds import Refusal, Thresholds, effective_size

__all__ = [
    "LAMBDAS",
    "METHODS",
    "SLATE_METHODS",
    "Backtest",
    "Comparison",
    "CrossFitted",
    "Evidence",
    "EvidenceTable",
    "Logged",
    "OneHotLogistic",
    "Refusal",
    "SlateLog",
    "Terms",
    "Thresholds",
    "backtest",
    "balanced",
    "closed_only",
    "compare",
    "cross_fit",
    "effective_size",
    "estimate",
    "estimate_all",
    "interval_coverage",
    "reliability",
    "rolling_origins",
    "score_metric",
    "slate_terms",
    "terms",
    "unsupported_mass",
]
