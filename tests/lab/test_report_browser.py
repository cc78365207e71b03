"""The lab's report in a real browser: routes, filters, charts; light, dark, on a phone, printed."""

import pytest

from batchnorm.lab.renderers.report import report
from tests.lab.seen import BLUE, ORANGE, PAPER, VIRIDIS, Seen
from tests.lab.studies import HOSTILE, experiment, study

GREEN = (42, 148, 99)
SIZES = "[document.documentElement.scrollWidth, window.innerWidth, window.broken ?? 0]"
CURRENT = "document.querySelector('.page.current').id"
SHOWN = "[...document.querySelectorAll('[data-verdict]')].filter((e) => e.checkVisibility()).length"
FOCUSED = "document.activeElement.id"
LINES = "[...document.querySelectorAll('{} .role-mark.mark-line path')]"
OPACITIES = LINES + ".map((line) => Number(getComputedStyle(line).opacity))"
CURVES = "#chart-made-up--training-0"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    report([study(), study(experiment("other", "Another one"))], path)
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
@pytest.mark.parametrize("route", ["", "#made-up"])
def test_pages_open_without_errors_network_or_sideways_scrolling(
    browser, address, width, scheme, route
):
    with Seen(browser, address + route, width, scheme) as seen:
        for summary in seen.page.locator("summary:visible").all():
            summary.click()

        assert seen.page.evaluate(SIZES) == [width, width, 0]
        assert seen.troubles == []
        assert {url.split(":")[0] for url in seen.requests} <= {"file", "data"}


def test_only_the_opened_page_is_drawn(browser, address):
    with Seen(browser, address) as seen:
        assert seen.page.evaluate(CURRENT) == "overview"
        assert seen.page.locator("svg.marks").count() == 0

        seen.page.click("nav a[href='#made-up']")
        seen.wait()

        assert seen.page.evaluate(CURRENT) == "made-up"
        assert seen.page.locator("svg.marks").count() == 2 * 4 + 4
        assert seen.page.locator("nav [aria-current=page]").inner_text() == "made-up"
        assert seen.page.evaluate(FOCUSED) == "made-up-heading"
        assert "Made up" in seen.page.title()


def test_back_and_links_into_a_page_work(browser, address):
    with Seen(browser, address + "#other--rates") as seen:
        assert seen.page.evaluate(CURRENT) == "other"
        seen.page.wait_for_function("window.scrollY > 100")
        seen.page.click(".page.current >> text=← made-up")
        seen.page.wait_for_function(f"{CURRENT} === 'made-up'")
        seen.page.go_back()
        seen.page.wait_for_function(f"{CURRENT} === 'other'")


def test_the_skip_link_stays_on_the_page(browser, address):
    with Seen(browser, address + "#other") as seen:
        skip = seen.page.get_by_text("Skip to the content")
        skip.focus()
        assert skip.bounding_box()["x"] > 0
        seen.page.keyboard.press("Enter")

        assert seen.page.evaluate(FOCUSED) == "other-heading"
        assert seen.page.url.endswith("#other")


def test_charts_have_their_width_after_quick_turns_and_a_new_window(browser, address):
    with Seen(browser, address) as seen:
        for route in ("#made-up", "#other", "#overview", "#made-up"):
            seen.page.evaluate(f"location.hash = '{route}'")
        seen.wait()
        seen.page.evaluate("location.hash = '#other'")
        seen.page.wait_for_function(f"{CURRENT} === 'other'")
        seen.wait()
        seen.page.set_viewport_size({"width": 360, "height": 900})
        seen.page.evaluate("location.hash = '#made-up'")
        seen.page.wait_for_function(f"{CURRENT} === 'made-up'")
        seen.page.wait_for_function(
            f"Math.abs(document.querySelector('{CURVES} svg').clientWidth - 328) < 12"
        )


def test_an_unknown_route_is_the_first_page(browser, address):
    with Seen(browser, address + "#nowhere%") as seen:
        assert seen.page.evaluate(CURRENT) == "overview"
        assert seen.troubles == []


def test_filters_by_verdict_experiment_and_words_stand_in_the_address(browser, address):
    with Seen(browser, address) as seen:
        page = seen.page
        assert page.evaluate(SHOWN) == 6
        page.get_by_label("fails (2)").check()
        page.get_by_label("undecided (2)").check()
        assert page.evaluate(SHOWN) == 4
        page.get_by_label("Experiment").select_option("other")
        assert page.evaluate(SHOWN) == 2
        assert page.locator("article:visible").count() == 1
        page.get_by_label("Words").fill("GROUP lot")
        assert page.evaluate(SHOWN) == 1
        assert page.locator("output").inner_text() == "1 of 6 claims"
        sent = page.url

    with Seen(browser, sent) as seen:
        assert seen.page.evaluate(SHOWN) == 1
        assert seen.page.get_by_label("fails (2)").is_checked()
        assert not seen.page.get_by_label("holds (2)").is_checked()
        seen.page.get_by_role("button", name="Show all").click()
        seen.page.wait_for_function(f"{SHOWN} === 6")
        assert seen.page.url == address + "#overview"


