from __future__ import annotations

import base64
import stat
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from matinee.exceptions import MatineeError, StorageError, UnknownNameError
from matinee.serve import list_tokens, make_token, revoke_token, same_origin

Connect = Callable[..., AbstractContextManager[TestClient]]
HOME = ("POST", "/decide/home", {"unit": 1})


def ask(client: TestClient, call: tuple[str, str, object], **headers: str) -> int:
    method, path, body = call
    return client.request(method, path, json=body, headers=headers).status_code


def until(holds: Callable[[], bool]) -> None:
    """The token file is looked at every 20 ms here, every second in earnest."""
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline, "it was not taken up"


def test_only_the_hash_is_kept(tmp_path: Path) -> None:
    token = make_token(tmp_path, "service", name="player", days=30)
    kept = (tmp_path / "tokens.json").read_text()
    secret = token.split("_", 2)[2]
    assert len(secret) >= 32
    assert secret not in kept
    assert stat.S_IMODE((tmp_path / "tokens.json").stat().st_mode) == 0o600
    (entry,) = list_tokens(tmp_path)
    assert (entry.name, entry.role) == ("player", "service")
    assert entry.expires - entry.created == timedelta(days=30)
    assert list(tmp_path.iterdir()) == [tmp_path / "tokens.json"]


def test_what_a_token_must_be(tmp_path: Path) -> None:
    with pytest.raises(MatineeError, match="did you mean 'service'"):
        make_token(tmp_path, "servise")
    with pytest.raises(MatineeError, match="days == 0, must be >= 1"):
        make_token(tmp_path, "service", days=0)
    with pytest.raises(UnknownNameError, match="token == 'abc'"):
        revoke_token(tmp_path, "abc")
    (tmp_path / "tokens.json").write_text("{")
    with pytest.raises(StorageError, match=r"tokens.json cannot be read"):
        list_tokens(tmp_path)


@pytest.mark.parametrize(
    ("role", "decide", "outcome", "features", "metrics"),
    [
        ("service", 200, 200, 200, 200),
        ("operator", 200, 200, 200, 200),
        ("viewer", 403, 403, 200, 200),
        ("", 401, 401, 401, 401),
    ],
)
def test_roles_reach_what_they_should(
    connect: Connect, tmp_path: Path, role: str, decide: int, outcome: int, features: int, metrics: int
) -> None:
    make_token(tmp_path, "operator")
    token = make_token(tmp_path, role) if role else ""
    with connect(token=token, client=("10.0.0.7", 4711), base="http://api.example:8321") as client:
        assert ask(client, HOME) == decide
        played = {"choice": "c", "fact": "played", "row": {"seconds": 1.0}}
        assert ask(client, ("POST", "/outcome", played)) == outcome
        assert ask(client, ("GET", "/features/taste/1", None)) == features
        assert ask(client, ("GET", "/metrics", None)) == metrics
        assert ask(client, ("GET", "/health", None)) == 200
        assert ask(client, ("GET", "/ready", None)) == 200
        assert ("decisions" in client.get("/health").json()["studio"]) == bool(role)


def test_a_refusal_says_why(connect: Connect, tmp_path: Path) -> None:
    token = make_token(tmp_path, "viewer")
    with connect(token=token) as client:
        reply = client.post("/decide/home", json={"unit": 1})
        assert reply.json()["error"]["message"] == "role == 'viewer', must be 'service' or 'operator' for this"
    with connect() as client:
        reply = client.post("/decide/home", json={"unit": 1})
        assert reply.json()["error"]["code"] == "unauthorized"
        assert reply.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer mt_", "Bearer mt_{id}_", "Bearer mt_{id}_wrong", "Bearer {token}x",
     "Bearer x{token}", "Basic !!!", "Basic bm9jb2xvbg==", "Token {token}", "Bearer xx_{id}_{secret}",
     "Bearer mt_00000000_{secret}"],
)  # fmt: skip
def test_bad_tokens_are_turned_away(connect: Connect, tmp_path: Path, authorization: str) -> None:
    token = make_token(tmp_path, "service")
    _, key, secret = token.split("_", 2)
    with connect() as client:
        sent = authorization.format(token=token, id=key, secret=secret)
        assert ask(client, HOME, Authorization=sent) == 401
        assert ask(client, HOME, Authorization=f"Bearer {token}") == 200


def test_the_password_of_basic_is_a_token(connect: Connect, tmp_path: Path) -> None:
    token = make_token(tmp_path, "service")
    with connect() as client:
        assert ask(client, HOME, Authorization="Basic " + base64.b64encode(f"me:{token}".encode()).decode()) == 200


def test_expired_and_revoked_tokens_hold_no_longer(connect: Connect, tmp_path: Path) -> None:
    old = make_token(tmp_path, "service", days=1, now=datetime.now(UTC) - timedelta(days=1, seconds=1))
    fresh = make_token(tmp_path, "service")
    with connect() as client:
        assert ask(client, HOME, Authorization=f"Bearer {old}") == 401
        assert ask(client, HOME, Authorization=f"Bearer {fresh}") == 200
        revoke_token(tmp_path, fresh.split("_")[1])
        until(lambda: ask(client, HOME, Authorization=f"Bearer {fresh}") == 401)
        later = make_token(tmp_path, "service")
        until(lambda: ask(client, HOME, Authorization=f"Bearer {later}") == 200)  # taken up without a restart


def test_a_service_that_had_tokens_stays_closed_when_the_file_goes(connect: Connect, tmp_path: Path) -> None:
    token = make_token(tmp_path, "service")
    with connect(token=token) as client:
        assert ask(client, HOME) == 200
        (tmp_path / "tokens.json").unlink()
        until(lambda: ask(client, HOME) == 401)


def test_without_tokens_only_this_machine_is_answered(connect: Connect) -> None:
    with connect() as client:
        assert ask(client, HOME) == 200
    with connect(base="http://[::1]:8321", client=("::1", 5)) as client:
        assert ask(client, HOME) == 200
    with connect(client=("10.0.0.7", 4711)) as client:
        reply = client.post("/decide/home", json={"unit": 1})
        assert reply.status_code == 403
        assert "make one with `matinee token`" in reply.json()["error"]["message"]
    with connect(base="http://evil.example:8321") as client:  # a name of theirs that resolves to this machine
        reply = client.post("/decide/home", json={"unit": 1})
        assert reply.status_code == 421
        assert "host == 'evil.example'" in reply.json()["error"]["message"]
        assert client.get("/health").json()["studio"] == {}


def test_pages_of_other_sites_cannot_post(connect: Connect) -> None:
    with connect() as client:
        assert ask(client, HOME, Origin="https://evil.example") == 403
        assert ask(client, HOME, Origin="null") == 403
        assert ask(client, HOME, **{"Sec-Fetch-Site": "cross-site"}) == 403
        assert ask(client, HOME, **{"Sec-Fetch-Site": "same-site"}) == 403
        assert ask(client, HOME, Origin="http://localhost:8321") == 200
        assert ask(client, HOME, **{"Sec-Fetch-Site": "same-origin"}) == 200


def test_same_origin_of_a_scope() -> None:
    def scope(**headers: str) -> dict[str, object]:
        return {"headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]}

    assert same_origin(scope(host="a:1"))
    assert same_origin(scope(host="A:1", origin="http://a:1"))
    assert not same_origin(scope(host="a:1", origin="http://a:2"))
    assert not same_origin(scope(host="a:1", origin="http://a:1", sec_fetch_site="cross-site"))
