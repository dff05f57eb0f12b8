"""Conformance checks for anybody's model, policy, solver, guard, scorer or features: what each promises, tried out.

    from matinee.testing import check_model
    check_model(MyModel())                        # raises AssertionError with a sentence at the first broken promise

Under pytest, one test a promise:

    @pytest.mark.parametrize("check", list(yield_model_checks()), ids=lambda check: check.__name__)
    def test_my_model(check):
        check(MyModel(), np.random.default_rng(7))
"""

from __future__ import annotations

from matinee.testing.features import check_features, random_facts, yield_features_checks
from matinee.testing.models import Rows, check_model, example_rows, yield_model_checks
from matinee.testing.parts import check_guard, check_scorer, yield_guard_checks, yield_scorer_checks
from matinee.testing.policies import (
    ColumnScorer,
    check_policy,
    example_candidates,
    example_request,
    yield_policy_checks,
)
from matinee.testing.solvers import check_solver, yield_solver_checks

__all__ = [
    "ColumnScorer",
    "Rows",
    "check_features",
    "check_guard",
    "check_model",
    "check_policy",
    "check_scorer",
    "check_solver",
    "example_candidates",
    "example_request",
    "example_rows",
    "random_facts",
    "yield_features_checks",
    "yield_guard_checks",
    "yield_model_checks",
    "yield_policy_checks",
    "yield_scorer_checks",
    "yield_solver_checks",
]
