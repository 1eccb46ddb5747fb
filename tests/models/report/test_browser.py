"""The report as a browser shows it: on a desk, on a phone, in the dark, on paper."""

import base64
import json

import pytest
from PIL import Image
from selenium.webdriver.support.ui import WebDriverWait

from features.manifest.manifest import read_manifest, write_manifest
from models.heads.dspl import DsplConfig
from models.report.thumbnails import PER_CLIP
from models.runs.folder import REPORT
from models.stages.score_head import score_head
from models.stages.train_head import train_head
from models.training.config import TrainConfig
from tests.helpers.browser import PHONE_PX, chromium, resize
from tests.helpers.synthetic import FRAME_S, N_FRAMES, plant

SECTIONS = (
    "scores",
    "learning",
    "plane",
    "errors",
    "regions",
    "fusion",
    "clips",
    "making",
)
N_STILL = 3 + 3  # planes and arrows, regions
N_CHARTS = 6 + 2 + 1 + 2  # epochs, errors, calibration, gate and attention
pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    planted = plant(folder, ("train", "train", "val", "val"))
    draw_crops(planted.manifest)
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


def draw_crops(manifest):
    """Give the first clip of val a crop of every frame."""
    content = read_manifest(manifest)
    first = next(clip for clip in content.clips if clip.split == "val")
    folder = manifest.parent / "crops"
    folder.mkdir()
    for row in range(N_FRAMES):
        Image.new("L", (48, 64), row).convert("RGB").save(folder / f"{row + 1:05d}.jpg")
    clips = [
        clip.model_copy(update={"frames": "crops"}) if clip is first else clip
        for clip in content.clips
    ]
    write_manifest(manifest, clips)


def draw_all(window):
    """Scroll past every figure, and wait until all are drawn."""
    WebDriverWait(window, 60).until(
        lambda w: w.execute_script(
            "const open = document.querySelectorAll('[data-live]:not(.is-drawn)');"
            "if (open.length) open[0].scrollIntoView(); return open.length === 0"
        )
    )


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
        window.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        try:  # what a viewer without scripts shows, and what is printed
            window.get(page)
        finally:
            window.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        figures = window.execute_script(
            "return [...document.querySelectorAll('.still svg')].map(svg => ({"
            "  height: svg.getBoundingClientRect().height,"
            "  marks: svg.querySelectorAll('path, use').length,"
            "  least: Math.min(...[...svg.querySelectorAll('text')].map("
            "    t => parseFloat(getComputedStyle(t).fontSize) * svg.getScreenCTM().a))"
            "}))"
        )
        assert len(figures) == N_STILL + N_CHARTS + 2  # a timeline per clip
        for figure in figures:
            assert figure["height"] > 120
            assert figure["marks"] > 5
            assert figure["least"] > 8  # px on the screen


def test_live_figures_are_drawn_when_they_come_into_view(window, page):
    for width_px, mobile in ((PHONE_PX, True), (1280, False)):
        resize(window, width_px, mobile=mobile)
        window.get(page)
        n = window.execute_script("return document.querySelectorAll('.is-live').length")
        assert n < N_CHARTS + 1 + 2
        draw_all(window)
        figures = window.execute_script(
            "return [...document.querySelectorAll('[data-live]')].map(figure => ({"
            "  name: figure.dataset.live, width: figure.getBoundingClientRect().width,"
            "  still: figure.querySelector('.still').getBoundingClientRect().height,"
            "  live: figure.querySelector('.live').getBoundingClientRect().height,"
            "  drawn: figure.querySelectorAll('.live path.js-line, .live .point').length}))"
        )
        assert len(figures) == N_CHARTS + 1 + 2
        for figure in figures:
            assert figure["still"] == 0, figure
            assert figure["live"] > 200, figure
            assert figure["drawn"] > 0, figure
            assert figure["width"] <= width_px, figure
        assert window.execute_script("return document.documentElement.scrollWidth") == width_px
    assert window.get_log("browser") == []


