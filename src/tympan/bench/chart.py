"""Charts as SVG: lines and dots over linear or logarithmic axes. Pure; no library, no font file, no script.

Colours are Okabe and Ito's eight, which people with any colour vision can tell apart (jfly.uni-koeln.de/color).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 420

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B6B6B", "#B8A900")
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 24, 64, 58
_LEGEND_WIDTH = 200
_INK, _MUTED, _GRID = "#1f2328", "#59636e", "#e3e6ea"
_FONT = "-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif"
_MAX_SERIES = len(_COLOURS)
_CHARACTER = 6.2
_STEPS, _FINE_STEPS = (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
_FINE_SPAN, _HEADROOM = 10.0, 1.04


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a place, with its range where it was measured more than once, and a name where it needs one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one colour, joined by a line or not."""

    name: str
    points: tuple[Point, ...]
    joined: bool = True
    marked: bool = True


@dataclass(frozen=True, slots=True)
class Axis:
    """What is along a side; ``ticks`` are the places that are named, else round ones are chosen."""

    label: str
    log: bool = False
    ticks: tuple[float, ...] = ()
    from_zero: bool = True


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture. At most eight series have a colour of their own; further ones are left out and counted."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    subtitle: str = ""


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    begin: float
    end: float
    log: bool
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Return where ``value`` is drawn."""
        place, low, high = (math.log(v) if self.log else v for v in (value, self.low, self.high))
        return self.begin + (self.end - self.begin) * (place - low) / (high - low)


def svg(chart: Chart) -> str:
    """Return the chart as an SVG document; raises ``ValueError`` when there is nothing to draw."""
    shown = chart.series[:_MAX_SERIES]
    points = [point for series in shown for point in series.points]
    if not points:
        raise ValueError("A chart needs a point.")
    right = WIDTH - _RIGHT - (_LEGEND_WIDTH if len(shown) > 1 else 0)
    x = _scale(chart.x, [p.x for p in points], _LEFT, right)
    y_values = [value for p in points for value in (p.y, p.low, p.high) if value is not None]
    y = _scale(chart.y, y_values, HEIGHT - _BOTTOM, _TOP)
    left_out = len(chart.series) - len(shown)
    parts = [
        *_frame(chart, x, y),
        *(part for n, series in enumerate(shown) for part in _drawn(series, _COLOURS[n], x, y)),
        *_labels(shown, x, y),
        *(_legend(shown, left_out, right) if len(shown) > 1 else ()),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" font-family="{_FONT}" font-size="12" fill="{_INK}">'
    )
    title = f"<title>{escape(chart.title)}</title>"
    paper = f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#ffffff"/>'
    return "\n".join([head, title, paper, *parts, "</svg>"]) + "\n"


def _scale(axis: Axis, values: Sequence[float], begin: float, end: float) -> _Scale:
    low, high = min(values), max(values)
    if axis.log:
        return _log_scale(axis, low, high, begin, end)
    low = min(low, 0.0) if axis.from_zero else low
    if high <= low:
        high = low + (abs(low) or 1.0)
    if axis.ticks:
        ticks = axis.ticks
        margin = 0.04 * (high - low)
        return _Scale(low - (0.0 if axis.from_zero else margin), high + margin, begin, end, log=False, ticks=ticks)
    step = _step((high - low) / 5.0)
    first, last = math.floor(low / step), math.ceil(high * _HEADROOM / step - 1e-9)
    ticks = tuple(n * step for n in range(first, last + 1))
    return _Scale(ticks[0], ticks[-1], begin, end, log=False, ticks=ticks)


def _log_scale(axis: Axis, low: float, high: float, begin: float, end: float) -> _Scale:
    pad = (high / low) ** 0.06 if high > low else 1.5
    low, high = low / pad, high * pad
    if axis.ticks:
        return _Scale(low, high, begin, end, log=True, ticks=axis.ticks)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**n for n in decades for step in (_STEPS if high / low > _FINE_SPAN else _FINE_STEPS)]
    inside = tuple(tick for tick in ticks if low <= tick <= high)
    if len(inside) < 2:  # Less than from one round number to the next: take both of them in.
        below, above = max(t for t in ticks if t <= low), min(t for t in [*ticks, 10.0 * ticks[-1]] if t >= high)
        return _Scale(below, above, begin, end, log=True, ticks=(below, *inside, above))
    return _Scale(low, high, begin, end, log=True, ticks=inside)


def _step(rough: float) -> float:
    """Return the round number nearest above ``rough``: 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * power >= rough * (1 - 1e-9))


