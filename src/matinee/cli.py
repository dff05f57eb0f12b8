"""The command line: idempotent verbs over one studio. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from matinee.exceptions import MatineeError

if TYPE_CHECKING:
    from matinee.studio import Studio as StudioType

app = App(
    name="matinee",
    help="""The decisions platform behind a streaming service and its studio.

    First steps:

        matinee demo                                      a whole service with known truth, in under 90 seconds
        matinee init --studio acme --domain payments      a studio of your own
        matinee import movielens ml-1m --studio acme      facts from files
        matinee train home --studio acme                  then: evaluate, release, publish, serve
    """,
    help_format="plaintext",
)
app.register_install_completion_command(name="completion", help="Install shell completion: matinee completion")
quarantine = App(name="quarantine", help="Rows that were not as declared: look at them, try them again, let them go.")
app.command(quarantine)

StudioPath = Annotated[Path, Parameter(name="--studio", help="Folder of the studio.", env_var="MATINEE_STUDIO")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON.")]
HERE = Path()


def main(argv: list[str] | None = None) -> None:
    """Entry point of the `matinee` command; errors of the user end with a sentence and exit status 1."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: list[str]) -> int:
    """Run one command line and return its exit status."""
    try:
        app(argv)
    except MatineeError as error:
        print(f"matinee: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("matinee: stopped; what was acknowledged is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except Exception as error:  # noqa: BLE001  # a traceback never reaches a user; it is kept for whoever mends it
        kept = Path.cwd() / f"matinee-error-{time.strftime('%Y%m%d-%H%M%S')}.txt"
        try:
            kept.write_text(traceback.format_exc())
            where = f"the details are in {kept.name}"
        except OSError:
            where = "and the details could not be written"
        print(f"matinee: an error that should not happen ({type(error).__name__}: {error}); {where}", file=sys.stderr)
        return 70
    return 0


@contextmanager
def opened(path: Path) -> Iterator[StudioType]:
    """The studio of a command; it must exist already."""
    from matinee.exceptions import StorageError
    from matinee.studio import open as open_studio

    if not (path / "studio.json").is_file():
        raise StorageError(
            f"--studio == {str(path)!r}, must be the folder of a studio; make one with `matinee init --studio {path}`"
        )
    with open_studio(path) as studio:
        yield studio


def show(result: Any, as_json: bool) -> None:
    """Print a result: as a table, or as JSON."""
    if as_json:
        data = result.to_json() if hasattr(result, "to_json") else result
        print(json.dumps(data, default=str, indent=1))
    elif isinstance(result, dict):
        width = max(map(len, result), default=0)
        print("\n".join(f"{k.ljust(width)}  {v}" for k, v in result.items()))
    else:
        print(result)


@contextmanager
def progress(what: str, total: int | None = None, *, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr for whatever takes over a second; yields `step(n, text)`."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)

        def step(n: int = 1, text: str | None = None) -> None:
            bar.update(task, advance=n, description=text or what)

        yield step


def _pairs(items: list[str], what: str) -> dict[str, str]:
    pairs = {}
    for item in items:
        name, found, value = item.partition("=")
        if not found:
            raise MatineeError(f"{what} == {item!r}, must be NAME=VALUE")
        pairs[name] = value
    return pairs


def _value(text: str) -> Any:
    """A context value from the command line: a JSON number, boolean or null where it is one, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@app.command
def init(*, studio: StudioPath = HERE, domain: list[str] | None = None, json: AsJson = False) -> None:
    """Make a studio in a new or empty folder.

    Example: matinee init --studio acme --domain personalization --domain payments

    Parameters
    ----------
    domain: list[str]
        Installed domains to begin with; repeat for several.
    """
    from matinee.studio import open as open_studio

    with open_studio(studio, domains=domain or []) as made:
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
        movielens, kion, plays, psp-routing; an unknown one lists those there are.
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
            result = importers[format](open_, path, step, **_pairs(option or [], "--option"))
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
            fact, path, columns=_pairs(column or [], "--column"), ignore_extra=ignore_extra, progress=step
        )
    show(result, json)


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
        rows = [{"policy": n, "what": open_.policies(decision)[n]["text"]} for n in names]
    _rows(rows, json)


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
            _rows([{"policy": r.policy, **r.to_json()} for r in results], json)
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
                decision, policy, share, baseline=baseline, note=note, by=_who(), without_evidence=without_evidence,
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
        show(open_.rollback(decision, to, note=note, by=_who()), json)


def _who() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


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
        given = {k: _value(v) for k, v in _pairs(context or [], "--context").items()}
        choice = open_.decide(decision, _value(unit) if unit.lstrip("-").isdigit() else unit, given, dry=dry)
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
        _rows(rows, json)
        kept = ", ".join(f"{g} {len(ids)}" for g, ids in choice.blocked.items())
        print(f"choice {choice.id} by {choice.policy or 'nobody'}" + (f"; kept out: {kept}" if kept else ""))
        if choice.fallback:
            print(f"fallback: {choice.fallback}")


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
    _rows([_plain(r) for r in reports], json)


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
            result = open_.erase(unit, _value(key) if key.lstrip("-").isdigit() else key, by=_who())
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
        _rows([{**h.row, "reasons": "; ".join(h.reasons)} for h in rows], json)


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
            _rows([{"uri": n.uri, "kind": n.kind} for n in open_.graph.nodes()], json)
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
def reproduce(model: str, *, studio: StudioPath = HERE, json: AsJson = False) -> None:
    """Train a model again from its pinned snapshots and compare every bit.

    Example: matinee reproduce home-ranker@1 --studio acme
    """
    from matinee.workshop import reproduce as again

    with opened(studio) as open_, progress(f"training {model} again", quiet=json):
        result = again(open_, model)
    show(result, json)


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


def _rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    from matinee.results import text_table

    print(json.dumps(rows, default=str, indent=1) if as_json else text_table(rows))


def _plain(report: Any) -> dict[str, Any]:
    if hasattr(report, "rows") and callable(report.rows):
        return dict(report.rows()[0]) if report.rows() else {}
    from dataclasses import asdict

    return asdict(report)
