"""Verbs that look: what depends on what, what the platform gives, what is wrong, a demonstration."""

from __future__ import annotations

import sys
from pathlib import Path

from matinee.cli.app import HERE, AsJson, StudioPath, app, opened, print_rows, show


@app.command
def impact(uri: str | None = None, *, studio: StudioPath = HERE, json: AsJson = False) -> None:
    """Say what depends on a thing: what breaks, or must be made again, if it changes.

    Example: matinee impact fact://played --studio acme

    Parameters
    ----------
    uri: str
        fact://NAME, features://NAME, model://NAME@N, policy://NAME@N, decision://NAME; every URI there is where not given.
    """
    with opened(studio) as open_:
        if uri is None:
            print_rows([{"uri": n.uri, "kind": n.kind} for n in open_.graph.nodes()], json)
        else:
            show(open_.impact(uri), json)


@app.command
def leverage(*, studio: StudioPath = HERE, json: AsJson = False) -> None:
    """Report what the platform gives for free: live decisions, logged propensities, shared features, evaluated releases.

    Example: matinee leverage --studio acme
    """
    with opened(studio) as open_:
        show(open_.leverage(), json)


@app.command
def relocate(*, studio: StudioPath = HERE, json: AsJson = False) -> None:
    """Adopt the place of a studio that was moved or copied here; nothing else may have it open meanwhile.

    Only where its tables are is written anew, no row. If it is interrupted, run it again.

    Example: matinee relocate --studio acme
    """
    from matinee.tables import Tables

    folder = Path(studio).expanduser().resolve()
    print_rows([{"table": name, "adopted": True} for name in Tables.relocate(folder)], json)


@app.command
def doctor(*, studio: StudioPath = HERE, json: AsJson = False) -> None:
    """Check a studio and say what is wrong and how to mend it. Exit status 1 when something is.

    Example: matinee doctor --studio acme
    """
    from matinee.doctor import examine_folder

    report = examine_folder(studio)
    show(report, json)
    if not report.healthy:
        sys.exit(1)


@app.command
def demo(
    *,
    dir: Path | None = None,
    serve: bool = True,
    port: int = 8321,
    members: int = 2000,
    seed: int = 7,
    json: AsJson = False,
) -> None:
    """Build a small streaming service with known truth and run the whole loop for two decisions, then open the console.

    Example: matinee demo --no-serve --dir demo-studio

    Parameters
    ----------
    dir: Path
        Keep the studio here; a temporary folder where not given.
    serve: bool
        Leave the console running at the end.
    """
    from matinee.demo import run as run_demo

    run_demo(dir, serve=serve, port=port, members=members, seed=seed, as_json=json)