def number(value: float) -> str:
    """Return a tick's number as short as it can be read."""
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:,.10g}" if abs(value) >= 1000 else f"{value:.4g}"


def _frame(chart: Chart, x: _Scale, y: _Scale) -> list[str]:
    """Return title, grid, ticks and the names of the axes."""
    parts = [_text(_LEFT, 28, chart.title, size=16, weight=600), _text(_LEFT, 47, chart.subtitle, colour=_MUTED)]
    for tick in y.ticks:
        at = y.at(tick)
        parts.append(_line((x.begin, at), (x.end, at), _GRID))
        parts.append(_text(x.begin - 8, at + 4, number(tick), anchor="end", colour=_MUTED))
    for tick in x.ticks:
        at = x.at(tick)
        parts.append(_line((at, y.begin), (at, y.begin + 4), _MUTED))
        parts.append(_text(at, y.begin + 18, number(tick), anchor="middle", colour=_MUTED))
    parts.append(_line((x.begin, y.begin), (x.end, y.begin), _MUTED))
    parts.append(_text((x.begin + x.end) / 2, HEIGHT - 16, chart.x.label, anchor="middle"))
    middle = (y.begin + y.end) / 2
    parts.append(_text(20, middle, chart.y.label, anchor="middle", turn=True))
    return parts


def _drawn(series: Series, colour: str, x: _Scale, y: _Scale) -> list[str]:
    places = [(x.at(p.x), y.at(p.y), p) for p in series.points]
    parts = []
    if series.joined and len(places) > 1:
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py, _ in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for px, _, point in places:
        if point.low is not None and point.high is not None and point.high > point.low:
            parts.append(_line((px, y.at(point.low)), (px, y.at(point.high)), colour, width=1.5))
    if series.marked:
        parts += [
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{colour}" stroke="#ffffff" stroke-width="1.2"/>'
            for px, py, _ in places
        ]
    return parts


def _labels(shown: Sequence[Series], x: _Scale, y: _Scale) -> list[str]:
    """Return the names of points, each moved up until it covers none of those before it."""
    taken: list[tuple[float, float, float]] = []
    parts = []
    for point in (point for series in shown for point in series.points if point.label):
        px, py, width = x.at(point.x), y.at(point.y) - 9, _CHARACTER * len(point.label)
        left = min(max(px - width / 2, x.begin + 2), x.end - width)
        while any(abs(py - b) < 13 and left < c + d and c < left + width for c, d, b in taken) and py > _TOP + 8:
            py -= 13
        taken.append((left, width, py))
        parts.append(_text(left, py, point.label, size=11, colour=_MUTED, halo=True))
    return parts


def _legend(shown: Sequence[Series], left_out: int, right: float) -> list[str]:
    at, parts = right + 18.0, []
    for n, series in enumerate(shown):
        top = _TOP + 8 + 20 * n
        parts.append(f'<rect x="{at}" y="{top - 9}" width="14" height="10" rx="2" fill="{_COLOURS[n]}"/>')
        parts.append(_text(at + 20, top, _shortened(series.name)))
    if left_out:
        parts.append(_text(at, _TOP + 8 + 20 * len(shown), f"and {left_out} more", colour=_MUTED))
    return parts


def _shortened(name: str) -> str:
    most = int((_LEGEND_WIDTH - 24) / _CHARACTER)
    return name if len(name) <= most else name[: most - 1] + "…"


def _line(begin: tuple[float, float], end: tuple[float, float], colour: str, width: float = 1.0) -> str:
    (x1, y1), (x2, y2) = begin, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, **look: object) -> str:
    colour, anchor = look.get("colour", _INK), look.get("anchor", "start")
    halo = ' stroke="#ffffff" stroke-width="3" paint-order="stroke"' if look.get("halo") else ""
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if look.get("turn") else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-size="{look.get("size", 12)}" '
        f'font-weight="{look.get("weight", 400)}"{halo}{turn}>{escape(text)}</text>'
    )


def steps_of(values: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Return the points of the cumulative distribution of ``values``: each value with the share at or below it."""
    ordered = sorted(values)
    return tuple((value, (n + 1) / len(ordered)) for n, value in enumerate(ordered))
