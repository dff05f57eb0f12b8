"""`matinee demo`: a small streaming service with known truth; the whole loop for two decisions; then the console.

Everything the demo says is measured. The service is simulated, so that each policy's true value can stand beside its
estimate; the estimates see only what a real service would: facts, choices with their probabilities, outcomes.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matinee.demo.home import home_page, pages_of_today
from matinee.demo.parts import Bar, Clock
from matinee.demo.retry import retries
from matinee.exceptions import StorageError
from matinee.results import text_table
from matinee.times import utc_now

if TYPE_CHECKING:
    from matinee.studio import Studio

__all__ = ["run"]

TITLES = 300
DAYS = 60  # of history
# From the end of the history to the last reward being whole: the console then opens on what is of these weeks.
ALREADY = timedelta(days=27)

MODULE = '''"""What this studio adds to the installed domains: retries over its own processors, for the whole amount."""

import matinee as mt
from matinee.domains.payments.retry import retry_decision

retry = retry_decision({routes!r}, margin=1.0)
here = mt.Domain("here", title="This studio", decisions=[retry])
'''


def run(folder: Path | None, *, serve: bool, port: int, members: int, seed: int, as_json: bool) -> dict[str, Any]:
    """Run the demo; see `matinee demo --help`.

    Raises:
        StorageError: If the folder holds something else.
    """
    from matinee.studio import open as open_studio
    from matinee.worlds import StreamingService

    keep = folder is not None
    root = folder if folder is not None else Path(tempfile.mkdtemp(prefix="matinee-demo-")) / "studio"
    _make_room(root)
    bar = Bar(quiet=as_json)
    with bar.step("a service: members, titles, licences, 60 days of plays, invoices and charges"):
        # The story ends now, so that the console, and a server of this studio later, run on the clock of the wall.
        start = utc_now() - ALREADY - timedelta(days=DAYS)
        world = StreamingService(seed=seed, members=members, titles=TITLES, days=DAYS, start=start)
        frames = world.frames(duplicates=0.0, bad=0.0005)
    clock = Clock(world.now)
    _begin(root, world.routes)
    try:
        with open_studio(root, clock=clock, seed=seed) as studio:
            with bar.step("facts into tables; broken rows into quarantine", len(frames)) as advance:
                for name, frame in frames.items():
                    studio.append(name, frame)
                    advance(1)
            result: dict[str, Any] = {"home": home_page(studio, world, clock, bar)}
            result["retry"] = retries(studio, world, clock, bar)
            pages_of_today(studio, world, clock, bar, utc_now())
            result["leverage"] = studio.leverage().to_json()["rows"]
            result["seconds"] = round(time.perf_counter() - bar.begun, 1)
            _show(result, studio, as_json)
        if serve:
            _serve(root, port, keep=keep)
    finally:
        if not keep:
            shutil.rmtree(root.parent, ignore_errors=True)
    return result


def _make_room(root: Path) -> None:
    """Take away a demo that was made here before; any other studio is somebody's, and stays.

    Raises:
        StorageError: If the folder holds anything but a demo.
    """
    if not root.exists() or not any(root.iterdir()):
        return
    here = root / "here.py"
    if not here.is_file() or not here.read_text().startswith(MODULE.partition("\n")[0]):
        raise StorageError(f"dir == {str(root)!r} is not empty, must be a new folder, or one that a demo has made")
    shutil.rmtree(root)


def _begin(root: Path, routes: Sequence[str]) -> None:
    """A new studio with the two domains and a module of its own."""
    from matinee.studio import open as open_studio

    root.mkdir(parents=True, exist_ok=True)
    settings = 'domains = ["personalization", "payments"]\nmodules = [{modules}]\ntitle = "Demo"\n'
    (root / "matinee.toml").write_text(settings.format(modules=""))
    with open_studio(root):
        pass  # a folder becomes a studio while it holds nothing but settings
    (root / "here.py").write_text(MODULE.format(routes=list(routes)))
    (root / "matinee.toml").write_text(settings.format(modules='"here.py"'))


def _serve(root: Path, port: int, *, keep: bool) -> None:
    from matinee.serve import serve
    from matinee.studio import open as open_studio

    def tell(address: str) -> None:
        stays = f"the studio stays in {root}" if keep else "the studio goes when you stop; --dir keeps one"
        print(f"\nthe console is at {address}; Ctrl+C stops it, and {stays}", file=sys.stderr)

    with open_studio(root) as studio:
        serve(studio, port=port, started=tell)


def _show(result: dict[str, Any], studio: Studio, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, indent=1, default=str))
        return
    for decision in ("home", "retry"):
        found = studio.decision(decision)
        print(f"\n{found.title}: {found.reward_unit} a choice, estimated from the log beside the truth")
        rows = [
            {
                "policy": r["policy"], "what it does": r["what"], "estimate": r["estimate"],
                "interval": None if r["low"] is None else (r["low"], r["high"]), "truth": r["truth"],
                "truth ±": 1.96 * r["truth_error"], "method": r["method"],
            }
            for r in result[decision]
        ]  # fmt: skip
        print(text_table(rows))
        for r in result[decision]:
            if r["refused"]:
                print(f"{r['policy']}: no value: {r['refused']}")
            elif abs(r["truth"] - min(max(r["truth"], r["low"]), r["high"])) > 1.96 * r["truth_error"]:
                print(
                    f"{r['policy']}: its interval misses the truth; docs/guides/evaluate.md has what {r['method']} assumes"
                )
        print(studio.releases.live(decision))
    print()
    print(text_table(result["leverage"]))
    print(f"\n{studio.quarantine.count()} broken rows wait in quarantine; done in {result['seconds']} s")
