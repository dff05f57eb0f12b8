"""Templates, the filters they use, and the one function that prints a page model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request

from matinee.console import charts, formats, posters
from matinee.console.pages import Arm, ChoicePage, EvidenceRow, MemberPage, Shell
from matinee.console.shown import ItemPage, PagePreview

VENDOR = {
    "htmx": "htmx-4.0.1.min.js",
    "vega": "vega-6.4.0.min.js",
    "vega_lite": "vega-lite-6.4.3.min.js",
    "vega_embed": "vega-embed-7.3.0.min.js",
}
MODES = (
    ("decide", "Matinee decides", "judged by experiments and off-policy"),
    ("advise", "People decide, with advice", "judged by whether its ranges hold"),
    ("plan", "A solver drafts, people publish", "judged by its bill and by a proven bound"),
)
_EMPTY_CARDS = (
    "Your first title",
    "A film you bought",
    "A series you made",
    "Something borrowed",
    "Leaving soon",
    "The one they finish",
)


def render(template: str, page: Any, shell: Shell, *, request: Request, base: str, csrf: str, current: str = "") -> str:
    """Print a page model with what stands around it.

    Args:
        template: File name; it ends in `.html`, which is what switches escaping on.
        page: The model.
        shell: Studio, navigation, lamps.
        request: For its address: the JSON twin and links to the same page with another slot.
        base: Prefix under which the console is mounted, without a slash at its end.
        csrf: Token for forms.
        current: Path of the navigation entry that is lit.
    """
    address = request.url
    path = address.path if address.path != f"{base}/" else f"{base}/"
    twin = f"{path}.json" + (f"?{address.query}" if address.query else "")
    pairs = [(k, v) for k, v in request.query_params.multi_items() if v]

    def here_with(**changes: object) -> str:
        kept = [(k, v) for k, v in pairs if k not in changes]
        return f"{path}?{urlencode([*kept, *((k, str(v)) for k, v in changes.items())])}"

    return (
        environment()
        .get_template(template)
        .render(
            page=page,
            shell=shell,
            base=base,
            csrf=csrf,
            current=current,
            twin=twin,
            query=request.query_params.get("q", ""),
            here_with=here_with,
            posters=_cards(page),
        )
    )


@cache
def environment() -> Environment:
    """The templates, with escaping on, undefined names as errors, and NaN written as null."""
    env = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.policies["json.dumps_function"] = _dumps
    env.filters.update(
        {
            "value": formats.value_text,
            "interval": formats.interval_text,
            "percent": formats.percent,
            "chance": formats.chance,
            "count": formats.count,
            "moment": formats.moment,
            "rich": formats.rich,
            "signed": formats.signed,
            "clip": formats.clip,
            "plural": formats.plural,
            "article": formats.article,
            "in_words": formats.in_words,
            "capitalize_first": formats.capitalize_first,
            "short_version": lambda name: re.sub(r"@([0-9a-f]{6})[0-9a-f]{2,}$", r"@\1", name),
            "query": lambda fields: urlencode(fields),
            "window": lambda w: formats.capitalize_first(formats.window(w.starts, w.ends)),
            "short_uri": lambda uri: uri.partition("://")[2],
            "kept_share": lambda left: f"{formats.percent(1 - left)} of candidates",
        }
    )
    env.globals.update(
        {
            "scale": formats.scale,
            "whisker": formats.whisker,
            "sparks": formats.spark,
            "symbols": posters.symbols,
            "arms_reference": arms_reference,
            "evidence_reference": evidence_reference,
            "modes": MODES,
            "vendor": {**VENDOR, "version": version("matinee")},
            "houses": {"light": charts.config("light"), "dark": charts.config("dark")},
            "empty_cards": [posters.poster(name, name) for name in _EMPTY_CARDS],
        }
    )
    return env


def load_templates() -> None:
    """Compile every template now, instead of each with its first page."""
    for name in environment().list_templates(["html"]):
        environment().get_template(name)


def _dumps(value: Any, **_: Any) -> str:
    """JSON for a page: what is not a number becomes null, which a chart shows as a gap."""
    return msgspec.json.encode(value).decode()


def arms_reference(arms: Iterable[Arm]) -> float | None:
    """What the whiskers of the arms are compared with: the baseline's value, when there is one."""
    return next((a.value.value for a in arms if a.value.baseline), None)


def evidence_reference(rows: Iterable[EvidenceRow]) -> float | None:
    """Zero when the evidence is of differences; nothing for values, which need not be near zero."""
    return 0.0 if any(r.value.signed for r in rows) else None


def _cards(page: Any) -> dict[str, posters.Poster]:
    shown: list[Any] = []
    if isinstance(page, MemberPage) and page.preview is not None and page.preview.as_posters:
        shown = [*page.preview.slots, *page.preview.kept_out]
    elif isinstance(page, ChoicePage) and page.as_posters:
        shown = [*page.slots]
    elif isinstance(page, PagePreview) and page.as_posters:
        shown = [card for side in page.sides for row in side.rows for card in row.cards]
        shown += [one for side in page.sides[:1] for guard in side.guards for one in guard.examples]
    elif isinstance(page, ItemPage) and page.as_posters:
        shown = [page, *page.similar]
    return {one.id: posters.poster(one.id, one.name, one.kind) for one in shown}
