"""Verbs of serving: what is published, decided, served and sealed."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from matinee.cli.app import HERE, AsJson, StudioPath, app, named, opened, parsed, print_rows, progress, show
from matinee.decisions import NO_CANDIDATES


@app.command
def publish(*, studio: StudioPath = HERE, json: AsJson = False) -> None:
    """Build the features and candidates that serving reads, from the tables.

    Example: matinee publish --studio acme
    """
    with opened(studio) as open_, progress("publishing", quiet=json):
        result = open_.publish()
    show(result, json)


@app.command
def decide(
    decision: str,
    unit: str,
    *,
    studio: StudioPath = HERE,
    context: list[str] | None = None,
    dry: bool = False,
    json: AsJson = False,
) -> None:
    """Make one decision, and log it.

    Example: matinee decide home 42 --context device=tv --studio acme

    Parameters
    ----------
    unit: str
        Whom or what it is for.
    context: list[str]
        NAME=VALUE; repeat for several.
    dry: bool
        Choose, but log nothing.
    """
    import msgspec

    with opened(studio) as open_:
        given = {k: parsed(v) for k, v in named(context or [], "--context").items()}
        choice = open_.decide(decision, parsed(unit) if unit.lstrip("-").isdigit() else unit, given, dry=dry)
        if json:
            print(msgspec.json.encode(choice).decode())
            return
        chances: list[float | None] = list(choice.propensities) or [None] * len(choice.action)
        rows: list[dict[str, Any]] = [
            {"slot": i, "action": a, "propensity": p}
            for i, (a, p) in enumerate(zip(choice.action, chances, strict=True))
        ]
        if choice.advice:
            rows = [
                {
                    "option": a.option,
                    "value": a.value,
                    "interval": None if a.low is None else (a.low, a.high),
                    "kept out by": a.blocked_by or "",
                }
                for a in choice.advice
            ]
        print_rows(rows, json)
        kept = ", ".join(f"{g} {len(ids)}" for g, ids in choice.blocked.items())
        print(f"choice {choice.id} by {choice.policy or 'nobody'}" + (f"; kept out: {kept}" if kept else ""))
        if choice.plan:
            bound = "no bound" if choice.plan.bound is None else f"no plan is better than {choice.plan.bound:g}"
            print(f"plan worth {choice.plan.value:g}, " + ("proven the best" if choice.plan.proven else bound))
        if choice.fallback:
            print(f"fallback: {choice.fallback}")
            if choice.fallback == NO_CANDIDATES and open_.decision(decision).entity is not None:
                print("what may be chosen comes with a publish: `matinee publish`")


@app.command
def serve(
    *,
    studio: StudioPath = HERE,
    host: str = "127.0.0.1",
    port: int = 8321,
    open_browser: Annotated[bool, Parameter(name="--open")] = False,
) -> None:
    """Serve decisions and the console over HTTP until stopped.

    Example: matinee serve --studio acme --port 8321

    Parameters
    ----------
    host: str
        Loopback by default; another address needs tokens (`matinee token`).
    open_browser: bool
        Open the console in a browser.
    """
    from matinee.serve import serve as serve_studio

    with opened(studio) as open_:
        serve_studio(open_, host=host, port=port, open_browser=open_browser)


@app.command
def token(role: str, *, studio: StudioPath = HERE, name: str = "", days: int = 365, json: AsJson = False) -> None:
    """Make a token for the HTTP service; it is shown once, only its hash is kept.

    Example: matinee token service --name player --studio acme

    Parameters
    ----------
    role: str
        service (decide, outcome), operator (also release, roll back, quarantine), viewer (look).
    name: str
        Whom it is for.
    days: int
        How long it holds.
    """
    from matinee.serve import make_token

    with opened(studio) as open_:
        show({"token": make_token(open_.root, role, name=name, days=days), "role": role, "days": days}, json)


@app.command
def seal(*, studio: StudioPath = HERE, json: AsJson = False) -> None:
    """Move the log of choices and outcomes into the tables, exactly once.

    Example: matinee seal --studio acme
    """
    with opened(studio) as open_, progress("sealing", quiet=json):
        result = open_.seal()
    show(result, json)
