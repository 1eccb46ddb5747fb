"""The report as a browser shows it: on a desk, on a phone, in the dark, on paper."""

import base64
import json

import pytest

from models.heads.dspl import DsplConfig
from models.runs.folder import REPORT
from models.stages.score_head import score_head
from models.stages.train_head import train_head
from models.training.config import TrainConfig
from tests.helpers.browser import PHONE_PX, chromium, resize
from tests.helpers.synthetic import plant

SECTIONS = ("scores", "learning", "plane", "regions", "clips", "making")
pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    planted = plant(folder, ("train", "train", "val", "val"))
    run = folder / "run"
    train_head(
        manifest=planted.manifest,
        store=planted.store,
        run=run,
        head=DsplConfig(width=8),
        train=TrainConfig(epochs=3, window=40, stride=30, batch_size=4, threads=1),
    )
    score_head(run=run)
    return (run / REPORT).as_uri()


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as window:
        yield window


@pytest.mark.parametrize(
    ("width_px", "mobile"), [(1280, False), (PHONE_PX, True)], ids=["desktop", "phone"]
)
def test_every_section_is_there_and_nothing_juts_out(window, page, width_px, mobile):
    resize(window, width_px, mobile=mobile)
    window.get(page)
    for name in SECTIONS:
        section = window.find_element("id", name)
        assert section.is_displayed(), name
        assert section.size["height"] > 100, name
        assert section.text.strip(), name
    whole = window.execute_script("return document.documentElement.scrollWidth")
    assert whole == width_px  # the page itself does not scroll sideways
    jutting = window.execute_script(
        "return [...document.querySelectorAll('main > section > *')]"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + .5).map(e => e.outerHTML)"
    )
    assert jutting == []


def test_the_longest_name_of_a_clip_does_not_widen_the_page(window, page):
    resize(window, PHONE_PX, mobile=True)
    window.get(page)
    whole = window.execute_script(
        "document.querySelectorAll('#clips a, #clips h3, h1')"
        ".forEach(e => e.textContent = 'x'.repeat(128));"  # ids have at most 128 characters
        "return document.documentElement.scrollWidth"
    )
    assert whole == PHONE_PX


def test_figures_are_drawn_and_their_text_can_be_read(window, page):
    for width_px, mobile in ((1280, False), (PHONE_PX, True)):
        resize(window, width_px, mobile=mobile)
        window.get(page)
        figures = window.execute_script(
            "return [...document.querySelectorAll('svg')].map(svg => ({"
            "  height: svg.getBoundingClientRect().height,"
            "  marks: svg.querySelectorAll('path, use').length,"
            "  least: Math.min(...[...svg.querySelectorAll('text')].map("
            "    t => parseFloat(getComputedStyle(t).fontSize) * svg.getScreenCTM().a))"
            "}))"
        )
        assert len(figures) == 2 + 2 + 3 + 2  # curves, planes, regions, a timeline per clip
        for figure in figures:
            assert figure["height"] > 150
            assert figure["marks"] > 5
            assert figure["least"] > 8  # px on the screen


def test_every_link_leads_somewhere(window, page):
    window.get(page)
    lost = window.execute_script(
        "return [...document.querySelectorAll('a')].map(a => a.getAttribute('href'))"
        ".filter(href => !(href.startsWith('#') && document.getElementById(href.slice(1))))"
    )
    assert lost == []
    ids = window.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    dangling = window.execute_script(
        "return [...document.querySelectorAll('use, [clip-path]')].map("
        "e => (e.getAttribute('href') || e.getAttribute('clip-path')).match(/#([^)]*)/)[1])"
        ".filter(id => !document.getElementById(id))"
    )
    assert dangling == []


def test_the_page_asks_for_nothing_and_the_console_is_silent(window, page):
    window.get("about:blank")
    window.get_log("performance")
    window.get_log("browser")
    window.get(page)
    assert window.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in window.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if url != "data:,"] == [page]


def test_the_policy_of_the_page_stops_a_script_and_a_request(window, page, tmp_path):
    # the log must be able to speak, or its silence above would say nothing
    spoiled = tmp_path / "spoiled.html"
    text = (tmp_path.parent / "none").as_uri()
    with open(page.removeprefix("file://"), encoding="utf-8") as file:
        whole = file.read()
    script = f"<script>document.title = 'ran'</script><img src='{text}'>"
    spoiled.write_text(whole.replace("</main>", script + "</main>"))
    window.get(spoiled.as_uri())
    assert window.title != "ran"
    said = " ".join(entry["message"] for entry in window.get_log("browser"))
    assert "script-src" in said or "default-src" in said
    assert "img-src" in said


def test_in_the_dark_figures_stay_on_white(window, page):
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        window.get(page)
        body, drawing = window.execute_script(
            "return [document.body, document.querySelector('.drawing')]"
            ".map(e => getComputedStyle(e).backgroundColor)"
        )
    finally:
        window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert body == "rgb(21, 24, 28)"
    assert drawing == "rgb(255, 255, 255)"


def test_on_paper_no_figure_is_clipped(window, page):
    resize(window, 1280)
    window.get(page)
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        resize(window, 690)  # A4 less its margins, at 96 px per inch
        cut = window.execute_script(
            "return [...document.querySelectorAll('.drawing')].filter(e => "
            "e.scrollWidth > e.clientWidth + 1 || e.querySelector('svg').clientWidth < 200).length"
        )
        assert cut == 0
        assert not window.find_element("css selector", "nav").is_displayed()
    finally:
        window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    pdf = base64.b64decode(window.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")