def test_a_clip_shows_its_values_and_a_picture_under_the_pointer_and_zooms(window, page):
    resize(window, 1280)
    window.get(page)
    draw_all(window)
    with_pictures = window.execute_script(
        "return [...document.querySelectorAll('#clips figure')]"
        ".filter(f => f.querySelector('.picture')).map(f => f.id)"
    )
    assert len(with_pictures) == 1
    found = window.execute_script(
        "const plot = document.querySelector(`#${arguments[0]} .live`);"
        "const lines = plot.data.filter(each => each.mode === 'lines' && !each.fill);"
        "return {names: lines.map(each => each.name), last: plot.data[0].x.at(-1),"
        " time: lines[0].x, truth: lines[0].y, kinds: plot.data.map(each => each.type)}",
        with_pictures[0],
    )
    assert found["names"][:4] == [
        f"{what}: {which}" for what in ("valence", "arousal") for which in ("truth", "prediction")
    ]
    assert found["names"][4:] == ["gate: visual", "gate: audio"]
    assert "heatmap" in found["kinds"]
    assert found["time"] == pytest.approx(
        [FRAME_S * k for k in range(len(found["time"]))], abs=1e-3
    )
    assert found["truth"][10] is None  # planted: row 10 is not annotated
    x, y = window.execute_script(
        "const plot = document.querySelector(`#${arguments[0]} .live`), layout = plot._fullLayout;"
        "plot.scrollIntoView({block: 'center'});"
        "const box = plot.getBoundingClientRect(), {xaxis, yaxis} = layout;"
        "return [box.x + xaxis._offset + xaxis.d2p(arguments[1]),"
        " box.y + yaxis._offset + yaxis._length / 2]",
        with_pictures[0],
        82 * FRAME_S,
    )
    move = {"type": "mouseMoved", "x": x, "y": y}
    window.execute_cdp_cmd("Input.dispatchMouseEvent", move)
    look = (
        "const plot = document.querySelector(`#${arguments[0]} .live`);"
        "const picture = plot.parentElement.querySelector('.picture');"
        "return [picture.ariaLabel, picture.style.backgroundPositionX,"
        " plot.querySelector('.hoverlayer').textContent]"
    )
    WebDriverWait(window, 20).until(lambda w: w.execute_script(look, with_pictures[0])[2])
    label, place, said = window.execute_script(look, with_pictures[0])
    times = window.execute_script(
        "const data = JSON.parse(document.getElementById('report-data').textContent);"
        "return data.clips[arguments[0]].pictures.time_s",
        with_pictures[0],
    )
    assert len(times) == PER_CLIP - 1  # the last row is beyond the last frame
    nearest = min(range(len(times)), key=lambda k: abs(times[k] - 82 * FRAME_S))
    assert label == f"frame at {times[nearest]:.1f} s"
    assert place == f"{-nearest * 48}px"  # each is 48 px wide
    for what in ("valence: truth", "arousal: prediction", "gate: visual", "visual to audio"):
        assert what in said
    window.execute_async_script(
        "Plotly.relayout(document.querySelector(`#${arguments[0]} .live`),"
        " {'xaxis.range': [1, 2]}).then(() => arguments[1]())",
        with_pictures[0],
    )
    ranges = window.execute_script(
        "const layout = document.querySelector(`#${arguments[0]} .live`)._fullLayout;"
        "return [layout.xaxis.range, layout.yaxis.fixedrange, layout.xaxis.anchor]",
        with_pictures[0],
    )
    assert ranges == [[1, 2], True, "y5"]  # one axis of time, below the last of five panels


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
    assert "script-src" in said
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
    draw_all(window)  # the still figures are printed, whatever was looked at
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        resize(window, 690)  # A4 less its margins, at 96 px per inch
        cut = window.execute_script(
            "return [...document.querySelectorAll('.drawing')].filter(e => "
            "e.scrollWidth > e.clientWidth + 1 || e.querySelector('svg').clientWidth < 200"
            " || e.querySelector('.live')?.clientHeight).length"
        )
        assert cut == 0
        for screen_only in ("nav", ".pictures", ".only-live"):
            assert not window.find_element("css selector", screen_only).is_displayed()
    finally:
        window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    pdf = base64.b64decode(window.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")
