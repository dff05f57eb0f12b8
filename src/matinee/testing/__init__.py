"""Conformance checks for anybody's model, policy, guard, scorer or features: what each promises, tried out.

    from matinee.testing import check_model
    check_model(MyModel())                        # raises AssertionError with a sentence at the first broken promise

Under pytest, one test a promise:

    @pytest.mark.parametrize("check", list(yield_model_checks()), ids=lambda check: check.__name__)
    def test_my_model(check):
        check(MyModel(), np.random.default_rng(7))
"""

from __future__ import annotations

from matinee.testing.models import Rows, check_model, example_rows, yield_model_checks

__all__ = ["Rows", "check_model", "example_rows", "yield_model_checks"]
