"""The service over a real studio: what is answered is logged, what is released is taken up, nobody is turned away."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from starlette.testclient import TestClient

import matinee as mt
from matinee.choices import Choice, Outcome
from matinee.ledger import recent
from matinee.serve import ServeSettings, create_app, make_token


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studio with published features and one released policy."""
    root = tmp_path_factory.mktemp("real") / "films"
    mt.open(root).close()
    shutil.copy(Path(__file__).with_name("real_domain.py"), root / "films.py")
    (root / "matinee.toml").write_text('domains = []\nmodules = ["films.py"]\n')
    at = datetime.now(UTC) - timedelta(days=1)
    films = {"film": [1, 2, 3, 4, 5, 6], "maturity": [0, 6, 12, 16, 18, 18], "at": [at] * 6}
    with mt.open(root) as studio:
        studio.append("film", pl.DataFrame(films))
        rows = {"viewer": [7, 7, 8], "film": [1, 2, 3], "seconds": [100.0, 2000.0, 50.0], "at": [at] * 3}
        studio.append("watched", pl.DataFrame(rows))
        studio.release("front", mt.Uniform(), 1.0, by="tests")
        studio.publish()
    return root


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    """A client of the service of that studio, once it is ready."""
    app = create_app(mt.open(folder), ServeSettings(refresh=0.05))
    with TestClient(app, "http://localhost:8321", client=("127.0.0.1", 5)) as client:
        while client.get("/ready").status_code != 200:
            pass
        yield client


def test_a_choice_is_guarded_answered_and_logged(client: TestClient, folder: Path) -> None:
    reply = client.post("/decide/front", json={"unit": 7, "context": {"age": 12}})
    assert reply.status_code == 200, reply.text
    made = reply.json()
    assert len(made["action"]) == 3
    assert set(made["action"]) <= {1, 2, 3}
    assert made["propensities"] == pytest.approx([1 / 3, 1 / 2, 1])
    assert made["blocked"] == {"maturity": 3}
    assert made["policy"] == "front@1"
    assert made["fallback"] is None
    logged = next(r for r in recent(folder / "log") if isinstance(r, Choice) and r.id == made["id"])
    assert logged.action == made["action"]
    assert logged.context == {"age": 12}
    assert logged.blocked == {"maturity": [4, 5, 6]}


def test_an_outcome_counts_once_and_is_in_the_features_at_once(client: TestClient, folder: Path) -> None:
    before = client.get("/features/habit/7").json()["values"]
    assert before["plays"] == 2
    choice = client.post("/decide/front", json={"unit": 7}).json()["id"]
    seen = {
        "choice": choice,
        "fact": "watched",
        "row": {"viewer": 7, "film": 3, "seconds": 1800.0},
        "id": f"o-{choice}",
    }
    for _ in range(2):
        assert client.post("/outcome", json=seen).status_code == 200
    after = client.get("/features/habit/7").json()["values"]
    assert (after["plays"], after["seconds"], after["last"]) == (3, before["seconds"] + 1800.0, 3)
    logged = {r.id for r in recent(folder / "log") if isinstance(r, Outcome)}
    assert f"o-{choice}" in logged


def test_what_is_wrong_comes_back_in_the_studio_s_own_words(client: TestClient) -> None:
    unknown = client.post("/decide/frnt", json={"unit": 7})
    assert unknown.status_code == 404
    assert "did you mean 'front'" in unknown.json()["error"]["message"]
    wrong = client.post(
        "/outcome", json={"choice": "c", "fact": "watched", "row": {"viewer": 7, "film": "x", "seconds": 1.0}}
    )
    assert wrong.status_code == 422
    assert wrong.json()["error"]["message"] == "Watched.film == 'x', must be int, not str"
    column = client.post(
        "/outcome", json={"choice": "c", "fact": "watched", "row": {"viewer": 7, "flm": 1, "seconds": 1.0}}
    )
    assert column.status_code == 422
    assert "did you mean 'film'" in column.json()["error"]["message"]


@pytest.mark.slow
def test_a_release_is_taken_up_without_a_failed_request(client: TestClient, folder: Path) -> None:
    failures: list[int] = []
    policies: set[str] = set()
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            reply = client.post("/decide/front", json={"unit": 7, "context": {"age": 18}})
            if reply.status_code != 200:
                failures.append(reply.status_code)
            else:
                policies.add(reply.json()["policy"])

    asking = [threading.Thread(target=keep_asking) for _ in range(2)]
    for thread in asking:
        thread.start()
    try:
        with mt.open(folder) as elsewhere:  # another process would do the same to the same files
            name = elsewhere.save_policy("front", mt.Mixture({mt.Uniform(): 1.0}))
            elsewhere.release("front", name, 1.0, by="tests", without_evidence="a test")
            generation = elsewhere.publish()
        deadline = threading.Event()
        for _ in range(200):
            health = client.get("/health").json()["studio"]
            if name in policies and health["generation"] >= 2:
                break
            deadline.wait(0.05)
    finally:
        stop.set()
        for thread in asking:
            thread.join()
    assert failures == []
    assert name in policies
    assert health["generation"] >= 2, generation


def test_the_console_is_beside_the_api(client: TestClient) -> None:
    page = client.get("/", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert client.get("/health").json()["status"] == "ready"
    assert 'matinee_requests_total{route="console",status="200"} 1' in client.get("/metrics").text


def test_the_console_asks_who_it_is_when_there_are_tokens(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tokened"
    copy.mkdir()
    (copy / "matinee.toml").write_text("domains = []\nmodules = []\n")
    with mt.open(copy):
        pass
    viewer, service = make_token(copy, "viewer", name="Ada"), make_token(copy, "service")
    with TestClient(create_app(mt.open(copy), ServeSettings(refresh=0.05)), "http://studio.example") as client:
        assert client.get("/").status_code == 401
        assert client.get("/", auth=("ada", service)).status_code == 401
        assert client.get("/", auth=("ada", viewer)).status_code == 200


def test_the_log_is_closed_when_the_service_stops(folder: Path) -> None:
    with TestClient(create_app(mt.open(folder)), "http://localhost:8321", client=("127.0.0.1", 5)) as client:
        while client.get("/ready").status_code != 200:
            pass
        made = client.post("/decide/front", json={"unit": 8}).json()["id"]
    assert not list((folder / "log").rglob("*.open"))
    assert made in {r.id for r in recent(folder / "log")}
