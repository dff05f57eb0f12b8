from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from matinee.exceptions import StorageError
from matinee.serve import ServeSettings

Connect = Callable[..., AbstractContextManager[TestClient]]


def error_of(reply: Any) -> dict[str, str]:
    body = reply.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "reference"}
    assert len(body["error"]["reference"]) == 8
    return dict(body["error"])


def test_decide_answers_with_the_choice(connect: Connect) -> None:
    with connect() as client:
        reply = client.post("/decide/home", json={"unit": 42, "context": {"device": "tv"}})
    assert reply.status_code == 200
    assert reply.json() == {
        "id": "c-42", "decision": "home", "unit": 42, "at": "2026-05-01T12:00:00Z", "policy": "home@1", "arm": "live",
        "mode": "decide", "action": [2, 1], "propensities": [0.5, 0.25], "fallback": None,
        "blocked": {"licence window": 2}, "advice": [],
    }  # fmt: skip
    assert reply.headers["content-type"] == "application/json"


def test_outcome_is_recorded_once_or_many_at_a_time(connect: Connect, studio: Any) -> None:
    one = {"choice": "c-42", "fact": "played", "row": {"seconds": 1800.0}, "id": "x1", "at": "2026-05-01T11:00:00Z"}
    with connect() as client:
        reply = client.post("/outcome", json=one)
        assert reply.status_code == 200
        assert reply.json()["id"] == "x1"
        assert reply.json()["at"] == "2026-05-01T11:00:00Z"
        many = client.post("/outcome", json=[one, {**one, "fact": "plaid"}, {**one, "row": {}}])
    assert many.status_code == 207
    items = many.json()["outcomes"]
    assert items[0]["outcome"]["id"] == "x1"
    assert items[1]["error"]["code"] == "unknown_name"
    assert "did you mean 'played'" in items[1]["error"]["message"]
    assert items[2]["error"] == {
        **items[2]["error"],
        "code": "invalid",
        "message": "Played.seconds is missing, must be given (float)",
    }
    assert [o.id for o in studio.recorded] == ["x1", "x1"]


def test_a_long_list_of_outcomes_is_refused(connect: Connect, studio: Any) -> None:
    one = {"choice": "c", "fact": "played", "row": {"seconds": 1.0}}
    with connect(settings=ServeSettings(max_outcomes=5)) as client:
        assert client.post("/outcome", json=[one] * 5).status_code == 200
        reply = client.post("/outcome", json=[one] * 6)
    assert reply.status_code == 413
    assert error_of(reply)["message"] == "6 outcomes, must be at most 5 in one request"
    assert len(studio.recorded) == 5


def test_features_of_a_key_of_the_declared_kind(connect: Connect) -> None:
    with connect() as client:
        values = {"plays": 3, "last": None, "key_was": "int", "at": "2026-05-01T12:00:00Z"}
        assert client.get("/features/taste/42").json() == {"features": "taste", "key": 42, "values": values}
        assert client.get("/features/card/42").json()["values"]["key_was"] == "str"
        assert client.get("/features/card/shop%2F42").json()["key"] == "shop/42"
        wrong = client.get("/features/taste/forty")
        assert wrong.status_code == 400
        assert error_of(wrong)["message"] == "key == 'forty', must be a whole number for 'taste'"
        unknown = client.get("/features/tatse/42")
        assert unknown.status_code == 404
        assert "did you mean 'taste'" in error_of(unknown)["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"unit": 42', "Input data was truncated"),
        (b'{"unit": [1]}', "Expected `int | str`, got `array` - at `$.unit`"),
        (b'{"unit": true}', "Expected `int | str`, got `bool` - at `$.unit`"),
        (b'{"unit": ""}', "Expected `str` of length >= 1 - at `$.unit`"),
        (b'{"context": {}}', "Object missing required field `unit`"),
        (b'{"unit": 1, "contxt": {}}', "Object contains unknown field `contxt`"),
        (b'{"unit": 1, "context": [1]}', "Expected `object`, got `array` - at `$.context`"),
        (b'{"unit": 99999999999999999999999}', "at `$.unit`"),
        (b'{"unit": 1, "context": {"x": NaN}}', "JSON is malformed"),
        (b"\xff\xfe", "JSON is malformed"),
        (b"", "Input data was truncated"),
        (b"[" * 100_000, "Expected `object`"),
    ],
)
def test_malformed_bodies_are_told_where(connect: Connect, body: bytes, message: str) -> None:
    with connect() as client:
        reply = client.post("/decide/home", content=body)
    assert reply.status_code == 400
    error = error_of(reply)
    assert error["code"] == "malformed"
    assert message in error["message"]


