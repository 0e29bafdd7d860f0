"""The parts of Operate that count and draw, run in the browser: metrics, readings, scales, charts, and how it asks."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

METRICS = r"""
# HELP tympan_requests_total Requests.
# TYPE tympan_requests_total counter
tympan_requests_total{model="base",language="en"} 7
tympan_requests_total{model="a \"b\" \\ \n{c},d=\"e\"",language="de"} 3.5e1
tympan_queue_depth{lane="batch"} 4
tympan_idle 0 1700000000000
tympan_none NaN
tympan_seconds_bucket{way="x",le="0.1"} 2
tympan_seconds_bucket{way="x",le="1.0"} 8
tympan_seconds_bucket{way="x",le="+Inf"} 10
tympan_seconds_bucket{way="y",le="0.1"} 0
tympan_seconds_bucket{way="y",le="1.0"} 0
tympan_seconds_bucket{way="y",le="+Inf"} 0
tympan_seconds_sum{way="x"} 9.5
tympan_seconds_count{way="x"} 10
this is no sample
tympan_broken{ 1
"""


@pytest.fixture
def bare(page: Page) -> Page:
    """Return the page, from which its modules can be imported."""
    page.goto("/#/operate/capacity")
    expect(page.get_by_role("heading", name="Operate")).to_be_visible()
    return page


def run(page: Page, module: str, body: str, value: Any = None) -> Any:
    """Return what ``body`` returns; it sees the module's exports as ``m`` and ``value`` as ``v``."""
    script = f"async (v) => {{ const m = await import('/ui/js/operate/{module}.js'); {body} }}"
    return page.evaluate(script, value)


def test_metrics_are_read_with_labels_escapes_and_oddities(bare: Page) -> None:
    """What is no sample is left out; sums go over all labels but those asked for."""
    found = run(
        bare,
        "prometheus",
        """const f = m.parse(v);
        return {names: [...f.keys()], all: m.total(f, "tympan_requests_total"),
                en: m.total(f, "tympan_requests_total", {language: "en"}), none: m.total(f, "nothing"),
                by: {...m.by(f, "tympan_requests_total", "model")}, timed: m.total(f, "tympan_idle"),
                nan: Number.isNaN(m.total(f, "tympan_none"))}""",
        METRICS,
    )
    assert "this" not in found["names"]
    assert "tympan_broken" not in found["names"]
    assert (found["all"], found["en"], found["none"], found["timed"], found["nan"]) == (42, 7, None, 0, True)
    assert found["by"] == {"base": 7, 'a "b" \\ \n{c},d="e"': 35}


def test_percentiles_come_from_buckets(bare: Page) -> None:
    """Straight between bounds; what lies above the last bound counts as that bound, and an empty one has none."""
    found = run(
        bare,
        "prometheus",
        """const f = m.parse(v), h = m.histogram(f, "tympan_seconds"), x = m.histogram(f, "tympan_seconds", {way: "y"});
        return {h, p20: m.quantile(h, 0.2), p50: m.quantile(h, 0.5), p95: m.quantile(h, 0.95), none: m.quantile(x, 0.5),
                nothing: m.quantile(m.histogram(f, "nothing"), 0.5)}""",
        METRICS,
    )
    assert found["h"]["counts"] == [2, 8, 10]
    assert (found["h"]["sum"], found["h"]["count"]) == (9.5, 10)
    assert found["p20"] == pytest.approx(0.1)
    assert found["p50"] == pytest.approx(0.55)
    assert (found["p95"], found["none"], found["nothing"]) == (1, None, None)


def test_counters_that_began_anew_count_from_nothing(bare: Page) -> None:
    """So do counters and histograms that were not there before."""
    grown = "[m.growth(5, 8), m.growth(8, 3), m.growth(null, 4), m.growth(4, null)]"
    assert run(bare, "prometheus", f"return {grown}") == [3, 3, 4, 0]
    found = run(
        bare,
        "prometheus",
        """const h = (...counts) => ({bounds: [1, 2, Infinity], counts, sum: counts[2], count: counts[2]});
        return [m.gained(h(1, 2, 3), h(2, 5, 9)), m.gained(h(5, 9, 9), h(1, 1, 1)), m.gained(null, h(1, 1, 1)),
                m.gained(h(1, 1, 1), null)].map((each) => each && each.counts)""",
    )
    assert found == [[1, 3, 6], [1, 1, 1], [1, 1, 1], None]


_AT = """const metrics = await import('/ui/js/operate/prometheus.js');
const text = (n, process = 100) => `process_start_time_seconds ${process}
tympan_engines 2
tympan_batch_seconds_sum ${n}
tympan_requests_total{model="a",language="en"} ${n}
tympan_errors_total{model="a",language="en"} ${n / 4}
tympan_queue_depth{lane="batch"} 3
tympan_queued_audio_seconds{lane="batch"} 45.5
tympan_latency_seconds_bucket{model="a",le="1"} ${n}
tympan_latency_seconds_bucket{model="a",le="+Inf"} ${n}
tympan_latency_seconds_count{model="a"} ${n}
`;
const at = (time, n, process) => m.reading(metrics.parse(text(n, process)), time);
"""


def test_readings_become_rates_and_percentiles(bare: Page) -> None:
    """Nothing is known of the first one; then counters are rates over the last half minute, whatever came before."""
    first, second, later = run(
        bare,
        "readings",
        _AT
        + """const h = new m.History(), found = [h.add(at(0, 1000)), h.add(at(5, 1010))];
        for (let t = 10; t <= 120; t += 5) found.push(h.add(at(t, 1010)));
        return [found[0], found[1], found.at(-1)]""",
    )
    assert (first["busy"], first["requests"], first["error_share"], first["latency_p50"]) == (None, None, None, None)
    assert (second["busy"], second["requests"]) == (1, 2)
    assert (second["error_share"], second["latency_p50"]) == (0.25, 0.5)
    assert second["lanes"] == {"batch": {"windows": 3, "audio_s": 45.5}}
    assert (later["busy"], later["requests"], later["error_share"], later["latency_p50"]) == (0, 0, None, None)


def test_readings_of_several_processes_are_kept_apart(bare: Page) -> None:
    """Behind a load balancer they take turns; the counters of one say nothing about another. Old figures go."""
    found = run(
        bare,
        "readings",
        _AT
        + """const h = new m.History();
        const rates = [[0, 10, 1], [5, 5000, 2], [10, 20, 1], [15, 5010, 2]].map((each) => h.add(at(...each)).requests);
        const gap = [h.add(at(100, 30, 1)).requests, h.add(at(90, 31, 1)).requests];
        for (let process = 10; process < 30; process += 1) h.add(at(200, 1, process));
        for (let t = 300; t < 8000; t += 5) h.add(at(t, t, 29));
        return {rates, gap, processes: h.processes.length, kept: h.of(29).length, since: h.of(29, 7990).length}""",
    )
    assert found["rates"] == [None, None, 1, 1]
    assert found["gap"] == [None, None]
    assert found["processes"] == 8
    assert found["kept"] == 900
    assert found["since"] == 2


def test_ticks_are_round(bare: Page) -> None:
    """They hold all values, from zero to months; gaps in values are gaps in lines."""
    found = run(
        bare,
        "scales",
        """const day = 86400;
        return {tens: m.ticks(0, 87, 4), part: m.ticks(0, 0.013, 4), none: m.ticks(0, 0), one: m.ticks(0, 1, 4),
                minute: m.timeTicks(1000, 1300, 5).map((t) => t % 60), count: m.timeTicks(0, 400 * day, 6).length,
                place: m.linear(0, 10, 100, 0)(2.5), flat: m.linear(3, 3, 0, 1)(3),
                near: [m.nearest([1, 5, 9], 6), m.nearest([], 1)], runs: m.runs([1, null, 2, 3, NaN, 4]),
                stacked: m.stacked([[1, null], [2, 3]])}""",
    )
    assert found["tens"] == [0, 25, 50, 75, 100]
    assert found["part"] == [0, 0.005, 0.01, 0.015]
    assert found["none"][0] == 0
    assert len(found["none"]) > 1
    assert found["one"] == [0, 0.25, 0.5, 0.75, 1]
    assert found["minute"] == [0] * len(found["minute"])
    assert 0 < found["count"] <= 7
    assert (found["place"], found["flat"]) == (75, 0)
    assert found["near"] == [1, -1]
    assert found["runs"] == [[0], [2, 3], [5]]
    assert found["stacked"] == [[[0, 1], [0, 0]], [[1, 3], [0, 3]]]


def test_figures_are_written_for_people(bare: Page) -> None:
    """Short ones in smaller units, and a dash for what is not known."""
    found = run(
        bare,
        "units",
        """return [m.seconds(0.084), m.seconds(1.52), m.seconds(75), m.seconds(0), m.seconds(null), m.share(0.034),
        m.share(0.5), m.times(0.25), m.times(12.3), m.plain(0.0031), m.plain(3.46), m.plain(1234.5), m.plain(NaN),
        m.counted(1, "window"), m.counted(2, "window")]""",
    )
    assert found == [
        "84 ms", "1.5 s", "1 min 15 s", "0 s", "\u2013", "3.4 %", "50 %", "0.25\u00d7", "12\u00d7", "0.0031", "3.5",
        "1,235", "\u2013", "1 window", "2 windows",
    ]  # fmt: skip


_CHART = """const made = m.chart({title: "Waits", format: (x) => `${x} s`, series: [{name: "half", tone: 1},
  {name: "<b>most</b>", tone: 2, dash: "4 4"}]});
document.getElementById("view").replaceChildren(made.node);
const xs = Array.from({length: 50}, (_, i) => 1700000000 + i * 60);
made.show({xs, rows: [xs.map((_, i) => i), xs.map((_, i) => (i === 10 ? null : 2 * i))],
           bands: [xs.map((_, i) => [i - 1, i + 1]), []]});"""


def test_a_chart_is_read_with_the_arrow_keys_and_as_a_table(bare: Page) -> None:
    """Each moment is told in words; names are text, and the drawing follows the width of the page."""
    run(bare, "charts", _CHART)
    plot = bare.get_by_role("slider", name="Waits: choose a moment")
    expect(plot).to_have_attribute("aria-valuenow", "49")
    plot.focus()
    for key in ("ArrowLeft", "PageDown"):
        plot.press(key)
    expect(plot).to_have_attribute("aria-valuenow", "38")
    assert str(plot.get_attribute("aria-valuetext")).endswith("half 38 s (37 s to 39 s), <b>most</b> 76 s")
    expect(bare.locator(".legend")).to_contain_text("38 s (37 s to 39 s)")
    expect(bare.locator(".legend")).to_contain_text("<b>most</b>")
    plot.press("Home")
    expect(plot).to_have_attribute("aria-valuenow", "0")
    assert bare.locator(".plot path.line").count() == 2
    assert bare.locator(".plot path.band").count() == 1
    bare.get_by_text("As a table").click()
    rows = bare.get_by_role("region", name="Waits, table").get_by_role("row")
    assert rows.count() == 51
    expect(rows.nth(1)).to_contain_text("98 s")
    expect(bare.locator(".chart .unseen")).to_contain_text("half: last 49 s, lowest 0 s, highest 49 s.")
    wide = int(str(bare.locator(".plot svg").get_attribute("width")))
    bare.set_viewport_size({"width": 400, "height": 800})
    narrower = "(wide) => Number(document.querySelector('.plot svg').getAttribute('width')) < wide"
    bare.wait_for_function(narrower, arg=wide)


def test_a_chosen_moment_stays_while_newer_ones_come(bare: Page) -> None:
    """The pointer shows it, too; without data there are words in its place."""
    run(bare, "charts", _CHART + "window.made = made; window.xs = xs;")
    plot = bare.get_by_role("slider")
    box = plot.bounding_box()
    assert box is not None
    bare.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    chosen = int(str(plot.get_attribute("aria-valuenow")))
    assert 20 < chosen < 30
    bare.evaluate("() => { const xs = window.xs.slice(5); made.show({xs, rows: [xs.map(() => 1), xs.map(() => 2)]}) }")
    expect(plot).to_have_attribute("aria-valuenow", str(chosen - 5))
    bare.mouse.move(0, 0)
    expect(plot).to_have_attribute("aria-valuenow", "44")
    bare.evaluate("() => made.show({xs: [], rows: [[], []]})")
    expect(bare.get_by_text("Nothing measured yet.").first).to_be_visible()
    expect(bare.get_by_role("slider")).to_be_hidden()


_POLL = """window.asked = 0; window.fails = null;
const api = await import('/ui/js/api.js');
window.end = m.poll(5000, async () => {
  window.asked += 1;
  if (window.fails) throw new api.ApiError(window.fails, {message: "no"}, window.after ?? null);
}, () => {});"""


def test_asking_goes_on_quietly(bare: Page) -> None:
    """One question at a time; none while the page is hidden, fewer while it fails, none after a refusal or the end."""
    bare.clock.install()
    bare.clock.pause_at("2030-01-01T00:00:00Z")

    def asked(after_ms: int, change: str = "") -> int:
        before: int = bare.evaluate(f"() => {{ {change}; return window.asked }}")
        for _ in range(after_ms // 1000):
            bare.clock.run_for(1000)
        now: int = bare.evaluate("() => window.asked")
        return now - before

    run(bare, "poll", _POLL)
    assert asked(20_000) == 4
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true})"
    assert asked(60_000, hide % "true") <= 1
    show = f"{hide % 'false'}; document.dispatchEvent(new Event('visibilitychange'))"
    assert asked(1000, show) == 1
    assert asked(120_000, "window.fails = 500") == 4  # After 5, 10, 20 and 40 seconds more.
    assert asked(120_000, "window.fails = 503; window.after = 300") <= 2
    bare.evaluate("() => { window.end(); window.fails = null }")
    assert asked(600_000) == 0
    run(bare, "poll", _POLL + "window.fails = 403")
    assert asked(120_000) <= 1
