"""The OpenAPI page, generated from the types that decode and encode the bodies: it cannot drift from them."""

from __future__ import annotations

from typing import Any

import msgspec

from matinee.serve.bodies import (
    ChoiceReply,
    DecideBody,
    FeaturesReply,
    HealthReply,
    OutcomeBody,
    OutcomeReply,
    OutcomesReply,
)
from matinee.serve.errors import ErrorBody

_TYPES = (DecideBody, ChoiceReply, OutcomeBody, OutcomeReply, OutcomesReply, FeaturesReply, HealthReply, ErrorBody)
_ERRORS = {
    "400": "The body is no JSON of this form; the message names the place.",
    "401": "No token, an unknown one, or one that has expired.",
    "403": "The token's role does not reach this.",
    "404": "No such name; the message names what there is.",
    "413": "The body is too long.",
    "422": "Well-formed, but not possible; the message says what would be.",
    "503": "Overloaded, loading, draining, or the storage does not answer: wait `Retry-After` seconds.",
}


def openapi(version: str) -> dict[str, Any]:
    """The document, OpenAPI 3.1.

    Example:
        >>> sorted(openapi("0.1.0")["paths"])[0]
        '/decide/{decision}'
    """
    refs, components = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    schema = dict(zip(_TYPES, refs))
    one_or_many = {"oneOf": [schema[OutcomeBody], {"type": "array", "items": schema[OutcomeBody]}]}
    recorded = {"200": _body("Recorded.", {"oneOf": [schema[OutcomeReply], schema[OutcomesReply]]})}
    several = {"207": _body("Some were not recorded.", schema[OutcomesReply])}
    error = schema[ErrorBody]
    decide = _operation("decide", "Choose within the guards and log the choice.", error, path=("decision",))
    decide |= {"requestBody": _request(schema[DecideBody])}
    decide["responses"] |= {"200": _body("The choice.", schema[ChoiceReply])}
    outcome = _operation("outcome", "Record a fact that answers a choice, or a list of them.", error)
    outcome |= {"requestBody": _request(one_or_many)}
    outcome["responses"] |= recorded | several
    features = _operation("features", "Online features of one key, as of now.", error, path=("name", "key"))
    features["responses"] |= {"200": _body("The features.", schema[FeaturesReply])}
    metrics = _operation("metrics", "Counters and latencies as Prometheus text.", error)
    metrics["responses"] |= {"200": {"description": "", "content": {"text/plain": {"schema": {"type": "string"}}}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Matinee", "version": version, "description": "Decide under guards, record what came of it."},
        "paths": {
            "/decide/{decision}": {"post": decide},
            "/outcome": {"post": outcome},
            "/features/{name}/{key}": {"get": features},
            "/health": {"get": _plain("health", "How this process is doing.", schema[HealthReply])},
            "/ready": {"get": _plain("ready", "200 when it may be sent requests, else 503.", schema[HealthReply])},
            "/metrics": {"get": metrics},
        },
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _body(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _request(schema: Any) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _operation(name: str, summary: str, error: Any, *, path: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [{"name": p, "in": "path", "required": True, "schema": {"type": "string"}} for p in path],
        "responses": {status: _body(text, error) for status, text in _ERRORS.items()},
    }


def _plain(name: str, summary: str, schema: Any) -> dict[str, Any]:
    replies = {"200": _body("Yes.", schema), "503": _body("Not now.", schema)}
    return {"operationId": name, "summary": summary, "responses": replies, "security": []}
