"""The command line, run in this process: what is printed, the exit status, one line for an error and no traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import matinee as mt
from matinee.cli import run

VERBS = [
    "init", "import", "append", "train", "evaluate", "release", "rollback", "publish", "decide", "serve", "token", "seal",
    "compact", "erase", "quarantine", "impact", "leverage", "relocate", "reproduce", "doctor", "demo",
]  # fmt: skip
FILM = """
import matinee as mt
from typing import Annotated

class Watched(mt.Fact, key="viewer"):
    viewer: int
    film: int
    seconds: Annotated[float, mt.Range(ge=0)]

pick = mt.Decision("pick", unit="viewer", among=[1, 2, 3], fallback=1)
domain = mt.Domain(name="films", facts=[Watched], decisions=[pick])
"""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a studio with one fact and one decision."""
    root = tmp_path_factory.mktemp("cli") / "acme"
    assert run(["init", "--studio", str(root)]) == 0
    (root / "films.py").write_text(FILM)
    (root / "matinee.toml").write_text('domains = []\nmodules = ["films.py"]\n')
    return str(root)


def answer(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    """What a command prints as JSON; it must succeed."""
    capsys.readouterr()
    status = run([*argv, "--json"])
    out, err = capsys.readouterr()
    assert status == 0, err
    return json.loads(out)


def failure(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 1) -> str:
    """What a command says on stderr when it fails; one line, and nothing on stdout."""
    capsys.readouterr()
    assert run(list(argv)) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1, err
    return err.strip()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: matinee {verb}" in out or verb == "quarantine"
    assert "Example: matinee" in out or verb == "quarantine"


def test_init_again_changes_nothing(studio: str, capsys: pytest.CaptureFixture[str]) -> None:
    again = answer(capsys, "init", "--studio", studio)
    assert (again["domains"], again["decisions"]) == ("films", "pick")


def test_init_takes_its_folder_by_place_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(tmp_path / "acme"), "--domain", "payments"]) == 0
    assert "payments" in capsys.readouterr().out
    assert (tmp_path / "acme" / "studio.json").is_file()


