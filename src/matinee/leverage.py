"""The leverage report: what a decision gets for free from the platform, measured on this studio."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matinee.results import Table
from matinee.rights import Consent

if TYPE_CHECKING:
    from matinee.domain import Domain
    from matinee.studio import Studio


@dataclass(frozen=True)
class Leverage(Table):
    """The figures. A share without anything to share is None.

    Attributes:
        decisions_live: Decisions with a release.
        decisions: Decisions declared.
        choices: Sealed choices.
        with_propensity: Share of drawn choices that carry a logged (not estimated) propensity for every slot.
        features_shared: Feature sets used by two decisions or more.
        feature_sets: Feature sets declared.
        lines_a_decision: Lines of domain code for each of its decisions, by domain.
        days_to_first_release: Days from the first fact of its own to the first release of any decision.
        releases_evaluated: Share of releases whose policy had evidence.
        unused_models: Models that no policy scores with.
    """

    decisions_live: int
    decisions: int
    choices: int
    with_propensity: float | None
    features_shared: int
    feature_sets: int
    lines_a_decision: dict[str, float]
    days_to_first_release: float | None
    releases_evaluated: float | None
    unused_models: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        lines = ", ".join(f"{d} {n:.0f}" for d, n in self.lines_a_decision.items())
        days = "–" if self.days_to_first_release is None else f"{self.days_to_first_release:.2f}"
        return [
            {"measure": "decisions live", "value": f"{self.decisions_live} of {self.decisions}"},
            {"measure": "choices sealed", "value": f"{self.choices:,}"},
            {"measure": "drawn choices with a logged propensity", "value": _share(self.with_propensity)},
            {"measure": "feature sets used by two decisions or more", "value": f"{self.features_shared} of {self.feature_sets}"},
            {"measure": "lines of domain code a decision", "value": lines or "–"},
            {"measure": "days from first fact to first release", "value": days},
            {"measure": "releases that were evaluated", "value": _share(self.releases_evaluated)},
            {"measure": "models that no policy uses", "value": ", ".join(self.unused_models) or "none"},
        ]  # fmt: skip


def _share(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def leverage(studio: Studio) -> Leverage:
    """Measure the studio."""
    import polars as pl

    live = [d for d in studio.decisions if studio.releases.live(d) is not None]
    drawn = logged = total = 0
    if studio.tables.exists("choices"):
        counts = (
            studio.tables.scan("choices", columns=["mode", "fallback", "propensities", "action", "estimated"])
            .select(
                pl.len().alias("total"),
                ((pl.col("mode") == "decide") & pl.col("fallback").is_null()).sum().alias("drawn"),
                (
                    (pl.col("mode") == "decide")
                    & pl.col("fallback").is_null()
                    & ~pl.col("estimated")
                    & (pl.col("propensities").list.len() == pl.col("action").list.len())
                    & (pl.col("propensities").list.min() > 0)
                ).sum().alias("logged"),
            )
            .collect()
            .row(0)
        )  # fmt: skip
        total, drawn, logged = (int(c or 0) for c in counts)
    users: dict[str, set[str]] = {}
    for decision in studio.decisions.values():
        for name in _features_of(studio, decision.name):
            users.setdefault(name, set()).add(decision.name)
    own = [n for n in studio.graph.nodes("fact") if n.name != Consent.schema.name]  # consents come with every studio
    first_fact = min((n.at for n in own), default=None)
    firsts = studio.registry.query("SELECT min(at) FROM releases")[0][0]
    releases = [r for d in studio.decisions for r in studio.releases.all(d) if r.kind == "release"]
    judged = [r for r in releases if any(_judged_before(studio, r.decision, a.policy) for a in r.arms)]
    return Leverage(
        decisions_live=len(live),
        decisions=len(studio.decisions),
        choices=total,
        with_propensity=logged / drawn if drawn else None,
        features_shared=sum(len(d) > 1 for d in users.values()),
        feature_sets=len(studio.features),
        lines_a_decision={d.name: _lines(d) / max(1, len(d.decisions)) for d in studio.domains.values()},
        days_to_first_release=None
        if firsts is None or first_fact is None
        else max(0.0, (firsts - first_fact) / 86_400),
        releases_evaluated=len(judged) / len(releases) if releases else None,
        unused_models=tuple(_unused(studio)),
    )


def _features_of(studio: Studio, decision: str) -> set[str]:
    """Feature sets that a decision's guards or live policies read, by name."""
    names = {f.name for f in studio.decision(decision).needs}
    release = studio.releases.live(decision)
    for policy in release.policies if release else ():
        for source, _kind in _origins(studio, f"policy://{policy}"):
            if source.startswith("features://"):
                names.add(source.removeprefix("features://").partition("@")[0])
    return names


def _origins(studio: Studio, uri: str) -> Sequence[tuple[str, str]]:
    return [(node.uri, kind) for _depth, node, kind in studio.graph.origin(uri).dependents]


def _judged_before(studio: Studio, decision: str, policy: str) -> bool:
    return bool(studio.evidence(decision, policy))


def _unused(studio: Studio) -> list[str]:
    used: set[str] = set()
    for node in studio.graph.nodes("policy"):
        used |= {source for source, _k in _origins(studio, node.uri)}
    return [n.name for n in studio.graph.nodes("model") if n.uri not in used]


def _lines(domain: Domain) -> int:
    """Lines of code of the package or file that declares a domain: neither blank nor comment."""
    sources: set[Path] = set()
    things: list[Any] = [
        *domain.facts,
        *domain.recipes.values(),
        *domain.importers.values(),
        *domain.backtests.values(),
    ]
    for thing in things:
        try:
            found = inspect.getsourcefile(thing)
        except TypeError:
            continue
        if found:
            sources.add(Path(found))
    folders = {s.parent for s in sources if (s.parent / "__init__.py").exists()}
    files = {f for folder in folders for f in folder.glob("*.py")} | {s for s in sources if s.parent not in folders}
    return sum(
        sum(1 for line in f.read_text().splitlines() if line.strip() and not line.strip().startswith("#"))
        for f in files
    )
