"""The examples run as they stand: a domain of one's own in one file, the nightly flow, the cron job."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import matinee as mt
from matinee.cli import run

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SHOP = '''
import matinee as mt


class Bought(mt.Fact, key="customer"):
    customer: int
    cents: int


offer = mt.Decision(
    "offer", unit="customer", among=["none", "tenth", "fifth"], fallback="none",
    reward=mt.sum(Bought.cents, within="1h"), reward_unit="cents",
)


def recipe(studio, advance):
    return [studio.save_policy("offer", mt.Uniform())]


domain = mt.Domain("shop", facts=[Bought], decisions=[offer], recipes={"offer": recipe})
'''


# ------------------------------------------------------------------------------------------------------------- localise


def test_a_domain_of_ones_own_takes_thirty_lines_and_nothing_but_the_public_package() -> None:
    tree = ast.parse((EXAMPLES / "localise.py").read_text())
    imports = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imports |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {name for name in imports if name not in sys.stdlib_module_names} == {"matinee"}
    main = next(n for n in tree.body if isinstance(n, ast.If))
    domain = [n for n in tree.body if n is not main and not isinstance(n, ast.Expr)]
    lines = sum((n.end_lineno or n.lineno) - n.lineno + 1 for n in domain)
    assert lines <= 30, f"{lines} lines of domain code"


def test_a_domain_of_ones_own_runs_as_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["localise.py", str(tmp_path / "studio")])
    runpy.run_path(str(EXAMPLES / "localise.py"), run_name="__main__")
    before, after, chosen = capsys.readouterr().out.splitlines()
    assert "'synthetic dub': 'consent: voice'" in before and "'human dub': None" in before
    assert "'synthetic dub': None" in after
    assert chosen == "chosen: ['synthetic dub']"


def test_a_domain_of_ones_own_is_known_to_every_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "studio"
    assert run(["init", "--studio", str(root)]) == 0
    (root / "localise.py").write_text((EXAMPLES / "localise.py").read_text())
    (root / "matinee.toml").write_text('domains = []\nmodules = ["localise.py"]\n')
    capsys.readouterr()
    assert run(["decide", "localise", "dark-de", "--context", "performer=ann", "--studio", str(root)]) == 0
    out = capsys.readouterr().out
    assert "synthetic dub" in out and "consent: voice" in out


# ---------------------------------------------------------------------------------------------------------- the cron job


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A studio with a decision, a recipe and forty logged choices."""
    root = tmp_path / "shop"
    assert run(["init", "--studio", str(root)]) == 0
    (root / "shop.py").write_text(SHOP)
    (root / "matinee.toml").write_text('domains = []\nmodules = ["shop.py"]\n')
    with mt.open(root) as studio:
        studio.release("offer", mt.Uniform())
        for customer in range(40):
            studio.decide("offer", customer=customer)
    return root


def test_the_cron_job_is_whole_and_its_commands_run(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = yaml.safe_load((EXAMPLES / "cronjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    assert len(job["spec"]["schedule"].split()) == 5 and job["spec"]["concurrencyPolicy"] == "Forbid"
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] in ("Never", "OnFailure")
    [container] = pod["containers"]
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    [folder] = [e["value"] for e in container["env"] if e["name"] == "MATINEE_STUDIO"]
    assert folder in {m["mountPath"] for m in container["volumeMounts"]}
    shell, flag, script = container["command"]
    assert (shell, flag) == ("sh", "-c")
    monkeypatch.setenv("MATINEE_STUDIO", str(shop))
    verbs = [shlex.split(part) for part in script.split("&&")]
    assert [v[0] for v in verbs] == ["matinee"] * len(verbs)
    for verb in verbs:
        assert run(verb[1:]) == 0, verb
    with mt.open(shop) as studio:
        assert len(studio.choices("offer")) == 40


def test_the_lines_of_the_crontab_run(shop: Path) -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    lines = re.findall(r"^(\S+ \S+ \S+ \S+ \S+)\s+matinee ([^|\n]+)", text, re.MULTILINE)
    assert {verb.split()[0] for _, verb in lines} == {"seal", "publish", "compact", "doctor"}
    for _, verb in lines:
        assert run(shlex.split(verb.replace("/srv/acme", str(shop)))) == 0, verb


# ------------------------------------------------------------------------------------------------------ the nightly flow


def metaflow() -> types.ModuleType:
    """What the flow uses of Metaflow, in one process: parameters from the command line, steps in the order of `next`."""
    fake: Any = types.ModuleType("metaflow")

    class Parameter:
        def __init__(self, name: str, *, help: str, default: str | None = None, required: bool = False) -> None:
            self.name, self.default, self.required = name, default, required

    class FlowSpec:
        def __init__(self) -> None:
            verb, *words = sys.argv[1:]
            assert verb == "run"
            given = dict(zip((w.removeprefix("--") for w in words[::2]), words[1::2], strict=True))
            for name, value in vars(type(self)).items():
                if isinstance(value, Parameter):
                    assert not value.required or value.name in given
                    setattr(self, name, given.get(value.name, value.default))
            step: Callable[[], None] | None = self.start  # type: ignore[attr-defined]  # the flow declares it
            while step is not None:
                assert getattr(step, "is_step", False), step
                self._next: Callable[[], None] | None = None
                step()
                assert (self._next is None) == (step.__name__ == "end")
                step = self._next

        def next(self, step: Callable[[], None]) -> None:
            self._next = step

    def step(function: Any) -> Any:
        function.is_step = True
        return function

    fake.FlowSpec, fake.Parameter, fake.step = FlowSpec, Parameter, step
    fake.retry = lambda times: lambda function: function
    return fake


def test_the_nightly_flow_runs_every_verb_to_its_end(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verbs: list[str] = []

    def execute(argv: list[str], *, check: bool) -> None:
        assert check and argv[:3] == [sys.executable, "-m", "matinee"]
        verbs.append(argv[3])
        assert run(argv[3:]) == 0, argv

    monkeypatch.setitem(sys.modules, "metaflow", metaflow())
    monkeypatch.setattr(subprocess, "run", execute)
    monkeypatch.setattr(sys, "argv", ["nightly_flow.py", "run", "--studio", str(shop), "--decision", "offer"])
    runpy.run_path(str(EXAMPLES / "nightly_flow.py"), run_name="__main__")
    assert verbs == ["seal", "train", "evaluate", "publish", "doctor"]


def test_a_step_that_fails_stops_the_flow(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def execute(argv: list[str], *, check: bool) -> None:
        if check and argv[3] == "train":
            raise subprocess.CalledProcessError(1, argv)

    monkeypatch.setitem(sys.modules, "metaflow", metaflow())
    monkeypatch.setattr(subprocess, "run", execute)
    monkeypatch.setattr(sys, "argv", ["nightly_flow.py", "run", "--studio", str(shop)])
    with pytest.raises(subprocess.CalledProcessError):
        runpy.run_path(str(EXAMPLES / "nightly_flow.py"), run_name="__main__")
