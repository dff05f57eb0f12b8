"""What is wrong with a studio, and how to mend it. Reads everything, changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matinee.exceptions import MatineeError
from matinee.results import Table

if TYPE_CHECKING:
    from matinee.studio import Studio

OK, CARE, BAD = "ok", "care", "broken"
STALE = timedelta(hours=24)
LOW_DISK = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One check: `ok`, `care` (works, but see to it) or `broken`."""

    check: str
    state: str
    detail: str
    mend: str = ""


@dataclass(frozen=True)
class Report(Table):
    """Everything that was checked."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing is broken."""
        return all(f.state != BAD for f in self.findings)

    def rows(self) -> list[dict[str, Any]]:
        return [{"check": f.check, "state": f.state, "found": f.detail, "mend": f.mend} for f in self.findings]

    def notes(self) -> Sequence[str]:
        broken = sum(f.state == BAD for f in self.findings)
        return [f"{broken} of {len(self.findings)} checks found something broken" if broken else "nothing is broken"]


def examine_folder(root: Path) -> Report:
    """Examine a studio by its folder, also one that does not open."""
    from matinee.studio import open as open_studio

    if not (root / "studio.json").is_file():
        where = f"{root} holds no studio.json"
        return Report((Finding("studio", BAD, where, f"make one: matinee init --studio {root}"),))
    try:
        with open_studio(root) as studio:
            return examine(studio)
    except MatineeError as error:
        said = str(error)
    except Exception as error:  # noqa: BLE001  # a file that no longer is what it was is a finding, not a traceback
        said = f"{type(error).__name__}: {error}"
    return Report((Finding("opening", BAD, said, "mend what the message names, then run this again"),))


def examine(studio: Studio) -> Report:
    """Run every check; a check that fails to run is itself a finding."""
    findings: list[Finding] = []
    for check in (_disk, _tables, _log, _quarantine, _models, _releases, _online, _erasures):
        findings += _safely(check, studio)
    return Report(tuple(findings))


def _safely(check: Callable[[Studio], Iterator[Finding]], studio: Studio) -> list[Finding]:
    try:
        return list(check(studio))
    except Exception as error:  # noqa: BLE001  # a doctor who faints helps nobody: the fault is reported as one
        return [Finding(check.__name__.strip("_"), BAD, f"{type(error).__name__}: {error}", "see the message")]


def _disk(studio: Studio) -> Iterator[Finding]:
    free = shutil.disk_usage(studio.root).free
    state = CARE if free < LOW_DISK else OK
    yield Finding("disk", state, f"{free / 1e9:.1f} GB free", "free some space" if state == CARE else "")


def _tables(studio: Studio) -> Iterator[Finding]:
    small = missing = 0
    names = studio.tables.names()
    for name in names:
        files = studio.tables.files(name)
        missing += sum(not Path(f.path).exists() for f in files)
        if len(files) > 8 * 16:
            small += 1
    if missing:
        yield Finding(
            "tables", BAD, f"{missing} data files are missing", "restore them from a backup: rows are lost without"
        )
    elif small:
        yield Finding("tables", CARE, f"{small} of {len(names)} tables have many small files", "matinee compact")
    else:
        yield Finding("tables", OK, f"{len(names)} tables, every data file is there")


def _log(studio: Studio) -> Iterator[Finding]:
    from matinee import ledger

    folder = studio.root / "log"
    waiting = (
        [s for stream in ledger.streams(folder) for s in ledger.segments(folder, stream)] if folder.is_dir() else []
    )
    bad: list[Any] = []
    for segment in waiting:
        for _record in ledger.read(segment.path, bad.append):
            pass
    if bad:
        yield Finding(
            "log", CARE, f"{len(bad)} lines cannot be read", "matinee seal puts them into quarantine with their place"
        )
    elif len(waiting) > 64:
        yield Finding(
            "log", CARE, f"{len(waiting)} segments wait to be sealed", "matinee seal, every quarter of an hour"
        )
    else:
        yield Finding("log", OK, f"{len(waiting)} segments wait to be sealed, every line is whole")


def _quarantine(studio: Studio) -> Iterator[Finding]:
    n = studio.quarantine.count()
    yield Finding("quarantine", CARE if n else OK, f"{n} rows wait", "matinee quarantine list" if n else "")


def _models(studio: Studio) -> Iterator[Finding]:
    from matinee.training import model_digest

    broken = []
    for node in studio.graph.nodes("model"):
        if not node.data:
            continue
        try:
            if node.data.get("digest") != model_digest(studio.shelf.path(node.name)):
                broken.append(node.name)
        except MatineeError:
            broken.append(node.name)
    if broken:
        yield Finding(
            "models", BAD, f"{', '.join(broken)} changed or missing on disk", "matinee train, then release the new one"
        )
    else:
        yield Finding("models", OK, f"{len(studio.shelf.names())} models, each as it was saved")


def _releases(studio: Studio) -> Iterator[Finding]:
    live = 0
    for name, decision in studio.decisions.items():
        release = studio.releases.live(name)
        if release is None:
            continue
        live += 1
        if set(release.guards) != set(decision.guard_names):
            mend = f"release again with --guards-changed 'why': matinee release {name} {release.live.policy} 1"
            yield Finding(f"guards of {name}", CARE, "they differ from those it was released with", mend)
        for policy in release.policies:
            try:
                studio.policy(policy)
            except MatineeError as error:
                yield Finding(f"release of {name}", BAD, f"{policy}: {error}", f"matinee rollback {name}")
    yield Finding("releases", OK, f"{live} of {len(studio.decisions)} decisions are live")


def _online(studio: Studio) -> Iterator[Finding]:
    from matinee.online import OnlineStore
    from matinee.times import instant

    needed = any(d.entity for d in studio.decisions.values())
    store = OnlineStore(studio.root / "online")
    if not store.generation:
        state = CARE if needed and any(studio.releases.live(d) for d in studio.decisions) else OK
        yield Finding("online store", state, "nothing is published", "matinee publish" if state == CARE else "")
        return
    age = studio.clock() - instant(store.manifest["as_of"])
    hashes = store.manifest.get("features", {})
    changed = [n for n, f in studio.features.items() if n in hashes and hashes[n] != f.hash]
    if changed:
        yield Finding(
            "online store", BAD, f"features {', '.join(changed)} changed since it was published", "matinee publish"
        )
    elif age > STALE:
        yield Finding("online store", CARE, f"published {age.total_seconds() / 3600:.0f} hours ago", "matinee publish")
    else:
        yield Finding("online store", OK, f"generation {store.generation}, {age.total_seconds() / 3600:.1f} hours old")


def _erasures(studio: Studio) -> Iterator[Finding]:
    from matinee.erasure import unfinished

    n = unfinished(studio)
    if n:
        yield Finding("erasures", BAD, f"{n} erasures were begun and did not end", "run `matinee erase` for them again")
    else:
        yield Finding("erasures", OK, "every erasure that was begun has ended")
