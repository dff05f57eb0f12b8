"""Verbs of policies: trained, judged, released, taken back, made again."""

from __future__ import annotations

from matinee.cli.app import HERE, AsJson, StudioPath, app, opened, print_rows, progress, show, who
from matinee.exceptions import MatineeError


@app.command
def train(decision: str, *, studio: StudioPath = HERE, json: AsJson = False) -> None:
    """Train the models and policies of a decision, as its domain's recipe says.

    Example: matinee train home --studio acme
    """
    with opened(studio) as open_, progress(f"training {decision}", quiet=json) as step:
        domain = open_.domain_of(open_.decision(decision).name)
        if domain is None or decision not in domain.recipes:
            raise MatineeError(
                f"decision {decision!r} has no recipe, must be trained in Python: studio.train({decision}, model, on=[...])"
            )
        names = domain.recipes[decision](open_, step)
        saved = open_.policies(decision)
        rows = [{"policy": n, "what": saved[n]["text"], "note": saved[n]["note"]} for n in names]
    print_rows(rows, json)


@app.command
def evaluate(
    decision: str,
    policy: str | None = None,
    *,
    studio: StudioPath = HERE,
    against: str = "logged",
    json: AsJson = False,
) -> None:
    """Say what policies are worth: off-policy from the log, or by back-test where nothing was decided yet.

    Example: matinee evaluate route --studio acme

    Parameters
    ----------
    policy: str
        Name of a policy; every saved one of the decision where not given.
    against: str
        "logged", or the policy to compare with.
    """
    with opened(studio) as open_:
        found = open_.decision(decision)
        domain = open_.domain_of(found.name)
        names = [policy] if policy else list(open_.policies(found.name))
        results = []
        logged = len(open_.choices(found.name, limit=1)) > 0
        if not logged and domain is not None and found.name in domain.backtests:
            with progress(f"back-testing {decision}", quiet=json) as step:
                show(domain.backtests[found.name](open_, step), json)
            return
        if not names:
            raise MatineeError(f"decision {decision!r} has no policy yet, must have one: `matinee train {decision}`")
        with progress(f"evaluating {decision}", len(names), quiet=json) as step:
            for name in names:
                step(0, name)
                results.append(open_.evaluate(found, name, against=against))
                step(1)
        if json:
            print_rows([{"policy": r.policy, **r.to_json()} for r in results], json)
        else:
            print("\n\n".join(str(r) for r in results))


@app.command
def release(
    decision: str, policy: str, share: float = 0.05, *, studio: StudioPath = HERE, baseline: float = 0.0, note: str = "",
    without_evidence: str | None = None, guards_changed: str | None = None, json: AsJson = False,
) -> None:  # fmt: skip
    """Put a policy live for a share of the units, after its gates.

    Example: matinee release home home@3 0.05 --studio acme

    Parameters
    ----------
    share: float
        From 0 to 1; 1 makes it the live policy.
    baseline: float
        Share held back on today's live policy.
    without_evidence: str
        The reason for releasing a policy about which nothing was measured.
    guards_changed: str
        What changed in the guards, where they changed.
    """
    with opened(studio) as open_:
        show(
            open_.release(
                decision, policy, share, baseline=baseline, note=note, by=who(), without_evidence=without_evidence,
                guards_changed=guards_changed,
            ),
            json,
        )  # fmt: skip


@app.command
def rollback(
    decision: str, *, studio: StudioPath = HERE, to: int | None = None, note: str = "", json: AsJson = False
) -> None:
    """Make the release before the present one live again.

    Example: matinee rollback home --studio acme

    Parameters
    ----------
    to: int
        Number of the release to go back to; the one before where not given.
    """
    with opened(studio) as open_:
        show(open_.rollback(decision, to, note=note, by=who()), json)


@app.command
def reproduce(model: str, *, studio: StudioPath = HERE, json: AsJson = False) -> None:
    """Train a model again from its pinned snapshots and compare every bit.

    Example: matinee reproduce home-ranker@1 --studio acme
    """
    from matinee.workshop import reproduce as again

    with opened(studio) as open_, progress(f"training {model} again", quiet=json):
        result = again(open_, model)
    show(result, json)
