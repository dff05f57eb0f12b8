"""One conformance suite for every model: a test file only says which models it runs on."""

from __future__ import annotations

import pytest

from matinee.testing import yield_model_checks

every_promise = pytest.mark.parametrize("check", list(yield_model_checks()), ids=lambda check: check.__name__)
