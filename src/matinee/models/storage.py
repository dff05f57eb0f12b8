"""Model files: a folder with model.json and the data files it names. Written atomically, checked on reading, no pickle.

Data files carry the hash of their content in their name, and model.json, which names them, is replaced in one rename:
a reader sees the old model or the new one, whatever crashes in between.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from matinee.exceptions import StorageError
from matinee.models.signature import Signature

MANIFEST = "model.json"
FORMAT = 1


@dataclass(frozen=True)
class Saved:
    """A model as it lies on disk.

    Attributes:
        kind: Which class reads it.
        parameters: Arguments of the class.
        signature: The columns the model reads.
        fitted: Small fitted values (JSON).
        texts: Named texts, such as a LightGBM booster.
        arrays: Named arrays (one safetensors file).
    """

    kind: str
    parameters: Mapping[str, Any]
    signature: Signature
    fitted: Mapping[str, Any]
    texts: Mapping[str, str]
    arrays: Mapping[str, np.ndarray[Any, Any]]


def write_model(
    folder: Path,
    *,
    kind: str,
    parameters: Mapping[str, Any],
    signature: Signature,
    fitted: Mapping[str, Any] | None = None,
    texts: Mapping[str, str] | None = None,
    arrays: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> None:
    """Save a model in a folder, in place of what is there. The same model gives the same bytes.

    Raises:
        StorageError: If the disk is full or the folder cannot be written; an earlier model in it stays whole.
    """
    from safetensors.numpy import save

    data = {f"{name}.txt": text.encode() for name, text in (texts or {}).items()}
    if arrays:
        # The file holds raw buffers: a strided view would be written in the order of its memory, not of its rows.
        data["arrays.safetensors"] = save({n: np.ascontiguousarray(a) for n, a in sorted(arrays.items())})
    files = {}
    for name, content in data.items():
        stem, _, ending = name.rpartition(".")
        digest = hashlib.sha256(content).hexdigest()
        files[name] = {"file": f"{stem}-{digest[:16]}.{ending}", "sha256": digest}
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "kind": kind,
        "parameters": dict(parameters),
        "signature": signature.to_json(),
        "fitted": dict(fitted or {}),
        "files": files,
    }
    manifest["sha256"] = _digest(manifest)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = _named_files(folder)
        for name, content in data.items():
            _replace(folder / files[name]["file"], content)
        _replace(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
        for old in before - {entry["file"] for entry in files.values()}:
            (folder / old).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"model folder == {str(folder)!r} cannot be written: {error.strerror or error}; "
            "the model was not saved, and one that was there before is unchanged"
        ) from error


def read_model(folder: Path, kind: str | None = None) -> Saved:
    """Read what `write_model` wrote, and check every byte of it.

    Args:
        folder: Where the model lies.
        kind: The kind it must be, if only one will do.

    Raises:
        StorageError: If there is no model, a file is missing, cut short or altered, or the model is of another kind.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    try:
        return _read(folder, manifest, kind)
    except FileNotFoundError as error:
        again = _manifest(folder)
        if again == manifest:
            raise StorageError(
                f"model file {Path(error.filename).name!r} is missing in {str(folder)!r}, must be there"
            ) from error
        # A new version was saved between reading the manifest and its files.
        return _read(folder, again, kind)


def _read(folder: Path, manifest: Mapping[str, Any], kind: str | None) -> Saved:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if kind is not None and manifest["kind"] != kind:
        raise StorageError(f"model kind == {manifest['kind']!r} in {str(folder)!r}, must be {kind!r}")
    texts: dict[str, str] = {}
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, entry in manifest["files"].items():
        content = (folder / entry["file"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise StorageError(
                f"model file {entry['file']!r} in {str(folder)!r} has {len(content):,} bytes that are not the ones "
                "saved, must be whole; restore the folder or train again"
            )
        if name == "arrays.safetensors":
            try:
                arrays = dict(load(content))
            except SafetensorError as error:
                raise StorageError(f"model file {entry['file']!r} in {str(folder)!r}: {error}") from error
        else:
            texts[name.removesuffix(".txt")] = content.decode()
    signature = Signature.from_json(manifest["signature"])
    return Saved(manifest["kind"], manifest["parameters"], signature, manifest["fitted"], texts, arrays)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StorageError(
            f"model folder == {str(folder)!r} holds no {MANIFEST}, must be where a model was saved"
        ) from None
    except (ValueError, OSError) as error:
        raise StorageError(f"{str(path)!r} cannot be read ({error}), must be whole; train again") from error
    if not isinstance(manifest, dict) or manifest.pop("sha256", None) != _digest(manifest):
        raise StorageError(f"{str(path)!r} is not as it was saved, must be whole; restore it or train again")
    if manifest["format"] != FORMAT:
        raise StorageError(f"model format == {manifest['format']!r} in {str(path)!r}, must be {FORMAT}; update matinee")
    return manifest


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _named_files(folder: Path) -> set[str]:
    """Data files of the model that is being replaced; none if there is none, or it is damaged."""
    try:
        return {entry["file"] for entry in _manifest(folder)["files"].values()}
    except StorageError:
        return set()


def _replace(path: Path, content: bytes) -> None:
    """Write a file beside its place, flush it to the disk, and move it there in one step."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