def test_filters_can_be_worked_by_keyboard(browser, address):
    with Seen(browser, address) as seen:
        seen.page.get_by_label("holds (2)").focus()
        seen.page.keyboard.press("Space")
        assert seen.page.evaluate(SHOWN) == 2
        seen.page.keyboard.press("Tab")
        seen.page.keyboard.press("Tab")
        seen.page.keyboard.press("Tab")
        assert seen.page.evaluate("document.activeElement.name") == "experiment"
        seen.page.keyboard.press("Tab")
        seen.page.keyboard.type("nothing has this")
        assert seen.page.evaluate(SHOWN) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_curves_have_their_colours_on_the_page_s_paper(browser, address, scheme):
    with Seen(browser, address + "#made-up", scheme=scheme) as seen:
        orange, blue, green, paper = seen.shares(
            f"{CURVES} svg", ORANGE, BLUE, GREEN, PAPER[scheme]
        )

    assert 0.1 > orange > blue > green > 0.001  # whole, dashed, dotted
    assert paper > 0.6


def test_bars_are_as_long_as_their_numbers(browser, address):
    with Seen(browser, address + "#made-up") as seen:
        near, far = (
            seen.page.locator(f"#chart-made-up--final-{i} .mark-rect.role-mark path").all()
            for i in (0, 1)
        )
        none, batch, group = (bar.bounding_box()["width"] for bar in near)

    assert len(far) == 3
    assert none < group < batch
    assert batch / none == pytest.approx((0.9 - 0.1 / 3) / (0.5 - 0.1 / 3), rel=0.02)


def test_heat_map_shows_its_numbers_as_colours(browser, address):
    with Seen(browser, address + "#made-up") as seen:
        dark, bright = seen.shares("#chart-made-up--map-0 svg", *VIRIDIS)

    assert dark > 0.01  # the lowest cell
    assert bright > 0.05  # the two highest


def test_a_legend_isolates_a_series_in_all_panels(browser, address):
    with Seen(browser, address + "#made-up") as seen:
        button = seen.page.locator("#made-up--training .legend button").nth(1)
        for _ in range(2):
            before = seen.shares(f"{CURVES} svg", ORANGE, BLUE)
            button.focus()
            seen.page.keyboard.press("Enter")
            for panel in (CURVES, "#chart-made-up--training-1"):
                pressed = button.get_attribute("aria-pressed") == "true"
                wanted = [0.1, 1, 0.1] if pressed else [1, 1, 1]
                seen.page.wait_for_function(
                    f"JSON.stringify({OPACITIES.format(panel)}) === '{wanted}'.replaceAll(' ', '')"
                )
            after = seen.shares(f"{CURVES} svg", ORANGE, BLUE)
            faint, strong = sorted([before, after])
            assert faint[0] < 0.1 * strong[0]
            assert faint[1] == pytest.approx(strong[1], rel=0.2)


def test_pointing_at_a_curve_tells_its_numbers_as_text(browser, address):
    with Seen(browser, address + "#made-up") as seen:
        chart = seen.page.locator(f"{CURVES} svg")
        chart.scroll_into_view_if_needed()
        points = seen.page.locator(f"{CURVES} .mark-symbol.role-mark path")
        points.nth(points.count() - 1).hover(force=True)
        tooltip = seen.page.locator("#vg-tooltip-element.visible")
        tooltip.wait_for()

        told = tooltip.inner_text()
        assert "test accuracy" in told or "mean" in told
        assert HOSTILE in told
        assert tooltip.locator("b").count() == 0


def test_colours_follow_the_light(browser, address):
    with Seen(browser, address + "#made-up") as seen:
        label = f"{CURVES} svg .role-axis-label text"
        fill = f"getComputedStyle(document.querySelector('{label}')).fill"
        light = seen.page.evaluate(fill)
        seen.page.emulate_media(color_scheme="dark")
        seen.page.wait_for_function(f"{fill} !== '{light}'")

        assert seen.troubles == []


def test_without_scripts_everything_stands_below_each_other(browser, address):
    with Seen(browser, address, scripts=False) as seen:
        pages = seen.page.locator(".page")
        assert [page.is_visible() for page in pages.all()] == [True] * 3
        assert not seen.page.locator(".filters").is_visible()
        stills = seen.page.locator("figure img")
        assert stills.count() == 10
        orange, blue = seen.shares("#made-up--training img", ORANGE, BLUE)

    assert min(orange, blue) > 0.001


def test_print_has_the_page_and_no_controls(browser, address):
    with Seen(browser, address + "#made-up") as seen:
        seen.page.emulate_media(media="print")

        assert not seen.page.locator("nav.pages").is_visible()
        assert not seen.page.locator(".turn").first.is_visible()
        assert seen.page.locator(f"{CURVES} svg").is_visible()
        assert len(seen.page.pdf()) > 10_000


def test_small_pictures_are_drawn(browser, address):
    with Seen(browser, address) as seen:
        orange, blue = seen.shares("article[data-experiment=other] img", ORANGE, BLUE)

    assert min(orange, blue) > 0.005
