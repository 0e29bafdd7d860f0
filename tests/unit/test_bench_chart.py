"""Charts: everything that is asked for is drawn, inside the picture, and no text breaks the document."""

import re
from xml.etree import ElementTree as ET

import pytest

from tympan.bench.chart import HEIGHT, WIDTH, Axis, Chart, Point, Series, number, steps_of, svg

SPACE = "{http://www.w3.org/2000/svg}"


def _chart(*series: Series, x: Axis | None = None, y: Axis | None = None) -> Chart:
    return Chart("Title", x or Axis("x"), y or Axis("y"), series, "below")


def _drawn(chart: Chart) -> ET.Element:
    return ET.fromstring(svg(chart))  # noqa: S314 (of our own making)


def _texts(root: ET.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SPACE}text")]


def test_every_point_and_name_is_drawn() -> None:
    """Each point has a dot, each series a line and a name, and the axes say what they are."""
    root = _drawn(_chart(Series("a", (Point(1, 1), Point(2, 4))), Series("b", (Point(1, 2), Point(2, 3)))))
    assert len(list(root.iter(f"{SPACE}circle"))) == 4
    assert len(list(root.iter(f"{SPACE}polyline"))) == 2
    assert {"Title", "below", "x", "y", "a", "b"} <= set(_texts(root))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [(0.001, 0.0011), (5.0, 5.0), (0.01, 9_000.0), (97.3, 104.2)])
def test_dots_stay_inside_and_axes_have_ticks(values: tuple[float, float], log: bool) -> None:  # noqa: FBT001
    """Whatever the range, dots lie inside the picture and at least two places of the side are named."""
    points = tuple(Point(n + 1.0, value) for n, value in enumerate(values))
    root = _drawn(_chart(Series("a", points), y=Axis("y", log=log)))
    for dot in root.iter(f"{SPACE}circle"):
        assert 0 < float(dot.attrib["cx"]) < WIDTH
        assert 0 < float(dot.attrib["cy"]) < HEIGHT
    named = [text for text in root.iter(f"{SPACE}text") if text.attrib["text-anchor"] == "end"]
    assert len(named) >= 2


def test_more_is_higher() -> None:
    """A greater value is drawn nearer to the top, on either kind of axis."""
    for log in (False, True):
        root = _drawn(_chart(Series("a", (Point(1, 1), Point(2, 10))), y=Axis("y", log=log)))
        low, high = (float(dot.attrib["cy"]) for dot in root.iter(f"{SPACE}circle"))
        assert high < low


def test_names_cannot_break_the_document() -> None:
    """Marks of the markup in a name are shown, not obeyed."""
    root = _drawn(_chart(Series("<b> & co", (Point(1, 1, label="<script>"),)), Series("z", (Point(2, 2),))))
    assert {"<b> & co", "<script>"} <= set(_texts(root))
    assert not list(root.iter(f"{SPACE}script"))


def test_series_beyond_the_colours_are_counted() -> None:
    """Ten series are eight and "2 more"; nothing is left out in silence."""
    root = _drawn(_chart(*(Series(f"s{n}", (Point(1, n + 1.0),)) for n in range(10))))
    assert "and 2 more" in _texts(root)


def test_labels_do_not_cover_one_another() -> None:
    """Labels of dots at one place are moved apart."""
    root = _drawn(_chart(Series("a", tuple(Point(1.0, 5.0, label=f"name {n}") for n in range(3)))))
    heights = [float(t.attrib["y"]) for t in root.iter(f"{SPACE}text") if re.fullmatch(r"name \d", t.text or "")]
    assert len({round(height) for height in heights}) == 3


def test_ranges_are_drawn_behind_their_dots() -> None:
    """A value that was measured several times shows from where to where."""
    with_range = svg(_chart(Series("a", (Point(1, 2, 1.0, 3.0),))))
    assert (
        with_range.count("<line") == svg(_chart(Series("a", (Point(1, 2, 1.0, 1.0), Point(1, 3))))).count("<line") + 1
    )


def test_nothing_to_draw_is_refused() -> None:
    """An empty chart is a mistake of the caller."""
    with pytest.raises(ValueError, match="point"):
        svg(_chart(Series("a", ())))


@pytest.mark.parametrize(
    ("value", "text"), [(0.05, "0.05"), (1234.0, "1,234"), (2e7, "2e7"), (0.0, "0"), (2.5, "2.5"), (1e-5, "1e-5")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    """Ticks read as people write them."""
    assert number(value) == text


def test_a_distribution_rises_to_all() -> None:
    """The last value has everything at or below it."""
    assert steps_of([3.0, 1.0]) == ((1.0, 0.5), (3.0, 1.0))
