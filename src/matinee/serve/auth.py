"""Tokens and roles: who may ask for what. Only hashes are kept; comparing takes the same time whatever is sent.

A token is `mt_<id>_<secret>`: the id finds its entry in `tokens.json` of the studio, the secret has 192 random bits, so
that a plain SHA-256 of it cannot be turned back. It is sent as `Authorization: Bearer ...`, or as the password of
HTTP Basic, which is what a browser asks for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.types import Scope

from matinee.checks import must
from matinee.exceptions import StorageError, UnknownNameError
from matinee.serve.errors import HttpError
from matinee.serve.limits import header
from matinee.times import utc_now

Role = Literal["service", "operator", "viewer"]
ROLES: tuple[Role, ...] = ("service", "operator", "viewer")
FILE = "tokens.json"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# An entry against which a token with an unknown id is compared, so that a wrong id costs what a wrong secret costs.
_NOBODY = hashlib.sha256(b"").hexdigest()


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token as it is kept: everything but the secret."""

    id: str
    name: str
    role: Role
    hash: str
    created: datetime
    expires: datetime


class _File(msgspec.Struct):
    tokens: list[Token] = []


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request comes from."""

    name: str
    role: str


def make_token(root: Path, role: str, *, name: str = "", days: int = 365, now: datetime | None = None) -> str:
    """Make a token and keep its hash; the token itself is returned once and stored nowhere.

    Args:
        root: The studio's folder.
        role: "service" (decide, outcome), "viewer" (look), "operator" (both, and act in the console).
        name: Whom it is for; the log and the lineage call them so.
        days: How long it holds.
        now: The time; the wall clock where not given.

    Raises:
        MatineeError: For a role that does not exist, or days that are no length of time.
    """
    granted: Role = cast("Role", must(role, "role", one_of=ROLES))
    until = (created := now or utc_now()) + timedelta(days=must(days, "days", typ=int, ge=1, le=3650))
    key, secret = secrets.token_hex(4), secrets.token_urlsafe(24)
    made = Token(id=key, name=name or role, role=granted, hash=_hash(secret), created=created, expires=until)
    _write(root, [*_read(root), made])
    return f"mt_{key}_{secret}"


def list_tokens(root: Path) -> list[Token]:
    """The tokens of a studio, oldest first, without their secrets."""
    return _read(root)


def revoke_token(root: Path, key: str) -> Token:
    """Take a token back by its id; it holds no longer from the next request on.

    Raises:
        UnknownNameError: If there is none with that id.
    """
    kept = _read(root)
    gone = next((t for t in kept if t.id == key), None)
    if gone is None:
        raise UnknownNameError("token", key, [t.id for t in kept])
    _write(root, [t for t in kept if t.id != key])
    return gone


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _read(root: Path) -> list[Token]:
    path = root / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File).tokens
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        raise StorageError(f"{FILE} cannot be read ({error}), must be as `matinee token` wrote it") from error


def _write(root: Path, tokens: list[Token]) -> None:
    """Whole or not at all, and readable by its owner only."""
    path = root / FILE
    fresh = path.with_suffix(f".{os.getpid()}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(_File(tokens))))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


class Guardian:
    """Says whom a request comes from. Reads the token file again whenever it has changed, so a revoked token is out.

    A studio that never had a token is open: everybody who reaches the service is an operator. That is for one's own
    machine, so an open service answers the loopback only, and only requests addressed to it by a loopback name: a web
    page cannot reach it through a name of its own that resolves to this machine. Once there was a token it stays
    closed, also when the file is gone.

    Args:
        root: The studio's folder.
        hosts: Names by which the service may be addressed; with tokens and without names, any.
        every: Seconds between looks at the file.
    """

    def __init__(self, root: Path, *, hosts: Collection[str] = (), every: float = 1.0) -> None:
        self._root, self._path, self._every, self._looked = root, root / FILE, every, 0.0
        self._stamp: tuple[int, int] | None = None
        self._tokens: dict[str, Token] = {}
        self._named = {h.lower() for h in hosts}
        self.open = True
        self._look()

    def _look(self) -> None:
        """Read the file if it has changed, and not too often."""
        now = time.monotonic()
        if now - self._looked < self._every:
            return
        self._looked = now
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._tokens = None, {}
            return
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp != self._stamp:
            self.open = False
            self._tokens = {t.id: t for t in _read(self._root)}
            self._stamp = stamp

    def admit(self, scope: Scope, roles: Collection[str]) -> Caller:
        """Whom the request comes from, if they may ask for this.

        Raises:
            HttpError: 401 without a good token, 403 where the role does not reach or another site sends the request,
                421 for a host name that is not ours.
        """
        caller = self.identify(scope)
        if scope["method"] not in ("GET", "HEAD") and not same_origin(scope):
            text = "this came from a page of another site, must come from a program or from our own pages"
            raise HttpError(403, "other_site", text)
        if caller is None:
            text = "a token is missing, unknown or has expired, must be sent as 'Authorization: Bearer ...'"
            raise HttpError(401, "unauthorized", text, {"www-authenticate": 'Bearer realm="matinee"'})
        if caller.role not in roles:
            text = f"role == {caller.role!r}, must be {' or '.join(repr(r) for r in roles)} for this"
            raise HttpError(403, "forbidden", text)
        return caller

    def identify(self, scope: Scope) -> Caller | None:
        """Whom the request comes from; None for nobody known.

        Raises:
            HttpError: 421 for a host name that is not ours, 403 for another machine while nobody needs a token.
        """
        self._look()
        if not self.open:
            self._check_host(scope, self._named)
            found = self._find(_sent_token(header(scope, b"authorization")))
            return None if found is None else Caller(found.name, found.role)
        self._check_host(scope, {*LOOPBACK, *self._named})
        client = scope.get("client")  # a Unix socket has none, and is on this machine
        if client is not None and not _is_loopback(client[0]):
            text = "this studio has no tokens and answers its own machine only; make one with `matinee token`"
            raise HttpError(403, "no_tokens", text)
        return Caller("local", "operator")

    def authenticate(self, request: Request) -> Caller | None:
        """The same for the console, which says so itself to somebody it does not know."""
        try:
            caller = self.identify(request.scope)
        except HttpError:
            return None
        return None if caller is None or caller.role == "service" else caller

    def _find(self, token: str) -> Token | None:
        kind, _, rest = token.partition("_")
        key, _, secret = rest.partition("_")
        entry = self._tokens.get(key)
        same = hmac.compare_digest(_hash(secret), _NOBODY if entry is None else entry.hash)
        return entry if same and kind == "mt" and entry is not None and utc_now() < entry.expires else None

    @staticmethod
    def _check_host(scope: Scope, names: Collection[str]) -> None:
        if not names:
            return
        name = _host_name(header(scope, b"host"))
        if name not in names:
            text = f"host == {name[:80]!r}, must be {' or '.join(sorted(names))}; the service's `hosts` may name others"
            raise HttpError(421, "wrong_host", text)


@lru_cache(64)
def _host_name(netloc: str) -> str:
    """The name in `name:port` or `[::1]:port`, in lower case; empty for what is neither."""
    try:
        return (urlsplit(f"//{netloc}").hostname or "").lower()
    except ValueError:
        return ""


@lru_cache(64)
def _is_loopback(address: str) -> bool:
    """True for a connection from this machine."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _sent_token(authorization: str) -> str:
    """The token of an Authorization header, Bearer or the password of Basic; empty where there is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def same_origin(scope: Scope) -> bool:
    """False for a request that a browser sends on behalf of a page of another site.

    Programs send neither `Origin` nor `Sec-Fetch-Site`; a browser sends one of them with every state-changing request,
    and a page cannot forge them.
    """
    if header(scope, b"sec-fetch-site") not in ("", "same-origin", "none"):
        return False
    origin = header(scope, b"origin")
    return not origin or origin.partition("://")[2].lower() == header(scope, b"host").lower()
