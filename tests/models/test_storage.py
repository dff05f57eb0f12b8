"""Model files: whole or not there, checked byte by byte, loaded by kind."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest

from matinee import models
from matinee.exceptions import StorageError, UnknownNameError
from matinee.models import Linear, Logistic, Popularity, build, load, read_model, register, write_model

X = pl.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "device": ["tv", "phone", "tv", "tv"]})
Y = np.array([0.0, 1.0, 1.0, 3.0])


def test_any_altered_byte_is_noticed(tmp_path: Path) -> None:
    Linear().fit(X, Y).save(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        for at in np.random.default_rng(1).integers(0, len(content), 25).tolist():
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            with pytest.raises(StorageError):
                load(tmp_path)
        path.write_bytes(content)
    assert isinstance(load(tmp_path), Linear)


@pytest.mark.parametrize("nth", range(1, 5))
def test_full_disk_leaves_the_earlier_model_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    Linear().fit(X, Y).save(tmp_path)
    before, fsync, calls = load(tmp_path).score(X), os.fsync, iter(range(1, 100))

    def full(handle: int) -> None:
        if next(calls) == nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device; the model was not saved"):
        Linear(l2=100.0).fit(X, Y).save(tmp_path)
    monkeypatch.undo()
    assert not list(tmp_path.glob(".*.tmp"))
    # The fourth flush is of the folder, after the rename: then the new model is there, whole.
    after = load(tmp_path).score(X)
    assert np.array_equal(after, before) == (nth < 4)


def test_saving_over_leaves_the_files_of_one_model(tmp_path: Path) -> None:
    Linear().fit(X, Y).save(tmp_path)
    Logistic().fit(X, Y > 0).save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert repr(load(tmp_path)) == "Logistic()"


def test_load_finds_the_class_and_refuses_another(tmp_path: Path) -> None:
    Popularity("device").fit(X, Y).save(tmp_path)
    assert repr(load(tmp_path)) == "Popularity(column='device')"
    with pytest.raises(StorageError, match=r"model kind == 'popularity' .*, must be 'linear'"):
        Linear.load(tmp_path)
    with pytest.raises(StorageError, match=r"holds no model.json, must be where a model was saved"):
        load(tmp_path / "elsewhere")


def test_unknown_kind_names_the_known_ones(tmp_path: Path) -> None:
    write_model(tmp_path, kind="linaer", parameters={}, signature=Linear().fit(X, Y).signature)
    with pytest.raises(UnknownNameError, match=r"model kind == 'linaer', must be one of .*; did you mean 'linear'"):
        load(tmp_path)


def test_registered_model_of_one_s_own_is_loaded_by_its_kind(tmp_path: Path) -> None:
    class Doubled(Linear):
        kind: ClassVar[str] = "doubled"

        def score_array(self, matrix: np.ndarray) -> np.ndarray:
            return 2 * super().score_array(matrix)

    register(Doubled)
    model = Doubled().fit(X, Y)
    model.save(tmp_path)
    assert type(load(tmp_path)) is Doubled
    assert np.array_equal(load(tmp_path).score(X), 2 * Linear().fit(X, Y).score(X))
    assert build("doubled", {"l2": 2.0}).parameters["l2"] == 2.0


def test_strided_arrays_are_saved_in_the_order_of_their_rows(tmp_path: Path) -> None:
    table = np.arange(6.0).reshape(2, 3).T
    write_model(tmp_path, kind="linear", parameters={}, signature=Linear().fit(X, Y).signature, arrays={"table": table})
    assert np.array_equal(read_model(tmp_path).arrays["table"], table)


def test_public_names_exist() -> None:
    assert all(getattr(models, name) is not None for name in models.__all__)
    with pytest.raises(AttributeError, match="no attribute 'LightGMB'"):
        _ = models.LightGMB
