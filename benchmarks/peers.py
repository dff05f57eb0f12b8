"""Peers that need an environment of their own, run by its interpreter on the same arrays as ours."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import Row
from matinee.domains.personalization.recommenders import Histories

Array = np.ndarray[Any, Any]
SYSTEMS = ("implicit ALS", "RecTools EASE")


class Setting(NamedTuple):
    """What a peer recommends under one of its settings; lists are positions of titles, best first.

    Attributes:
        settings: In words.
        cost: `seconds`, `cpu_seconds` of fitting, `peak_mb` of its process.
        validation, test: Shape (members, k).
    """

    settings: str
    cost: Row
    validation: Array
    test: Array


def lists_of(
    python: str, train: Histories, validation: Histories, test: Histories, k: int
) -> dict[str, list[Setting] | str]:
    """What implicit and RecTools recommend, by system; a sentence instead where one cannot run.

    Args:
        python: An interpreter that has them.
        train: What they learn from.
        validation, test: Plays given of members they have not seen, in the same catalogue.
        k: Length of the lists.
    """
    script = Path(__file__).with_name("recommenders_peer.py")
    with tempfile.TemporaryDirectory() as folder:
        arrays: dict[str, Array] = {"titles": np.array(len(train.titles)), "k": np.array(k)}
        for name, one in (("train", train), ("validation", validation), ("test", test)):
            arrays |= {f"{name}_items": one.items, f"{name}_offsets": one.offsets}
        np.savez(Path(folder) / "in.npz", **arrays)  # type: ignore[arg-type]
        # One thread, as for ours: processor seconds are compared, not how many cores were idle.
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | threads
        command = [python, "-W", "ignore", str(script), str(Path(folder) / "in.npz"), folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
        except OSError as error:
            return dict.fromkeys(SYSTEMS, f"{python}: {error.strerror}")
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return dict.fromkeys(SYSTEMS, f"does not run here: {last[:120]}")
        found: dict[str, list[Setting] | str] = {}
        for one in json.loads((Path(folder) / "index.json").read_text()):
            if "absent" in one:
                found[one["system"]] = one["absent"]
                continue
            with np.load(Path(folder) / one["file"]) as lists:
                setting = Setting(one["settings"], one["cost"], lists["validation"], lists["test"])
            kept = found.setdefault(one["system"], [])
            if isinstance(kept, list):
                kept.append(setting)
        return found