def test_no_body_breaks_the_service(connect: Connect) -> None:
    near = st.text(alphabet='{}[]":,0123456789.eE-unit context', max_size=60).map(str.encode)

    with connect() as client:

        @settings(max_examples=60, deadline=None)
        @given(body=st.binary(max_size=60) | near, path=st.sampled_from(["/decide/home", "/outcome"]))
        def send(body: bytes, path: str) -> None:
            reply = client.post(path, content=body)
            assert reply.status_code in (200, 400, 422, 404)
            assert reply.status_code == 200 or error_of(reply)

        send()


def test_deeply_nested_context_is_refused_not_crashed_on(connect: Connect) -> None:
    nested = b'{"unit": 1, "context": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    with connect() as client:
        reply = client.post("/decide/home", content=nested)
        assert reply.status_code == 400
        assert "nested too deeply" in error_of(reply)["message"]
        assert client.post("/decide/home", json={"unit": 1}).status_code == 200


def test_unknown_decision_suggests_a_known_one(connect: Connect) -> None:
    with connect() as client:
        reply = client.post("/decide/hom", json={"unit": 1})
    assert reply.status_code == 404
    assert (
        error_of(reply)["message"]
        == "decision == 'hom', must be one of this studio's (home, route); did you mean 'home'?"
    )


def test_a_fault_shows_a_reference_and_the_log_has_the_traceback(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    with connect() as client, caplog.at_level(logging.ERROR, "matinee.serve"):
        reply = client.post("/decide/home", json={"unit": "burst"})
        full = client.post("/decide/home", json={"unit": "disk"})
    assert reply.status_code == 500
    error = error_of(reply)
    assert error["code"] == "internal"
    assert "secret" not in reply.text and "Traceback" not in reply.text
    assert error["reference"] in caplog.text
    assert "secret detail of the machine" in caplog.text
    assert full.status_code == 503
    assert error_of(full)["code"] == "storage"
    assert "/srv" not in full.text
    assert "/srv/studio/log" in caplog.text
    assert full.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    "path",
    ["/decide/../../etc/passwd", "/decide/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/features/..%2F..%2Ftokens.json/1",
     "/static/..%2f..%2fapp.py", "/features/taste/..%2f..", "/%00", "/decide/%00", "/decide/home/", "//etc/passwd"],
)  # fmt: skip
def test_path_tricks_lead_nowhere(connect: Connect, path: str) -> None:
    with connect() as client:
        for method in ("GET", "POST"):
            reply = client.request(method, path, json={"unit": 1} if method == "POST" else None, follow_redirects=False)
            assert reply.status_code in (307, 400, 404, 405), (method, path, reply.status_code)
            assert "root:" not in reply.text
            assert "import" not in reply.text


def test_what_is_not_there_and_what_is_there_for_another_method(connect: Connect) -> None:
    with connect() as client:
        nothing = client.get("/nothing-here-at-all/x/y/z")
        assert nothing.status_code == 404
        assert error_of(nothing)["code"] == "not_found"
        other = client.get("/decide/home")
        assert other.status_code == 405
        assert error_of(other)["code"] == "method_not_allowed"
        assert "POST" in other.headers["allow"]


def test_loading_says_not_yet(connect: Connect, studio: Any) -> None:
    studio.broken_refresh = True
    with connect(loaded=False) as client:
        ready = client.get("/ready")
        assert ready.status_code == 503
        assert ready.json()["status"] == "loading"
        assert client.get("/health").status_code == 200
        reply = client.post("/decide/home", json={"unit": 1})
        assert reply.status_code == 503
        assert error_of(reply)["code"] == "loading"
        assert reply.headers["retry-after"] == "1"
        studio.broken_refresh = False
        while client.get("/ready").status_code != 200:
            pass
        assert client.post("/decide/home", json={"unit": 1}).status_code == 200


