"""What the verbs share: the application, the studio of a command, how results and progress are shown."""

from __future__ import annotations

import json
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

StudioPath = Annotated[Path, Parameter(name="--studio", help="Folder of the studio.", env_var="MATINEE_STUDIO")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON.")]
HERE = Path()


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


def named(items: list[str], what: str) -> dict[str, str]:
    """The values of a repeated NAME=VALUE option by name."""
    pairs = {}
    for item in items:
        name, found, value = item.partition("=")
        if not found:
            raise MatineeError(f"{what} == {item!r}, must be NAME=VALUE")
        pairs[name] = value
    return pairs


def parsed(text: str) -> Any:
    """A context value from the command line: a JSON number, boolean or null where it is one, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def who() -> str:
    """Who runs the command, as far as the system knows."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows as a table, or as JSON."""
    from matinee.results import text_table

    print(json.dumps(rows, default=str, indent=1) if as_json else text_table(rows))


def as_row(report: Any) -> dict[str, Any]:
    """A report of one table as a row of a table of reports."""
    if hasattr(report, "rows") and callable(report.rows):
        return dict(report.rows()[0]) if report.rows() else {}
    from dataclasses import asdict

    return asdict(report)
