"""A domain: facts, features, decisions, importers and recipes under one name. Registered, never imported by the core.

A package registers its domain by an entry point in the group `matinee.domains`; a file of one's own is named in the
studio's `matinee.toml` under `modules` and registers whatever `Domain` objects it holds.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

from matinee.exceptions import DeclarationError, MatineeError, UnknownNameError

if TYPE_CHECKING:
    from matinee.decisions import Decision
    from matinee.facts import Fact
    from matinee.features import Features
    from matinee.showing import About, Showing

Importer = Callable[..., Any]
Recipe = Callable[..., Any]


@dataclass(frozen=True)
class Domain:
    """What a domain brings.

    Attributes:
        name: Its name on the command line and in the console's navigation.
        title: What people call it.
        facts: Facts and entities; their tables are made when the domain joins a studio.
        features: Feature sets, by their own names.
        decisions: Decisions it makes.
        importers: `{"movielens": importer(studio, path, progress, **options)}`: files to facts.
        recipes: `{"home": train(studio, progress) -> list of policies}`: what `matinee train home` runs; it returns the
            names of the policies it saved, the baseline first.
        backtests: `{"home": backtest(studio) -> result}`: evidence from history where nothing was decided yet.
        reasons: `{"home": reason(studio, request, candidate) -> str}`: why, in words a member understands.
        names: `{"title": name_of(studio, ids) -> {id: name}}`: what people call a candidate.
        showings: `{"front": Showing(...)}`: how the choices of a decision are shown, row by row.
        about: `{"title": about(studio, id) -> About}`: what is known of one candidate beyond its facts.
    """

    name: str
    title: str = ""
    facts: Sequence[type[Fact]] = ()
    features: Sequence[Features] = ()
    decisions: Sequence[Decision] = ()
    importers: Mapping[str, Importer] = field(default_factory=dict)
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    backtests: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    reasons: Mapping[str, Callable[..., str]] = field(default_factory=dict)
    names: Mapping[str, Callable[..., Mapping[Any, str]]] = field(default_factory=dict)
    showings: Mapping[str, Showing] = field(default_factory=dict)
    about: Mapping[str, Callable[[Any, Any], About]] = field(default_factory=dict)


def installed() -> dict[str, Any]:
    """Entry points of installed domains by name; nothing is imported yet."""
    return {point.name: point for point in entry_points(group="matinee.domains")}


def load(name: str) -> Domain:
    """The installed domain of that name.

    Raises:
        UnknownNameError: If none is installed under it.
    """
    points = installed()
    if name not in points:
        raise UnknownNameError("domain", name, points)
    found = points[name].load()
    if not isinstance(found, Domain):
        raise DeclarationError(f"entry point {name!r} is {type(found).__name__}, must be a matinee.Domain")
    return found


def load_file(path: Path) -> list[Domain]:
    """The domains that a Python file holds.

    Raises:
        DeclarationError: If the file is absent, fails to run, or holds no `Domain`.
    """
    if not path.is_file():
        raise DeclarationError(f"modules in matinee.toml name {path.name!r}, must be a file beside it")
    name = f"matinee_studio_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except MatineeError:
        raise
    except Exception as error:  # whatever the user's file raises, the message names the file and line
        line = next((f.lineno for f in reversed(extract_tb(error.__traceback__)) if f.filename == str(path)), 0)
        if isinstance(error, SyntaxError):
            line = error.lineno or 0
        raise DeclarationError(f"{path.name} line {line}: {type(error).__name__}: {error}") from error
    found = [value for value in vars(module).values() if isinstance(value, Domain)]
    if not found:
        raise DeclarationError(f"{path.name} holds no matinee.Domain, must hold at least one")
    return found
