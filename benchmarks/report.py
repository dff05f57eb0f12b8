"""Rewrites docs/benchmarks.md from the JSON files that the benchmarks wrote.

    python -m benchmarks.report [--results DIR] [--docs FILE]

Each benchmark has one section between two comments; only what is between them is rewritten, and only where the folder
holds results of it. Text before, after and between the sections stays as somebody wrote it. What was tried is told in
`benchmarks/notes/NAME.md` and is taken into the section.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.protocols import PROTOCOLS, Protocol

HERE = Path(__file__).parent
INTRO = """# Benchmarks

Each benchmark is a module of `benchmarks/` and runs as `python -m benchmarks.NAME --json out/benchmarks/NAME.json`; its
peers run in the same process or beside it, on the same data. Floors were measured with plain public tools on two x86-64
cores. A section is rewritten by `python -m benchmarks.report`; text outside of the sections is not touched.
"""
# A path of the machine that measured says nothing to a reader: its last part is kept, in settings and in messages.
_ABSOLUTE = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+([\w.+-]+)")
UNMEASURED = "Not measured yet."


def main(argv: list[str] | None = None) -> Path:
    """Parses options and rewrites the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report")
    parser.add_argument("--results", type=Path, default=Path("out/benchmarks"), help="folder of the JSON files")
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs" / "benchmarks.md", help="the file to rewrite")
    parser.add_argument("--notes", type=Path, default=HERE / "notes", help="folder of what was tried")
    args = parser.parse_args(argv)
    results = read_results(args.results)
    old = args.docs.read_text() if args.docs.exists() else INTRO
    args.docs.parent.mkdir(parents=True, exist_ok=True)
    args.docs.write_text(rewrite(old, results, args.notes))
    print(f"{args.docs}: {len(results)} benchmarks from {args.results}")
    return Path(args.docs)


def read_results(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Results by benchmark; one may have several files, such as one for each data set.

    Raises:
        ValueError: If a file is not what a benchmark writes.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            made = json.loads(path.read_text())
            result = {"rows": list(made["rows"]), "settings": dict(made["settings"])}
            found.setdefault(made["benchmark"], []).append(result)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path.name} is no result of a benchmark, must have benchmark, rows and settings") from error
    return found


def rewrite(text: str, results: Mapping[str, Sequence[Mapping[str, Any]]], notes: Path) -> str:
    """The text with the sections of these results in place of the old ones; new sections come at the end."""
    for name in [*PROTOCOLS, *(n for n in sorted(results) if n not in PROTOCOLS)]:
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        old = re.search(re.escape(begin) + ".*?" + re.escape(end), text, re.DOTALL)
        if old is not None and name not in results and UNMEASURED not in old.group():
            continue  # measured before, and nothing newer is at hand
        made = f"{begin}\n{section(name, results.get(name, ()), notes)}{end}"
        if old is None:
            text = text.rstrip("\n") + f"\n\n{made}\n"
        else:
            text = text[: old.start()] + made + text[old.end() :]
    return text


def section(name: str, results: Sequence[Mapping[str, Any]], notes: Path) -> str:
    """One benchmark: protocol, floor, target, what was measured, what was tried."""
    about = PROTOCOLS.get(name, Protocol("", ""))
    parts = [f"## {name}"]
    labels = ("Protocol", "Floor", "Published or peers", "Target")
    lines = [f"- {label}: {text}" for label, text in zip(labels, about[1:], strict=True) if text]
    parts += ["\n".join(lines)] if lines else []
    if not results:
        parts.append(UNMEASURED)
    for result in results:
        settings = ", ".join(f"{k} {cell(v)}" for k, v in result["settings"].items() if v not in (None, False, ""))
        parts.append(table(result["rows"]))
        if settings:
            parts.append(f"Settings: {settings}.")
    tried = notes / f"{name}.md"
    if tried.exists():
        parts.append("### What was tried\n\n" + tried.read_text().strip())
    return "\n\n".join(parts) + "\n"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table: system and data set first, numbers to the right."""
    if not rows:
        return "No rows."
    names = list(dict.fromkeys(["system", "dataset", *(k for row in rows for k in row)]))
    names = [n for n in names if any(row.get(n) is not None for row in rows)]
    numeric = [all(_is_number(row[n]) for row in rows if row.get(n) is not None) for n in names]
    lines = ["| " + " | ".join(names) + " |", "|" + "|".join("---:" if n else "---" for n in numeric) + "|"]
    lines += ["| " + " | ".join(cell(row.get(n)) for n in names) + " |" for row in rows]
    return "\n".join(lines)


def cell(value: Any) -> str:
    """A value for people: three digits that matter, thousands apart, no bar that would break the table, no absolute path.

    Example:
        >>> [cell(v) for v in (0.123456, 1234567, 261.4, None, "a|b", [1.5, 2.0])]
        ['0.123', '1,234,567', '261', '', 'a\\\\|b', '1.5 to 2']
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    if isinstance(value, list | tuple):
        return (" to " if len(value) == 2 and all(map(_is_number, value)) else ", ").join(map(cell, value))
    return _ABSOLUTE.sub(r"\1", str(value)).replace("|", "\\|").replace("\n", " ")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


if __name__ == "__main__":
    main()