def test_what_takes_too_long_is_given_up(connect: Connect, studio: Any) -> None:
    studio.generation, studio.hold = 0, threading.Event()  # in a thread, which waits
    with connect(settings=ServeSettings(timeout=0.1, refresh=0.02)) as client:
        reply = client.post("/decide/home", json={"unit": 1})
        assert reply.status_code == 503
        assert error_of(reply)["code"] == "timeout"
        assert "send it again with the same id" in error_of(reply)["message"]
        studio.hold.set()


def test_a_failing_refresh_keeps_serving_and_is_counted(
    connect: Connect, studio: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with connect() as client, caplog.at_level(logging.ERROR, "matinee.serve"):
        studio.broken_refresh = True
        seen = studio.refreshed
        while studio.refreshed < seen + 4:
            assert client.post("/decide/home", json={"unit": 1}).status_code == 200
        assert client.get("/ready").status_code == 200
        metrics = client.get("/metrics").text
    count = float(
        next(line for line in metrics.splitlines() if line.startswith("matinee_reload_failures_total ")).split()[1]
    )
    assert count >= 3
    assert caplog.text.count("taking up what is new failed") == 1  # once, not every second


def test_what_follows_loading_keeps_nobody_waiting_and_may_fail(
    connect: Connect, studio: Any, caplog: pytest.LogCaptureFixture
) -> None:
    begun, let = threading.Event(), threading.Event()

    def warm() -> None:
        begun.set()
        assert let.wait(5)
        raise StorageError("the tables are out")

    studio.broken_refresh = True
    with caplog.at_level(logging.ERROR, "matinee.serve"), connect(loaded=False) as client:
        client.app.state.service.after_loading = warm
        assert not begun.wait(0.1)  # nothing was loaded yet
        studio.broken_refresh = False
        assert begun.wait(5)
        assert client.get("/ready").status_code == 200
        assert client.post("/decide/home", json={"unit": 1}).status_code == 200
        let.set()
        while "what follows the first loading failed" not in caplog.text:
            assert client.post("/decide/home", json={"unit": 1}).status_code == 200
        assert client.get("/ready").status_code == 200


def test_shutting_down_closes_the_studio(connect: Connect, studio: Any) -> None:
    with connect():
        assert not studio.closed
    assert studio.closed


def test_published_features_are_read_on_the_loop_and_disk_writes_in_threads(connect: Connect, studio: Any) -> None:
    def served_by() -> set[str]:
        studio.threads.clear()
        with connect() as client:
            client.post("/decide/home", json={"unit": 1})
            client.post("/outcome", json={"choice": "c", "fact": "played", "row": {"seconds": 1.0}})
        return {name.split("_")[0] for name in studio.threads}

    assert "matinee-serve" not in served_by()
    studio.config = {"durability": "disk"}
    assert served_by() == {"matinee-serve"}
    studio.config, studio.generation = {}, 0
    assert served_by() == {"matinee-serve"}


def test_openapi_names_every_route_and_every_type(connect: Connect) -> None:
    with connect() as client:
        page = client.get("/openapi.json").json()
    assert set(page["paths"]) == {
        "/decide/{decision}",
        "/outcome",
        "/features/{name}/{key}",
        "/health",
        "/ready",
        "/metrics",
    }
    text = str(page)
    for name in ("DecideBody", "ChoiceReply", "OutcomeBody", "OutcomesReply", "ErrorBody"):
        assert name in page["components"]["schemas"]
        assert f"#/components/schemas/{name}" in text
    assert page["components"]["schemas"]["DecideBody"]["required"] == ["unit"]


def test_metrics_tell_what_was_answered(connect: Connect) -> None:
    with connect() as client:
        for unit in range(3):
            client.post("/decide/home", json={"unit": unit})
        client.post("/decide/hom", json={"unit": 1})
        page = client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = page.text.splitlines()
    assert 'matinee_requests_total{route="decide",status="200"} 3' in lines
    assert 'matinee_requests_total{route="decide",status="404"} 1' in lines
    assert 'matinee_request_seconds_count{route="decide"} 4' in lines
    assert 'matinee_request_seconds_bucket{route="decide",le="+Inf"} 4' in lines
    assert 'matinee_decisions_total{decision="home"} 7' in lines
    assert "matinee_ready 1" in lines
