"""Releases: a policy goes live as an arm of an experiment, after its gates; a rollback is one verb and undoes nothing else.

A release is a row: which policies share a decision's units, from now on. Rows are only added; the newest one is live.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matinee.checks import must
from matinee.exceptions import ReleaseError, UnknownNameError
from matinee.graph import Graph
from matinee.registry import Registry
from matinee.results import Table

LIVE, CHALLENGER, BASELINE = "live", "challenger", "baseline"


@dataclass(frozen=True)
class Arm:
    """A share of the units, and the policy that decides for them."""

    name: str
    policy: str
    share: float
    role: str


@dataclass(frozen=True)
class Release(Table):
    """Who decides, since when, and why."""

    decision: str
    number: int
    kind: str  # "release" or "rollback"
    arms: tuple[Arm, ...]
    salt: str
    guards: tuple[str, ...]
    note: str
    by: str
    at: float

    @property
    def live(self) -> Arm:
        """The arm with the proven policy."""
        return next((a for a in self.arms if a.role == LIVE), self.arms[0])

    @property
    def baseline(self) -> Arm:
        """The arm that others are compared with: the one held back as a baseline, else the live one."""
        return next((a for a in self.arms if a.role == BASELINE), self.live)

    @property
    def policies(self) -> list[str]:
        """Names of the policies that decide."""
        return [a.policy for a in self.arms]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"release": self.number, "arm": a.name, "policy": a.policy, "share": a.share, "role": a.role}
            for a in self.arms
        ]


class Releases:
    """The rows of releases of a studio."""

    def __init__(self, registry: Registry, graph: Graph) -> None:
        self._registry, self._graph = registry, graph

    def all(self, decision: str) -> list[Release]:
        """Every release of a decision, newest first."""
        rows = self._registry.query(
            "SELECT decision, number, kind, arms, note, by, at FROM releases WHERE decision = ? ORDER BY number DESC",
            decision,
        )
        return [_release(r) for r in rows]

    def live(self, decision: str) -> Release | None:
        """The release that decides now, or None."""
        rows = self.all(decision)
        return rows[0] if rows else None

    def version(self) -> tuple[int, float]:
        """Changes whenever any release is made: what a server polls."""
        row = self._registry.query("SELECT count(*), coalesce(max(at), 0) FROM releases")[0]
        return int(row[0]), float(row[1])

    def put(
        self, decision: str, kind: str, arms: Sequence[Arm], *, salt: str, guards: Sequence[str], note: str, by: str
    ) -> Release:
        """Add a row, which is live from now on, and draw it in the lineage."""
        with self._registry.transaction() as db:
            number = db.execute(
                "SELECT coalesce(max(number), 0) + 1 FROM releases WHERE decision = ?", (decision,)
            ).fetchone()[0]
            body = json.dumps({"arms": [vars(a) for a in arms], "salt": salt, "guards": list(guards)})
            row = (decision, number, kind, body, note, by, self._registry.clock().timestamp())
            db.execute("INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            self._graph.replace_uses(f"decision://{decision}", "decides for", [f"policy://{a.policy}" for a in arms])
            if len(arms) > 1:
                self._graph.put(
                    f"experiment://{decision}@{number}",
                    {"arms": [vars(a) for a in arms], "salt": salt},
                    {f"policy://{a.policy}": "arm of" for a in arms},
                )
        return _release(row)

    def roll_back(self, decision: str, *, to: int | None, note: str, by: str) -> Release:
        """Make an earlier release live again: the one before the present one, or number `to`.

        Raises:
            ReleaseError: If there is nothing to go back to.
        """
        rows = self.all(decision)
        if not rows:
            raise ReleaseError(f"decision {decision!r} has no release, must have one before it can be rolled back")
        if to is None:
            # A rollback of a rollback goes further back, not forth: skip what was already left.
            current = rows[0]
            earlier = [r for r in rows[1:] if r.arms != current.arms and r.number < _origin(rows, current).number]
            if not earlier:
                raise ReleaseError(
                    f"release {current.number} of {decision!r} is the first one, must have one before it"
                )
            target = earlier[0]
        else:
            found = [r for r in rows if r.number == to]
            if not found:
                raise UnknownNameError(f"release of {decision}", to, [r.number for r in rows])  # type: ignore[misc]
            target = found[0]
        return self.put(
            decision, "rollback", target.arms, salt=target.salt, guards=target.guards,
            note=note or f"back to release {target.number}", by=by,
        )  # fmt: skip


def _origin(rows: Sequence[Release], current: Release) -> Release:
    """The release whose arms a rollback took up; itself for a release."""
    if current.kind != "rollback":
        return current
    same = [r for r in rows if r.arms == current.arms and r.kind == "release" and r.number < current.number]
    return same[0] if same else current


def arms_after(live: Release | None, policy: str, share: float, baseline_share: float) -> list[Arm]:
    """The arms when `policy` gets `share` of the units: the rest stays with what is live and its baseline.

    A ramp of the same challenger only adds units to it: its arm keeps its name, and the split its salt.
    """
    must(share, "share", gt=0, le=1)
    must(baseline_share, "baseline_share", ge=0, lt=1)
    if live is None:
        return [Arm("live", policy, 1.0, LIVE)]
    keep = live.live if live.live.policy != policy else None
    baseline = next((a for a in live.arms if a.role == BASELINE), None)
    held = baseline.share if baseline else baseline_share
    if share + held > 1 + 1e-12 and share < 1:
        raise ReleaseError(f"share == {share}, must be at most {1 - held:g}: {held:g} is kept for the baseline")
    # The live arm comes first: it is the base of the split, which gives the units that the others take.
    arms = []
    if share < 1 and keep is not None:
        arms.append(Arm("live", keep.policy, max(0.0, 1 - share - held), LIVE))
        arms.append(Arm("challenger", policy, share, CHALLENGER))
    else:
        arms.append(Arm("live", policy, 1 - held, LIVE))
    if held > 0:
        base = baseline.policy if baseline else (keep or live.live).policy
        arms.append(Arm("baseline", base, held, BASELINE))
    return arms


def _release(row: Sequence[Any]) -> Release:
    body = json.loads(row[3])
    arms = tuple(Arm(**a) for a in body["arms"])
    return Release(
        row[0], int(row[1]), row[2], arms, body["salt"], tuple(body["guards"]), row[4], row[5], float(row[6])
    )
