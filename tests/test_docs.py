"""The documentation says what is so: its Python runs, its verbs exist, and nothing public is left out."""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import matinee
from matinee import exceptions, guards, policies

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
FILE = re.compile(r"# file: ([a-z_]+\.py)\n")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page: its language, its text, and the line of its first line of text."""

    language: str
    text: str
    line: int


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    for found in FENCE.finditer(text):
        yield Block(found[1], found[2], text[: found.start(2)].count("\n") + 1)


def words() -> str:
    """All pages as one text."""
    return "\n".join(page.read_text() for page in PAGES)


def verbs() -> set[str]:
    """Every verb of the command line, those of a group as `group verb`."""
    from matinee.cli.app import app
    from matinee.cli.facts import quarantine

    def own(group: object) -> set[str]:
        return {name for name in group if not name.startswith("-")}  # type: ignore[attr-defined]

    return (own(app) - {"quarantine"}) | {f"quarantine {verb}" for verb in own(quarantine)}


def documented_verbs(text: str) -> Iterator[tuple[str, int]]:
    """What follows `matinee` on the lines of shell blocks and in inline code, with the line it stands on."""
    spans = [(b.text, b.line) for b in blocks(text) if b.language in ("sh", "yaml")]
    prose = FENCE.sub(lambda m: "\n" * m[0].count("\n"), text)
    spans += [(m[1], prose[: m.start()].count("\n") + 1) for m in re.finditer(r"`(matinee [^`\n]+)`", prose)]
    for span, first in spans:
        for offset, line in enumerate(span.splitlines()):
            for found in re.finditer(r"(?:^|[\s;&])matinee +([a-z][a-z-]*)(?: +([a-z]+))?", line):
                verb = f"quarantine {found[2]}" if found[1] == "quarantine" else found[1]
                yield verb, first + offset


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_of_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a page run in order in one namespace; a block that begins with `# file: x.py` is saved under that name."""
    code = [b for b in blocks(page.read_text()) if b.language == "python"]
    if not code:
        pytest.skip("the page has no Python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    name = f"docs_{page.stem.replace('-', '_')}"
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    try:
        for block in code:
            saved = FILE.match(block.text)
            if saved:
                (tmp_path / saved[1]).write_text(block.text)
                continue
            source = "\n" * (block.line - 1) + block.text  # so that a traceback names the line of the page
            exec(compile(source, str(page), "exec", dont_inherit=True), vars(module))
    finally:
        for studio in [v for v in vars(module).values() if isinstance(v, matinee.Studio)]:
            studio.close()
        # Files saved by this page are not the modules of the same name that another page saves.
        for new in set(sys.modules) - before:
            origin = getattr(sys.modules[new], "__file__", None) or ""
            if origin.startswith(str(tmp_path)):
                del sys.modules[new]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_documented_verbs_exist(page: Path) -> None:
    known = verbs()
    for verb, line in documented_verbs(page.read_text()):
        assert verb in known, f"{page.name} line {line}: `matinee {verb}` is no verb, must be one of {sorted(known)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_tests_that_are_named_are_there() -> None:
    named = set(re.findall(r"`(tests/[\w/]+(?:\.py|/))`", words())) - {"tests/test_x.py"}
    assert len(named) > 15
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_verb_has_an_example() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    shown = {verb for verb, _ in documented_verbs("\n".join(f"```sh\n{b.text}```" for b in blocks(text) if b.language == "sh"))}
    assert not verbs() - shown


def test_every_public_name_is_documented() -> None:
    text = words()
    missing = [n for n in matinee.__all__ if not re.search(rf"(?:\bmt\.|`){n}\b", text)]
    assert not missing


def test_every_error_is_documented() -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    classes = [n for n, c in vars(exceptions).items() if inspect.isclass(c) and issubclass(c, exceptions.MatineeError)]
    assert len(classes) > 10
    assert not [n for n in classes if f"`{n}`" not in text]


def test_every_guard_and_policy_is_documented() -> None:
    text = (ROOT / "docs" / "guides" / "decisions.md").read_text()
    shipped = [
        c.__name__ for c in vars(guards).values()
        if inspect.isclass(c) and issubclass(c, guards.BaseGuard) and c is not guards.BaseGuard
    ]  # fmt: skip
    assert len(shipped) >= 7
    assert not [n for n in shipped if f"`mt.{n}(" not in text]
    own = [p.__name__ for p in policies.KINDS.values() if p.__module__ in ("matinee.policies", "matinee.plans")]
    assert len(own) >= 7
    assert not [name for name in own if f"`mt.{name}(" not in text]
    # A domain's policies, registered once the domain is imported, have a guide of their own.
    others = [p.__name__ for p in policies.KINDS.values() if p.__module__.startswith("matinee.domains.")]
    assert not [n for n in others if f"`{n}(" not in words()]


def test_thresholds_in_the_guide_are_those_of_the_code() -> None:
    from dataclasses import fields

    from matinee.evaluate import Thresholds

    text = (ROOT / "docs" / "guides" / "evaluate.md").read_text()
    for one in fields(Thresholds):
        assert f"| `{one.name}` | {one.default:g} |" in text, f"the guide's row of {one.name} differs from {one.default:g}"


def test_limits_in_the_guide_are_those_of_the_code() -> None:
    from dataclasses import fields

    from matinee.serve.settings import ServeSettings

    text = (ROOT / "docs" / "guides" / "serving.md").read_text()
    for one in fields(ServeSettings):
        shown = "none" if one.default == () else f"{one.default:g}" if isinstance(one.default, float) else str(one.default)
        assert f"| `{one.name}` | {shown} |" in text, f"the guide's row of {one.name} differs from {shown}"


def test_every_address_of_the_service_is_documented() -> None:
    text = (ROOT / "docs" / "guides" / "serving.md").read_text()
    source = (ROOT / "src" / "matinee" / "serve" / "app.py").read_text()
    paths = [p.replace(":path}", "}") for p in re.findall(r'Route\("(/[^"]*)"', source)]
    assert len(paths) >= 7
    assert not [p for p in paths if f"{p}`" not in text]


def test_prose_is_plain() -> None:
    for page in PAGES:
        prose = re.sub(r"<!--.*?-->", "", FENCE.sub("", page.read_text()), flags=re.DOTALL)
        assert "!" not in prose.replace("!=", "").replace("![", ""), f"{page.name} exclaims"
        assert not re.search(r"[\U0001F300-\U0001FAFF\u2600-\u27BF]", prose), f"{page.name} has an emoji"
