"""How a policy goes live: its gates, the arms it takes, and the row that makes it so. What `studio.release` does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matinee.checks import must
from matinee.decisions import Decision
from matinee.exceptions import ReleaseError
from matinee.plans import Solver
from matinee.policies import Policy
from matinee.releases import Release, arms_after

if TYPE_CHECKING:
    from matinee.studio import Studio


@dataclass(frozen=True)
class Gate:
    """One check that a release must pass."""

    name: str
    passed: bool
    detail: str


def release(
    studio: Studio,
    decision: Decision,
    policy: str | Policy,
    share: float,
    *,
    baseline: float,
    note: str,
    by: str,
    without_evidence: str | None,
    guards_changed: str | None,
) -> Release:
    """See `Studio.release`."""
    share = must(float(share), "share", gt=0, le=1)
    name = policy if isinstance(policy, str) else studio.save_policy(decision, policy)
    failed = [g for g in gates(studio, decision, name, without_evidence, guards_changed) if not g.passed]
    if failed:
        raise ReleaseError("; ".join(f"gate '{g.name}' is not passed: {g.detail}" for g in failed))
    live = studio.releases.live(decision.name)
    arms = arms_after(live, name, share, baseline)
    salt = f"{decision.name}:{name}"  # of the challenger, whatever its share: a ramp only adds units to it
    notes = [
        note,
        without_evidence and f"without evidence: {without_evidence}",
        guards_changed and f"guards: {guards_changed}",
    ]
    return studio.releases.put(
        decision.name, "release", arms, salt=salt, guards=decision.guard_names,
        note="; ".join(n for n in notes if n), by=by,
    )  # fmt: skip


def gates(
    studio: Studio, decision: Decision, policy: str, without_evidence: str | None, guards_changed: str | None
) -> list[Gate]:
    """The gates of a release, each passed or not and why; the costly one is tried when the others are passed."""
    solves = isinstance(studio.policy(policy), Solver)
    found = studio.evidence(decision.name, policy)
    live = studio.releases.live(decision.name)
    before, now = (set(live.guards) if live else set()), set(decision.guard_names)
    changed = [f"-{g}" for g in sorted(before - now)] + [f"+{g}" for g in sorted(now - before)]
    tried = [
        Gate(
            "fits the mode",
            passed=solves == (decision.mode == "plan"),
            detail=f"{decision.name!r} is in {decision.mode} mode, must have "
            + ("a solver (mt.Solver)" if decision.mode == "plan" else "a policy that draws, no solver"),
        ),
        Gate(
            "evidence attached",
            passed=bool(found) or without_evidence is not None or live is None,
            detail=f"{policy} has no evidence, must be evaluated first (studio.evaluate), "
            "or released with without_evidence='the reason'",
        ),
        Gate(
            "guards unchanged, or the change named",
            passed=live is None or not changed or guards_changed is not None,
            detail=f"guards changed ({', '.join(changed)}), must be named: guards_changed='what and why'",
        ),
    ]
    if all(g.passed for g in tried):
        tried.append(loads(studio.root, decision.name, policy, studio.modules))
    return tried


def loads(root: Path, decision: str, policy: str, modules: Sequence[str], *, timeout: float = 120.0) -> Gate:
    """Whether the policy loads and conforms in a process that has seen nothing of this one."""
    code = (
        "import sys, json; from matinee.releasing import check_loaded; "
        "print(json.dumps(check_loaded(*json.loads(sys.argv[1]))))"
    )
    argument = json.dumps([str(root), decision, policy, list(modules)])
    try:
        done = subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return Gate("loads in a fresh process", passed=False, detail=f"it took longer than {timeout:g} s")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it died without a word"])[-1]
        return Gate("loads in a fresh process", passed=False, detail=last)
    return Gate("loads in a fresh process", passed=True, detail=done.stdout.strip().splitlines()[-1])


def check_loaded(root: str, decision: str, policy: str, modules: Sequence[str]) -> Mapping[str, Any]:
    """What the fresh process does: open the studio, load the policy, run the conformance suite, decide once, dry."""
    import numpy as np

    from matinee import domain as domains
    from matinee import testing
    from matinee.studio import open as open_studio

    with open_studio(root) as studio:
        for path in modules:
            for one in domains.load_file(Path(path)):
                studio.use(one)
        loaded = studio.policy(policy)
        request, candidates = studio.sample_request(decision)
        if isinstance(loaded, Solver):
            testing.check_solver(loaded, np.random.default_rng(0))
            return {"policy": policy, "candidates": len(candidates)}
        testing.check_policy(_rule(loaded), np.random.default_rng(0))
        if len(candidates):
            components = loaded.components(request, candidates)
            total = sum(c.weight for c in components)
            if abs(total - 1) > 1e-9:
                raise ReleaseError(f"weights of {policy} sum to {total:.6g}, must sum to 1")
    return {"policy": policy, "candidates": len(candidates)}


def _rule(policy: Policy) -> Policy:
    """The policy within one that goes around another: what is added depends on candidates, which no made-up world has."""
    while isinstance(inner := getattr(policy, "policy", None), Policy):
        policy = inner
    return policy