def test_append_quarantine_and_retry(studio: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plays = tmp_path / "plays.csv"
    plays.write_text("user,film,seconds,at\n1,1,60,2026-11-01T00:00:00Z\n1,2,-5,2026-11-01T00:00:00Z\n2,2,9,2026-11-01T00:00:00Z\n")
    argv = ["append", "watched", str(plays), "--studio", studio, "--column", "user=viewer"]
    assert answer(capsys, *argv)["rows"] == [{"fact": "watched", "appended": 2, "quarantined": 1}]
    assert answer(capsys, *argv)["notes"][0] == "this file was appended before; nothing was done"
    [group] = answer(capsys, "quarantine", "list", "--studio", studio)["rows"]
    assert (group["fact"], group["reason"], group["rows"]) == ("watched", "seconds, must be >= 0", 1)
    batch = group["batch"]
    [row] = answer(capsys, "quarantine", "show", batch, "--studio", studio)
    assert (row["viewer"], row["seconds"]) == ("1", "-5")  # as they came
    assert row["reasons"].startswith("seconds == -5")
    retried = answer(capsys, "quarantine", "retry", batch, "--studio", studio)["rows"]
    assert retried == [{"fact": "watched", "appended": 0, "quarantined": 1}]
    [group] = answer(capsys, "quarantine", "list", "--studio", studio)["rows"]
    batch = group["batch"]
    assert "must be confirmed: --yes" in failure(capsys, "quarantine", "drop", batch, "--studio", studio)
    assert answer(capsys, "quarantine", "drop", batch, "--yes", "--studio", studio) == {"batch": batch, "dropped": 1}
    assert answer(capsys, "quarantine", "list", "--studio", studio)["rows"] == []
    for verb in ("show", "retry", "drop"):
        assert "batch == '../../x'" in failure(capsys, "quarantine", verb, "../../x", "--studio", studio)


def test_impact_leverage_doctor(studio: str, capsys: pytest.CaptureFixture[str]) -> None:
    uris = {r["uri"] for r in answer(capsys, "impact", "--studio", studio)}
    assert {"fact://watched", "decision://pick"} <= uris
    assert answer(capsys, "impact", "decision://pick", "--studio", studio)["notes"] == ["nothing depends on decision://pick"]
    assert "did you mean 'decision://pick'" in failure(capsys, "impact", "decision://pik", "--studio", studio)
    bare = failure(capsys, "impact", "pick", "--studio", studio)
    assert "uri == 'pick', must be a URI: kind and name; did you mean 'decision://pick'?" in bare
    measures = {r["measure"]: r["value"] for r in answer(capsys, "leverage", "--studio", studio)["rows"]}
    assert measures["decisions live"] == "0 of 1"
    assert answer(capsys, "doctor", "--studio", studio)["notes"] == ["nothing is broken"]


def test_doctor_of_no_studio_says_what_to_do_with_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--studio", str(tmp_path)]) == 1
    assert f"matinee init --studio {tmp_path}" in capsys.readouterr().out


def test_erase_asks_first_and_is_done_with_yes(studio: str, capsys: pytest.CaptureFixture[str]) -> None:
    with mt.open(studio) as opened:
        opened.append("watched", [{"viewer": 77, "film": 1, "seconds": 5.0, "at": "2026-11-01T00:00:00Z"}])
    assert "cannot be undone, must be confirmed: --yes" in failure(capsys, "erase", "viewer", "77", "--studio", studio)
    assert {"place": "table watched", "rows": 1} in answer(capsys, "erase", "viewer", "77", "--yes", "--studio", studio)["rows"]
    assert answer(capsys, "erase", "viewer", "77", "--yes", "--studio", studio)["notes"] == ["nothing of this viewer was there"]
    assert "unit == 'member'" in failure(capsys, "erase", "member", "7", "--yes", "--studio", studio)
    assert "must be a whole number" in failure(capsys, "erase", "viewer", "seven", "--yes", "--studio", studio)


def test_decide_says_what_was_chosen_or_what_is_wrong(studio: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = answer(capsys, "decide", "pick", "5", "--context", "device=tv", "--context", "age=18", "--dry", "--studio", studio)
    assert (made["unit"], made["action"], made["context"]) == (5, [1], {"device": "tv", "age": 18})
    assert made["fallback"] == "decision 'pick' has no released policy"
    assert "did you mean 'pick'" in failure(capsys, "decide", "pik", "5", "--studio", studio)
    assert "--context == 'tv', must be NAME=VALUE" in failure(capsys, "decide", "pick", "5", "--context", "tv", "--studio", studio)
    assert run(["decide", "pick", "5", "--dry", "--studio", studio]) == 0
    assert "fallback: decision 'pick' has no released policy" in capsys.readouterr().out


def test_errors_of_the_other_verbs_are_sentences(studio: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--studio", studio]
    assert "has no recipe" in failure(capsys, "train", "pick", *there)
    assert "has no policy yet" in failure(capsys, "evaluate", "pick", *there)
    assert "has no release" in failure(capsys, "rollback", "pick", *there)
    assert "share == 1.5, must be <= 1" in failure(capsys, "release", "pick", "pick@1", "1.5", *there)
    assert "format == 'movielens'" in failure(capsys, "import", "movielens", str(tmp_path), *there)
    assert "table == 'watchd'" in failure(capsys, "compact", "watchd", *there)
    assert "uri == 'model://x@1'" in failure(capsys, "reproduce", "x@1", *there)
    assert "did you mean 'watched'" in failure(capsys, "append", "watchd", str(tmp_path), *there)


@pytest.mark.parametrize("argv", [["seal"], ["publish"], ["leverage"], ["quarantine", "list"], ["erase", "viewer", "1", "--yes"]])
def test_an_unknown_studio_is_one_line_and_status_1(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = failure(capsys, *argv, "--studio", str(tmp_path / "nowhere"))
    assert said.startswith("matinee: --studio == ")
    assert "matinee init --studio" in said
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("argv", [["fly"], ["decide", "pick"], ["rollback", "pick", "--to", "x"], ["seal", "--colour", "red"]])
def test_a_command_line_that_makes_no_sense_ends_with_status_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err


def test_an_unexpected_fault_leaves_no_traceback_but_a_file(
    studio: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def burst(self: mt.Studio) -> None:
        raise RuntimeError("something unforeseen")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mt.Studio, "leverage", burst)
    said = failure(capsys, "leverage", "--studio", studio, status=70)
    assert "RuntimeError: something unforeseen" in said
    [kept] = tmp_path.glob("matinee-error-*.txt")
    assert "Traceback" in kept.read_text()


def test_a_broken_module_of_the_user_is_named_with_its_line(
    tmp_path: Path, studio: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "acme"
    assert run(["init", "--studio", str(root)]) == 0
    (root / "own.py").write_text("import matinee as mt\n\nx = 1 / 0\n")
    (root / "matinee.toml").write_text('domains = []\nmodules = ["own.py"]\n')
    assert "own.py line 3: ZeroDivisionError" in failure(capsys, "seal", "--studio", str(root))
    (root / "matinee.toml").write_text("domains = [\n")
    assert "matinee.toml is no TOML" in failure(capsys, "seal", "--studio", str(root))
