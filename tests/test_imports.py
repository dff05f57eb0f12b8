"""Promise 9: importing `matinee` is light. And who may know whom."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "matinee"
HEAVY = {
    "polars", "numpy", "pyarrow", "pyiceberg", "lightgbm", "scipy", "numba", "lmdb", "ortools", "torch", "ray", "pandas",
    "starlette", "uvicorn", "jinja2", "rich", "cyclopts",
}  # fmt: skip

# Layers, lowest first. A module may import its own layer and those before it; services may be imported by all.
SERVICES = {
    "exceptions", "checks", "times", "results", "expressions", "choices", "disk", "locks", "registry", "graph", "quarantine",
    "tables", "engine", "rights",
}  # fmt: skip
LAYERS = [
    {"facts", "validate", "files", "store"},
    {"features"},
    {"models"},
    {
        "draw", "draw_kernels", "policies", "plans", "guards", "rewards", "decisions", "scorers", "catalogue", "ledger",
        "training", "log_weights",
    },
    {"evaluate", "experiments"},
    {
        "showing", "domain", "releases", "releasing",
        "rewarded", "replay", "judge", "workshop", "sealing", "publishing", "erasure", "leverage", "live", "unit_features",
        "studio", "doctor", "testing", "trial", "online",
    },
    {"serve", "console", "worlds"},
    {"cli", "demo", "__main__"},
]  # fmt: skip
# Services are used by all, and know facts at most (a table's schema, a consent fact).
MAY_ALSO = {"rights": {"facts"}, "quarantine": {"validate"}, "worlds": {"policies"}}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_brings_none_of_the_heavy_libraries() -> None:
    seen = set(run("import matinee, sys; print(*{m.partition('.')[0] for m in sys.modules})").split())
    assert not HEAVY & seen


def test_import_takes_less_than_half_a_second() -> None:
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        run("import matinee")
        times.append(time.perf_counter() - begin)
    bare = time.perf_counter()
    run("pass")
    bare = time.perf_counter() - bare
    assert min(times) - bare < 0.5, f"import matinee took {min(times) - bare:.2f} s beyond a bare interpreter"


def test_every_public_name_resolves() -> None:
    import matinee

    for name in matinee.__all__:
        assert getattr(matinee, name) is not None


def layer(module: str) -> int | None:
    return next((i for i, names in enumerate(LAYERS) if module in names), None)


def imports(path: Path) -> set[str]:
    """Top-level matinee modules that a file imports, wherever the import stands, type-checking blocks left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "matinee" else [node.module]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("matinee.") and len(n.split(".")) > 1}
    return found


FILES = sorted(p for p in SOURCE.rglob("*.py") if p.name != "__init__.py" or p.parent != SOURCE)


def test_every_module_has_a_place() -> None:
    known = SERVICES | {"domains"} | set().union(*LAYERS)
    strays = {p.relative_to(SOURCE).parts[0].removesuffix(".py") for p in FILES} - known
    assert not strays, f"{sorted(strays)} stand in no layer: give them one in LAYERS or SERVICES"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_who_may_know_whom(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for other in imports(path):
        if other == own or other in SERVICES or other in MAY_ALSO.get(own, set()):
            continue
        assert other != "domains" or own == "domains", (
            f"{path.name} imports a domain: domains are registered, not imported"
        )
        if own == "domains":
            # A domain sees the public package and its documented submodules.
            assert other in {
                "evaluate", "testing", "models", "features", "scorers", "store", "files", "training", "policies", "facts",
                "experiments",
                "domains", "domain", "showing", "guards", "rewards", "decisions", "draw", "rewarded",
            }, f"domain file {path.name} imports matinee.{other}: domains import only the public package"  # fmt: skip
            continue
        below, mine = layer(other), layer(own)
        assert below is not None, f"{path.name} imports matinee.{other}, which stands in no layer"
        if own in SERVICES:
            raise AssertionError(f"{own} is a service and imports {other}: a service may know services only")
        assert mine is not None
        assert below <= mine, f"{own} may know {sorted(set().union(*LAYERS[: mine + 1]))}, not {other}"


def test_domains_never_import_each_other() -> None:
    for domain in (p for p in (SOURCE / "domains").iterdir() if p.is_dir() and not p.name.startswith("_")):
        for path in domain.rglob("*.py"):
            text = path.read_text()
            for other in (p.name for p in (SOURCE / "domains").iterdir() if p.is_dir()):
                if other != domain.name:
                    assert f"matinee.domains.{other}" not in text, f"{path.name} imports domain {other}"


def test_only_tables_knows_iceberg() -> None:
    for path in FILES:
        if path.relative_to(SOURCE).parts[0] != "tables":
            assert "pyiceberg" not in path.read_text(), f"{path.name} mentions pyiceberg: only tables may"


def test_nothing_pickles() -> None:
    for path in FILES:
        if path.name == "engine.py":
            continue  # messages between a process and its own workers, never a file
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not {"pickle", "cloudpickle", "dill", "joblib"} & {n.split(".")[0] for n in names}, path


def test_no_public_name_is_also_a_module() -> None:
    """Importing `matinee.x` sets the attribute `matinee.x`: a public name of that spelling would turn into the module."""
    import matinee

    modules = {p.stem for p in SOURCE.glob("*.py")} | {p.name for p in SOURCE.iterdir() if p.is_dir()}
    assert not modules & set(matinee.__all__)
