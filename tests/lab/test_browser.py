"""The watch report in a real browser: in the light, in the dark and on a phone."""

from pathlib import Path

import pytest

from batchnorm.lab.renderers import watch
from tests.lab.recordings import HOSTILE, alert, layer, recording
from tests.lab.seen import BLUE, ORANGE, PAPER, VIRIDIS, Seen

WIDTHS = "[...document.querySelectorAll('.chart > *')].map((e) => e.getBoundingClientRect().width)"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A report of two runs with alerts, hostile text and paths that are too long for a phone."""
    plain = recording(norm=False, steps=20, depth=3)
    long = "encoder.stages.3.blocks.11.convolution_branch.activation"
    for row in plain.layers:
        if row["path"] == "blocks.2.relu":
            row["path"] = long
    plain.alerts += [alert(100, long), alert(150, long, message=HOSTILE)]
    plain.layers.append(layer(HOSTILE, 99, 0, "activation", in_mean=1.0, in_std=1.0))
    path = tmp_path_factory.mktemp("report") / "report.html"
    watch.write_html([("with", recording(steps=20, depth=3)), ("without", plain)], path)
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_page_opens_without_errors_network_or_sideways_scrolling(browser, address, width, scheme):
    with Seen(browser, address, width, scheme) as seen:
        sizes = "[document.documentElement.scrollWidth, window.innerWidth, window.broken ?? 0]"
        assert seen.page.evaluate(sizes) == [width, width, 0]
        assert seen.troubles == []
        assert {url.split(":")[0] for url in seen.requests} <= {"file", "data"}
        widths = seen.page.evaluate(WIDTHS)
        assert all(200 < found <= width for found in widths)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_heat_map_shows_its_numbers_as_colours(browser, address, scheme):
    colours = (*VIRIDIS, PAPER[scheme])
    with Seen(browser, address, scheme=scheme) as seen:
        with_norm = seen.shares("#chart-in_std-run1 canvas", *colours)
        without = seen.shares("#chart-in_std-run2 canvas", *colours)

    low, high, paper = with_norm
    assert low > 0.3
    assert high < 0.02  # the legend
    assert without[0] < low / 3
    assert without[1] > high + 0.005
    assert paper > 0.2


def test_ridge_of_the_net_without_batch_norm_is_wider(browser, address):
    with Seen(browser, address) as seen:
        narrow = seen.shares("#chart-ridge-run1 canvas", PAPER["light"], BLUE, ORANGE)
        wide = seen.shares("#chart-ridge-run2 canvas", PAPER["light"], BLUE, ORANGE)

    assert narrow[1] > 0.005 < wide[2]  # the lines of the means
    assert narrow[2] == wide[1] == 0
    assert 1 - wide[0] > 1.5 * (1 - narrow[0])


def test_colours_follow_the_light(browser, address):
    with Seen(browser, address) as seen:
        label = "#chart-scalar-0 svg .role-axis-label text"
        fill = f"getComputedStyle(document.querySelector('{label}')).fill"
        light = seen.page.evaluate(fill)
        seen.page.emulate_media(color_scheme="dark")
        seen.page.wait_for_function(f"{fill} !== '{light}'")

        assert seen.troubles == []


@pytest.mark.parametrize("width", [360, 1100])
def test_long_names_leave_room_to_the_chart(browser, address, width):
    with Seen(browser, address, width) as seen:
        high, low = seen.shares("#chart-ridge-run2 canvas", ORANGE, BLUE)

    assert high > 0.004
    assert low == 0


def test_pointing_at_a_cell_tells_its_layer_and_number(browser, address):
    with Seen(browser, address) as seen:
        chart = seen.page.locator("#chart-grad_norm-run1 canvas")
        chart.scroll_into_view_if_needed()
        size = chart.bounding_box()
        chart.hover(position={"x": size["width"] * 0.6, "y": size["height"] * 0.5})
        tooltip = seen.page.locator("#vg-tooltip-element.visible")
        tooltip.wait_for()

        told = tooltip.inner_text()
    assert "blocks." in told
    assert "Norm of the gradient" in told


def test_alerts_are_drawn_and_hostile_text_is_text(browser, address):
    with Seen(browser, address) as seen:
        marks = seen.page.locator("#chart-alerts-run2 svg .mark-symbol.role-mark path")
        assert marks.count() == 2
        marks.nth(1).hover()
        tooltip = seen.page.locator("#vg-tooltip-element.visible")
        tooltip.wait_for()

        assert HOSTILE in tooltip.inner_text()
        assert tooltip.locator("b").count() == 0
        assert seen.page.evaluate("window.broken ?? 0") == 0


def test_every_chart_is_seen_without_scripts(browser, address):
    with Seen(browser, address, scripts=False) as seen:
        stills = seen.page.locator(".chart img")
        count = stills.count()
        low, high = seen.shares("#chart-in_std-run1 img", *VIRIDIS)

    assert count > 10
    assert low > 0.3
    assert high > 0  # the legend


def test_the_numbers_open_by_keyboard(browser, address):
    with Seen(browser, address) as seen:
        summary = seen.page.locator("#in_std-run1 summary")
        summary.focus()
        seen.page.keyboard.press("Enter")

        assert seen.page.locator("#in_std-run1 table").is_visible()


def test_a_report_of_the_lab_opens_too(browser, tmp_path: Path):
    from batchnorm.lab.renderers import html
    from tests.lab.small import result

    html.write_html(result(tmp_path / "trials"), tmp_path / "report.html")

    with Seen(browser, (tmp_path / "report.html").as_uri(), width=360) as seen:
        assert seen.troubles == []
        assert seen.page.evaluate("document.documentElement.scrollWidth") == 360
