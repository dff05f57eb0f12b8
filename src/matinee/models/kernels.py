"""Compiled kernels: one place that decides how numba is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile on first use, keep the result between processes, let other threads run meanwhile.

    Floating-point operations stay in the order they are written (no fast-math): results are the same to the bit.
    """
    import numba

    try:
        return cast("F", numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:
        # Neither the package folder nor a cache folder can be written (a read-only container): compile each time.
        return cast("F", numba.njit(nogil=True)(function))
