"""Verbs of facts: a studio made, files read, bad rows, small files, a person erased."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App

from matinee.cli.app import (
    HERE,
    AsJson,
    StudioPath,
    app,
    as_row,
    named,
    opened,
    parsed,
    print_rows,
    progress,
    show,
    who,
)
from matinee.exceptions import MatineeError

quarantine = App(name="quarantine", help="Rows that were not as declared: look at them, try them again, let them go.")
app.command(quarantine)


@app.command
def init(
    folder: Path | None = None, *, studio: StudioPath = HERE, domain: list[str] | None = None, json: AsJson = False
) -> None:
    """Make a studio in a new or empty folder.

    Example: matinee init acme --domain personalization --domain payments

    Parameters
    ----------
    folder: Path
        Where; the same as --studio.
    domain: list[str]
        Installed domains to begin with; repeat for several.
    """
    from matinee.studio import open as open_studio

    with open_studio(folder or studio, domains=domain or []) as made:
        show(
            {
                "studio": str(made.root),
                "domains": ", ".join(made.domains) or "none; name some in matinee.toml",
                "facts": len(made.facts.names()),
                "decisions": ", ".join(made.decisions) or "none",
            },
            json,
        )


@app.command(name="import")
def import_(
    format: str, path: Path, *, studio: StudioPath = HERE, option: list[str] | None = None, json: AsJson = False
) -> None:
    """Import files in a format that a domain of the studio knows. The same files twice are imported once.

    Example: matinee import movielens ml-latest-small --studio acme

    Parameters
    ----------
    format: str
        movielens, kion, netflix, million-song, amazon, kuairand, mind, open-bandit, plays, psp-routing; an unknown one lists
        those there are.
    path: Path
        The file or folder.
    option: list[str]
        NAME=VALUE, as the format's guide says; repeat for several.
    """
    from matinee.exceptions import BadInputError, UnknownNameError

    with opened(studio) as open_:
        importers = {name: f for d in open_.domains.values() for name, f in d.importers.items()}
        if format not in importers:
            raise UnknownNameError("format", format, importers)
        if not path.exists():
            raise BadInputError(f"path == {str(path)!r}, must be a file or folder that exists")
        with progress(f"importing {format}", quiet=json) as step:
            result = importers[format](open_, path, step, **named(option or [], "--option"))
        show(result, json)


@app.command
def append(
    fact: str, path: Path, *, studio: StudioPath = HERE, column: list[str] | None = None, ignore_extra: bool = False,
    json: AsJson = False,
) -> None:  # fmt: skip
    """Append a Parquet, CSV or JSON-lines file to a fact. Bad rows go to quarantine; the same file twice is appended once.

    Example: matinee append played plays.csv --studio acme --column user_id=member

    Parameters
    ----------
    fact: str
        Name of the fact.
    path: Path
        The file.
    column: list[str]
        NAME_IN_FILE=NAME_IN_FACT; repeat for several.
    ignore_extra: bool
        Leave out columns that the fact does not have.
    """
    with opened(studio) as open_, progress(f"appending to {fact}", quiet=json) as step:
        result = open_.facts.append_file(
            fact, path, columns=named(column or [], "--column"), ignore_extra=ignore_extra, progress=step
        )
    show(result, json)


@app.command
def compact(fact: str | None = None, *, studio: StudioPath = HERE, json: AsJson = False) -> None:
    """Merge small files and expire old snapshots.

    Example: matinee compact played --studio acme

    Parameters
    ----------
    fact: str
        Name of one table; all of them where not given.
    """
    with opened(studio) as open_, progress("compacting", quiet=json):
        reports = open_.compact(fact)
    print_rows([as_row(r) for r in reports], json)


@app.command
def erase(unit: str, key: str, *, studio: StudioPath = HERE, yes: bool = False, json: AsJson = False) -> None:
    """Erase a person: their bytes leave the data files, the log, the online store and pinned snapshots. Cannot be undone.

    Example: matinee erase member 42 --studio acme

    Parameters
    ----------
    unit: str
        The key's name: member.
    yes: bool
        Do not ask.
    """
    with opened(studio) as open_:
        if not yes:
            if not sys.stdin.isatty():
                raise MatineeError(f"erasing {unit} {key} cannot be undone, must be confirmed: --yes")
            if input(f"Erase {unit} {key} for good? It cannot be undone. [y/N] ").strip().lower() not in ("y", "yes"):
                print("nothing was erased")
                return
        with progress(f"erasing {unit} {key}", quiet=json):
            result = open_.erase(unit, parsed(key) if key.lstrip("-").isdigit() else key, by=who())
        show(result, json)


@quarantine.command(name="list")
def quarantine_list(*, studio: StudioPath = HERE, json: AsJson = False) -> None:
    """List what is in quarantine, by fact and reason.

    Example: matinee quarantine list --studio acme
    """
    with opened(studio) as open_:
        show(open_.quarantine.list(), json)


@quarantine.command(name="show")
def quarantine_show(batch: str, *, studio: StudioPath = HERE, limit: int = 20, json: AsJson = False) -> None:
    """Show the rows of a batch with their reasons.

    Example: matinee quarantine show 3f9a21b0c4d5 --studio acme
    """
    with opened(studio) as open_:
        rows = open_.quarantine.rows(batch)[:limit]
        print_rows([{**h.row, "reasons": "; ".join(h.reasons)} for h in rows], json)


@quarantine.command(name="retry")
def quarantine_retry(batch: str, *, studio: StudioPath = HERE, json: AsJson = False) -> None:
    """Try the rows of a batch again, after what was wrong has been mended.

    Example: matinee quarantine retry 3f9a21b0c4d5 --studio acme
    """
    with opened(studio) as open_:
        show(open_.facts.retry(batch), json)


@quarantine.command(name="drop")
def quarantine_drop(batch: str, *, studio: StudioPath = HERE, yes: bool = False, json: AsJson = False) -> None:
    """Let the rows of a batch go for good.

    Example: matinee quarantine drop 3f9a21b0c4d5 --yes --studio acme
    """
    with opened(studio) as open_:
        n = len(open_.quarantine.rows(batch))
        if not yes:
            raise MatineeError(f"dropping {n} rows cannot be undone, must be confirmed: --yes")
        open_.quarantine.drop(batch)
        show({"batch": batch, "dropped": n}, json)
