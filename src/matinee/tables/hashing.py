"""Buckets: Iceberg's 32-bit murmur3 of a key, modulo the number of buckets, over whole arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matinee.exceptions import MatineeError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

BUCKETS = 16
_BLOCK = 1 << 15  # rows hashed at a time: the dozen passes over them then stay in the cache


def bucket_of(values: npt.NDArray[Any] | pl.Series | Sequence[Any], buckets: int = BUCKETS) -> npt.NDArray[np.int32]:
    """The bucket of each key value, the same as in any engine that reads the tables.

    Iceberg table specification, appendix B: murmur3 (x86, 32 bit, seed 0) of the value as a 64-bit little-endian
    integer or as UTF-8 text; the sign bit is dropped before the modulo.

    Args:
        values: Integers or strings, shape (n,). A null of a series has bucket -1.
        buckets: Number of buckets.

    Raises:
        MatineeError: If the values are neither integers nor strings.

    Example:
        >>> bucket_of([7, 8]).tolist(), bucket_of(["uhd"]).tolist()
        ([3, 15], [11])
    """
    import polars as pl

    series = values if isinstance(values, pl.Series) else pl.Series(values)
    if series.is_empty():
        series = series.cast(pl.Int64)
    if series.dtype.is_integer() and series.dtype != pl.UInt64:
        return _bucket_integers(series.cast(pl.Int64), buckets)
    if series.dtype == pl.String:
        return _bucket_strings(series, buckets)
    raise MatineeError(f"key values of type {series.dtype}, must be integers or strings to have a bucket")


def _bucket_integers(series: pl.Series, buckets: int) -> npt.NDArray[np.int32]:
    import numpy as np

    filled = series.fill_null(0).to_numpy() if series.null_count() else series.to_numpy()
    out = np.empty(len(filled), np.int32)
    for start in range(0, len(filled), _BLOCK):
        out[start : start + _BLOCK] = _murmur3_long(filled[start : start + _BLOCK]) % np.uint32(buckets)
    if series.null_count():
        out[series.is_null().to_numpy()] = -1
    return out


def _murmur3_long(values: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Hash of each integer's eight bytes, the sign bit dropped; shape (n,)."""
    import numpy as np

    def mix(shifted_left: int, word: npt.NDArray[np.uint32]) -> None:
        np.right_shift(word, np.uint32(32 - shifted_left), out=spare)
        word <<= np.uint32(shifted_left)
        word |= spare

    def fold(shifted_right: int) -> None:
        np.right_shift(hashed, np.uint32(shifted_right), out=spare)
        np.bitwise_xor(hashed, spare, out=hashed)

    bits = values.view(np.uint64)
    spare = np.empty(len(bits), np.uint32)
    hashed = np.zeros(len(bits), np.uint32)
    for word in (bits.astype(np.uint32), (bits >> np.uint64(32)).astype(np.uint32)):
        word *= np.uint32(0xCC9E2D51)
        mix(15, word)
        word *= np.uint32(0x1B873593)
        hashed ^= word
        mix(13, hashed)
        hashed *= np.uint32(5)
        hashed += np.uint32(0xE6546B64)
    hashed ^= np.uint32(8)  # the length in bytes
    fold(16)
    hashed *= np.uint32(0x85EBCA6B)
    fold(13)
    hashed *= np.uint32(0xC2B2AE35)
    fold(16)
    hashed &= np.uint32(0x7FFFFFFF)
    return hashed


def _bucket_strings(series: pl.Series, buckets: int) -> npt.NDArray[np.int32]:
    import numpy as np
    from pyiceberg_core import transform

    # The Rust transform knows no string views, which is what Polars holds: hand it plain offsets.
    hashed = transform.bucket(series.to_arrow().cast("large_string"), buckets)
    return np.asarray(hashed.fill_null(-1)).astype(np.int32)
