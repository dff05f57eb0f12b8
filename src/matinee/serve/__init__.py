"""The HTTP service: decide, outcome, online features, health, metrics; and the console beside them.

serve(studio)                                  # one process, loopback, until stopped
app = create_app(studio)                       # the same as an ASGI application, for a server of one's own
make_token(studio.root, "service", name="player")
"""

from __future__ import annotations

from matinee.serve.app import create_app
from matinee.serve.auth import Token, list_tokens, make_token, revoke_token, same_origin
from matinee.serve.server import serve
from matinee.serve.settings import ServeSettings

__all__ = [
    "ServeSettings",
    "Token",
    "create_app",
    "list_tokens",
    "make_token",
    "revoke_token",
    "same_origin",
    "serve",
]
