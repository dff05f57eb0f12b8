"""How checks are run: one loop, one way to fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from matinee.exceptions import MatineeError

SEED = 7


def expect(holds: bool, sentence: str) -> None:
    """Fail with the sentence unless it holds. Unlike `assert` it is not stripped by `python -O`."""
    if not holds:
        raise AssertionError(sentence)


def refusal(action: Callable[[], Any], what: str) -> str:
    """The text of the MatineeError that the action must raise."""
    try:
        action()
    except MatineeError as error:
        return str(error)
    except Exception as error:  # the check is what kind of error it is
        raise AssertionError(f"{what} raised {type(error).__name__} ({error}), must raise a MatineeError") from error
    raise AssertionError(f"{what} was accepted, must be refused")


def run(
    checks: Iterable[Callable[..., None]],
    subject: Any,
    rng: np.random.Generator | None,
    *arguments: Any,
    label: str = "",
    **options: Any,
) -> None:
    """Run each check with a generator of its own; the first failure is raised under the check's name."""
    source = np.random.default_rng(SEED) if rng is None else rng
    for check in checks:
        try:
            check(subject, source.spawn(1)[0], *arguments, **options)
        except AssertionError as error:
            promise = check.__name__.replace("_", " ")
            raise AssertionError(f"{label or repr(subject)} breaks a promise, {promise!r}: {error}") from error
