"""Typographic posters: two inks, one spot, one of sixteen flat shapes, chosen by a hash of the title's id.

Titles of one kind, such as a genre, share a family of shapes: a row of westerns looks like one.

The name is text, so it is read aloud, found on the page and translated; it takes the upper part of the card at the
largest size that fits. The shapes are SVG symbols, written once a page and coloured by the palette of the card that
uses them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b

from markupsafe import Markup

# Advance widths of the display face at weight 650 and 28 px, in hundredths of an em; what is not listed counts as 45.
_WIDTHS = {
    char: width
    for width, chars in {
        18: " ,.'’!|",
        25: "iljf:;()íì",
        31: "1t-/sI",
        36: "crvyxz27STLVAJEZ?é",
        41: "abdegkopqu03456789BCDFGKNOPQUXYáàäöóü",
        46: "hnHRñ&",
        59: "mwMW%#–",
    }.items()
    for char in chars
}
_SIZES = (28.0, 24.0, 22.0, 20.5, 19.0, 17.5, 15.0, 13.0, 11.0)  # in cqw: hundredths of the card's width
_LINE, _WIDE, _HIGH = 0.94, 86.0, 57.0  # line height in em; the width and the height the name may take, in cqw
PALETTES = 10
FAMILY = 4  # shapes that titles of one kind share


@dataclass(frozen=True, slots=True)
class Poster:
    """A card drawn from a title's name.

    Attributes:
        name: What is written on it.
        shape: Name of its symbol.
        palette: 1 to 10, a class `k1` to `k10`.
        setting: "top", "caps" (capitals) or "mid" (across the middle).
        size: Type size in hundredths of the card's width.
    """

    name: str
    shape: str
    palette: int
    setting: str
    size: float


def poster(key: object, name: str, kind: str = "") -> Poster:
    """The card of a title, always the same for the same id and kind.

    Args:
        key: Its id.
        name: What is written on it.
        kind: What the title is most, such as its first genre: one of the kind's family of shapes is taken then.

    Example:
        >>> poster(7, "Glass Harbour") == poster("7", "Glass Harbour")
        True
    """
    digest = blake2b(str(key).encode(), digest_size=4).digest()
    shapes = family(kind) if kind else tuple(SHAPES)
    shape = shapes[digest[0] % len(shapes)]
    words = name.split()
    caps = digest[2] % 5 == 0 and len(words) <= 3 and len(name) <= 18
    setting = "mid" if shape == "curtains" else "caps" if caps else "top"
    # The curtains leave paper only in the middle: a name in capitals would not fit between them.
    return Poster(name, shape, digest[1] % PALETTES + 1, setting, fit(name.upper() if caps else name))


def family(kind: str) -> tuple[str, ...]:
    """The shapes of one kind of title: four of the sixteen, the same for the same kind.

    Example:
        >>> family("Western") == family("Western"), len(set(family("Western")))
        (True, 4)
    """
    return tuple(sorted(SHAPES, key=lambda shape: blake2b(f"{kind}/{shape}".encode(), digest_size=4).digest())[:FAMILY])


def _width(text: str) -> float:
    # Capitals are set heavier and a little apart.
    wider = 1.1 if text.isupper() else 1.0
    return wider * sum(_WIDTHS.get(char, 45) for char in text) / 100


def lines(name: str, size: float) -> int:
    """How many lines the name takes at that size; words that are too long for the card are broken."""
    room, used, rows = _WIDE / size, 0.0, 1
    for word in name.split():
        wide = _width(word)
        if wide > room:
            return 99
        needed = wide if used == 0 else used + 0.18 + wide
        if needed > room:
            rows, used = rows + 1, wide
        else:
            used = needed
    return rows


def fit(name: str) -> float:
    """The largest type size, in hundredths of the card's width, at which the name keeps to the upper part.

    Example:
        >>> fit("Glass Harbour"), fit("The Cartographer’s Wife") < 20
        (28.0, True)
    """
    for size in _SIZES:
        if lines(name, size) * size * _LINE <= _HIGH:
            return size
    return _SIZES[-1]


# --------------------------------------------------------------------------------- shapes, in a box of 200 by 300
# Class a is the ink, b the spot, p the paper. Each starts below the name.


def _rect(kind: str, x: float, y: float, w: float, h: float, opacity: float = 1.0) -> str:
    faint = f' opacity="{opacity:g}"' if opacity < 1 else ""
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}"{faint}/>'


def _disc(kind: str, x: float, y: float, r: float, opacity: float = 1.0) -> str:
    faint = f' opacity="{opacity:g}"' if opacity < 1 else ""
    return f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{r:g}"{faint}/>'


def _path(kind: str, d: str) -> str:
    return f'<path class="{kind}" d="{d}"/>'


def _lighthouse() -> str:
    stripes = "".join(_rect("p", 40, y, 56, 14) for y in (196, 232, 268))
    tower = _path("a", "M44 300L55 176H77L88 300Z") + stripes
    return (
        _path("b", "M66 150L200 118V214Z")
        + tower
        + _path("a", "M52 174V150H80V174Z M50 148L66 130L82 148Z")
        + _disc("b", 66, 162, 8)
    )


def _waves() -> str:
    parts = []
    for row, y in enumerate(range(168, 313, 24)):
        kind = "b" if row == 2 else "a"
        for column in range(7):
            x = column * 36 - (18 if row % 2 == 0 else 0)
            parts.append(_disc("p", x, y, 19))
            parts.append(
                f'<path class="{kind}" fill-rule="evenodd" d="M{x - 18} {y}a18 18 0 0 1 36 0h-7a11 11 0 0 0 -22 0Z '
                f'M{x - 5} {y}a5 5 0 0 1 10 0Z"/>'
            )
    return "".join(parts)


def _arch() -> str:
    spans = (("a", 28, 206, 72), ("p", 52, 208, 48), ("a", 73, 210, 27), ("b", 88, 214, 12))
    return "".join(_path(k, f"M{x} 300V{y}a{r} {r} 0 0 1 {2 * r} 0V300Z") for k, x, y, r in spans)


def _rain() -> str:
    widths = (200, 164, 188, 120, 150, 96, 176, 64, 140)
    return "".join(_rect("b" if i == 5 else "a", 0, 146 + 17 * i, w, 10) for i, w in enumerate(widths))


def _windows() -> str:
    lit = {(1, 3), (3, 1)}
    cells = [
        _rect("b", 16 + 35 * c, 150 + 31 * r, 24, 20)
        if (r, c) in lit
        else _rect("p", 16 + 35 * c, 150 + 31 * r, 24, 20, 0.16)
        for r in range(5)
        for c in range(5)
    ]
    return _rect("a", 0, 136, 200, 164) + "".join(cells)


def _rings() -> str:
    rings = "".join(_disc("ap"[i % 2], 150, 256, r) for i, r in enumerate(range(126, 20, -15)))
    return rings + _disc("b", 150, 256, 13)


def _slopes() -> str:
    return _path("a", "M0 300V186L200 136V300Z") + _path("b", "M0 300V250L200 166V210Z")


def _halves() -> str:
    return _rect("a", 100, 136, 100, 164) + _disc("b", 100, 218, 50) + _path("p", "M100 168a50 50 0 0 1 0 100Z")


def _sunset() -> str:
    bars = "".join(_rect("p", 0, 214 + 12.4 * i, 200, 2.5 + 1.6 * i) for i in range(7))
    return _disc("b", 100, 216, 70) + bars


def _track() -> str:
    parts = [_path("a", "M96 152H104L170 300H30Z"), _path("p", "M99 152H101L148 300H52Z")]
    y, gap, height = 164.0, 7.0, 2.0
    for _ in range(8):
        half = 16.7 + (y - 164) * 0.72
        parts.append(_rect("a", round(100 - half, 1), round(y, 1), round(2 * half, 1), round(height, 1)))
        y, gap, height = y + gap, gap + 3.5, height + 1.36
    return "".join(parts) + _disc("b", 100, 140, 12)


def _moon() -> str:
    stars = ((46, 262, 3.4), (70, 222, 2.2), (176, 140, 2.8), (28, 196, 2.0), (92, 278, 2.0))
    return _disc("b", 120, 216, 72) + _disc("p", 92, 202, 66) + "".join(_disc("a", x, y, r) for x, y, r in stars)


def _stairs() -> str:
    steps = ((25 * i, max(276 - 24 * i, 126)) for i in range(8))
    return "".join(
        _rect("b" if i == 6 else "a", x, y, 25, 300 - y, 0.55 if i % 2 else 1.0) for i, (x, y) in enumerate(steps)
    )


def _curtains() -> str:
    left = ((0, 26, "a"), (34, 18, "a"), (57, 12, "b"), (72, 8, "a"))
    both = [_rect(k, x, 0, w, 300) + _rect(k, 200 - x - w, 0, w, 300) for x, w, k in left]
    return "".join(both)


def _bulbs() -> str:
    cells = []
    for r in range(8):
        for c in range(8):
            dim = (3 * r + c) % 7 == 0
            cells.append(_disc("a" if dim else "b", 19 + 23 * c, 140 + 21 * r, 6.4, 0.28 if dim else 1.0))
    return "".join(cells)


def _floor() -> str:
    tiles = []
    rows = (150.0, 157.4, 173.6, 198.6, 232.0, 275.0, 321.2)
    spread = (1.0, 1.22, 1.71, 2.46, 3.47, 4.77, 6.17)
    for r in range(6):
        for c in range(-7, 7):
            if (r * 5 + c * 3) % 11 == 0:
                continue
            near = [100 + (14 * (c + d)) * spread[r] + 1 for d in (0, 1)]
            far = [100 + (14 * (c + d)) * spread[r + 1] + 1 for d in (0, 1)]
            if min(near[0], far[0]) > 200 or max(near[1], far[1]) < 0:
                continue
            kind = "b" if (r * 7 + c * 5) % 9 == 0 else "a"
            top, bottom = rows[r] + 1, rows[r + 1] - 1
            tiles.append(
                _path(
                    kind,
                    f"M{near[0]:.1f} {top:g}H{near[1] - 2:.1f}L{far[1] - 2:.1f} {bottom:g}H{far[0]:.1f}Z",
                )
            )
    return "".join(tiles)


def _eye() -> str:
    return _path("a", "M0 218Q100 122 200 218Q100 314 0 218Z") + _disc("p", 100, 218, 38) + _disc("b", 100, 218, 23)


SHAPES: dict[str, Callable[[], str]] = {
    "lighthouse": _lighthouse,
    "waves": _waves,
    "arch": _arch,
    "rain": _rain,
    "windows": _windows,
    "rings": _rings,
    "slopes": _slopes,
    "halves": _halves,
    "sunset": _sunset,
    "track": _track,
    "moon": _moon,
    "stairs": _stairs,
    "curtains": _curtains,
    "bulbs": _bulbs,
    "floor": _floor,
    "eye": _eye,
}


def symbols(posters: Iterable[Poster]) -> Markup:
    """The shapes these posters use, as SVG symbols with ids `shape-NAME`, to be written once a page."""
    used = sorted({p.shape for p in posters})
    body = "".join(
        f'<symbol id="shape-{name}" class="shape" viewBox="0 0 200 300" preserveAspectRatio="xMidYMax slice">'
        f"{SHAPES[name]()}</symbol>"
        for name in used
    )
    return Markup(f'<svg class="vh" aria-hidden="true" focusable="false">{body}</svg>') if used else Markup("")
