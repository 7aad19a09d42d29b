"""A report in a real browser: no errors, nothing wider than a phone, usable by keyboard.

Every test needs Chromium, which many machines lack; what needs none is in `test_report.py`.
"""

import json

import pytest
from browser import CHROMIUM, Browser
from sites_page import page_of
from summaries import summary

from qdeq.equilibrium.networks import Chain, Grid
from qdeq.runs import pages
from qdeq.runs.report import report_page
from qdeq.runs.report_data import Path, ReportData, Sample, Search
from qdeq.training.config import TrainConfig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]

HOSTILE = "</script><script>window.broken = 1</script>"
LONG = "a name of a class that goes on and on and cannot be shortened" + "x" * 80


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report with everything, of classes with names that nobody should give."""
    steps = [[0.5 * (1 - 0.4**k), -0.25 * (1 - 0.4**k)] for k in range(8)]
    paths = {
        "picard": Path(steps, [0.4**k for k in range(8)], True),
        "anderson": Path(steps[:4], [1.0, 1e-2, None, 1e-6], True),
        "broyden": Path(steps[:3], [1.0, 1e-3, 1e-6], True),
        "newton": Path([], [], False),
    }
    equal = Search(
        1, [0.0, 0.0], True, 0.0, {name: Path([[0.0, 0.0]], [0.0], True) for name in paths}
    )
    data = ReportData(
        finished="2026-01-02 03:04:05 UTC",
        hardware=LONG,
        samples=[Sample(0, 0, 1, [0, 90, 180, 255], [0.25, 0.75]), Sample(1, 0, 0)],
        tolerance=1e-5,
        observables=["Z0", HOSTILE],
        searches=[Search(0, [0.5, None], False, None, paths), equal],
    )
    given = summary(classes=[HOSTILE, LONG], run="runs/" + "long" * 60, dataset=LONG)
    page = report_page(TrainConfig(data_dir="/" + "d" * 150), given, {}, data=data)
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def wide():
    with Browser(1400) as browser:
        yield browser


def picture(browser):
    """What the view draws, and what it says."""
    return browser.run(
        "[...document.querySelectorAll('#search svg'), document.querySelector('#search .say')]"
        ".map(node => node.outerHTML).join()"
    )


def test_every_choice_changes_the_picture_and_nothing_fails(report, wide):
    wide.open(report)
    seen = [picture(wide)]
    actions = (
        "const slider = document.getElementById('search-step'); slider.value = 1; "
        "slider.dispatchEvent(new Event('input'))",
        "document.querySelector('input[value=picard]').click()",
        "document.querySelector('input[value=newton]').click()",
        "const select = document.getElementById('search-sample'); select.selectedIndex = 1; "
        "select.dispatchEvent(new Event('change'))",
    )
    for action in actions:
        wide.run(f"(() => {{ {action} }})()")
        seen.append(picture(wide))
    assert len(set(seen)) == len(seen)
    assert not any("NaN" in drawn or "undefined" in drawn for drawn in seen)
    assert wide.errors == []
    assert wide.run("window.broken") is None


def test_the_view_is_used_by_keyboard(report, wide):
    wide.open(report)
    wide.run("document.getElementById('search-step').focus()")
    before = picture(wide)
    wide.press("ArrowRight", code=39)
    assert picture(wide) != before
    wide.run("document.querySelector('input[value=broyden]').focus()")
    wide.press("ArrowLeft", code=37)
    assert wide.run("document.querySelector('input[name=solver]:checked').value") == "anderson"
    # Whatever can be reached shows that it was.
    wide.run("document.querySelector('.matrix a').focus()")
    wide.press("Tab", code=9)
    assert wide.run("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_a_cell_of_the_confusion_matrix_shows_its_samples_by_keyboard(report, wide):
    wide.open(report)
    shown = "[...document.querySelectorAll('.behind')].map(s => getComputedStyle(s).display)"
    assert wide.run(shown) == ["none", "none"]
    wide.run("document.querySelector('a[href=\"#cell-0-1\"]').focus()")
    wide.press("Enter", code=13, text="\r")
    assert wide.run(shown) == ["none", "block"]
    assert "0.750" in wide.run("document.querySelector('.behind:target').innerText")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_is_wider_than_a_phone(report, dark, tmp_path):
    table = pages.grid([f"column {k}" for k in range(30)], [["some words"] * 30] * 2)
    other = tmp_path / "study.html"
    other.write_text(pages.page(LONG, [table, pages.command(LONG), pages.bullets([LONG])]))
    with Browser(390, dark=dark) as phone:
        for path in (report, other):
            phone.open(path)
            assert phone.run("document.documentElement.scrollWidth") <= 390
            assert phone.run("document.body.scrollWidth") <= 390
            # Boxes that do not scroll stay within the card.
            outside = phone.run(
                "[...document.querySelectorAll('main > *, .search *, .columns > *')]"
                ".filter(n => n.getBoundingClientRect().right > 390.5).map(n => n.outerHTML)"
            )
            assert outside == []
        assert phone.errors == []
        background = json.loads(
            phone.run("getComputedStyle(document.body).backgroundColor")
            .replace("rgb(", "[")
            .replace(")", "]")
        )
        assert (max(background) < 60) == dark


def test_without_scripts_the_table_is_shown_and_the_view_is_not(report):
    with Browser(800, scripts=False) as browser:
        browser.open(report)
        text = browser.run("document.body.innerText")
    assert "needs JavaScript" in text and "Picard, steps" in text


SITES = {"chain": Chain(7), "both ways": Chain(7, "both"), "grid": Grid(4, 5)}


@pytest.fixture(scope="module", params=SITES)
def sites(request, tmp_path_factory):
    """The page of a network, of samples with names that nobody should give."""
    path = tmp_path_factory.mktemp("page") / "sites.html"
    path.write_text(page_of(SITES[request.param], [HOSTILE, LONG]), encoding="utf-8")
    return path


def canvases(browser):
    """What the pictures of the sites show, and what is said of step and site."""
    return browser.run(
        "[...document.querySelectorAll('#search canvas')].map(c => c.toDataURL()).join() + "
        "document.querySelector('#search .say').textContent + "
        "document.querySelector('.sites').innerText"
    )


def test_every_choice_changes_the_sites(sites, wide):
    wide.errors.clear()
    wide.open(sites)
    seen = [canvases(wide)]
    moved = (
        "const slider = document.getElementById('{}'); slider.value = {}; "
        "slider.dispatchEvent(new Event('input'))"
    )
    chosen = "document.querySelector('input[value={}]').click()"
    actions = [moved.format("search-step", 2), moved.format("search-site", 3)]
    newton = wide.run("[...document.querySelectorAll('input[name=solver]')].pop().value")
    actions += [chosen.format("anderson"), chosen.format(newton), moved.format("search-step", 1)]
    if "sweep" in wide.run("document.body.innerHTML.match(/value=.sweep./) ? 'sweep' : ''"):
        actions += [chosen.format("sweep"), moved.format("search-step", 4)]
    actions.append(
        "const select = document.getElementById('search-sample'); select.selectedIndex = 1; "
        "select.dispatchEvent(new Event('change')); " + moved.format("search-site", 0)
    )
    for action in actions:
        wide.run(f"(() => {{ {action} }})()")
        seen.append(canvases(wide))
    assert len(set(seen)) == len(seen)
    assert not any("NaN" in drawn or "undefined" in drawn for drawn in seen)
    assert "none" in seen[-1]  # the first site of these samples is not there
    assert wide.errors == [] and wide.run("window.broken") is None


def test_a_site_is_chosen_by_a_click_and_by_keyboard(sites, wide):
    wide.open(sites)
    wide.run(
        "(() => { const c = document.querySelector('#search canvas'); "
        "const b = c.getBoundingClientRect(); const at = { clientX: b.right - 2, "
        "clientY: b.top + 2 }; c.dispatchEvent(new MouseEvent('click', at)); })()"
    )
    last = int(wide.run("document.getElementById('search-site').value"))
    assert last == (4 if "Grid" in wide.run("document.body.innerText") else 6)
    wide.run("document.getElementById('search-site').focus()")
    before = canvases(wide)
    wide.press("ArrowLeft", code=37)
    assert wide.run("document.getElementById('search-site').value") == str(last - 1)
    assert canvases(wide) != before


def test_the_colour_of_a_site_is_that_of_its_state(sites, wide):
    wide.open(sites)
    is_grid = "Grid" in wide.run("document.body.innerText")
    wide.run("document.querySelector('input[value=picard]').click()")
    step = "const s = document.getElementById('search-step'); s.value = 5;"
    wide.run(f"(() => {{ {step} s.dispatchEvent(new Event('input')); }})()")
    for site in (1, 2, 3):
        move = f"const s = document.getElementById('search-site'); s.value = {site};"
        wide.run(f"(() => {{ {move} s.dispatchEvent(new Event('input')); }})()")
        told = wide.run("document.querySelector('.sites table td').textContent").replace("−", "-")
        # In the middle of the first row's cell of that site.
        wide_as, down = ("5", "c.height / 8") if is_grid else ("7", "9")
        red, _, blue, _ = wide.run(
            "(() => { const c = document.querySelector('#search canvas'); "
            f"const across = ({site} + 0.5) * c.width / {wide_as}, down = {down}; "
            "return [...c.getContext('2d').getImageData(across, down, 1, 1).data]; })()"
        )
        assert (red > blue) == (float(told) > 0), told


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_sites_fit_a_phone(sites, dark):
    with Browser(390, dark=dark) as phone:
        phone.open(sites)
        assert phone.run("document.documentElement.scrollWidth") <= 390
        outside = phone.run(
            "[...document.querySelectorAll('main > *, .search *')].filter(n => "
            "!n.closest('div.wide > *') && n.getBoundingClientRect().right > 390.5)"
            ".map(n => n.outerHTML)"
        )
        assert outside == [] and phone.errors == []
