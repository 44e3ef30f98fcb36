"""The pages in a real browser, opened from the disk: points, hover, pictures, selection, colours, and no network."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from explored_study import EVIL
from PIL import Image

from tiny_biomoe import explore, load_embeddings

pytestmark = pytest.mark.browser

PLACE = """
const plot = Bokeh.documents[0].get_model_by_name("map");
const view = Bokeh.index.get_one(plot);
const data = Bokeh.documents[0].get_model_by_name("points").data;
const box = document.getElementById("plot").getBoundingClientRect();
const inner = view.el.getBoundingClientRect();
return [view.frame.x_scale.compute(data.x[arguments[0]]) + inner.x,
        view.frame.y_scale.compute(data.y[arguments[0]]) + inner.y];
"""


@pytest.fixture(scope="module")
def map_folder(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("map") / "map"
    explore.write_map(folder, out, color="subject")
    return out


@pytest.fixture
def page(browser, map_folder):
    browser.open(map_folder / "map.html")
    browser.wait("document.body.dataset.ready")
    yield browser
    assert browser.errors() == []
    assert {url.partition("?")[0] for url in browser.requests()} <= {p.as_uri() for p in map_folder.rglob("*")}
    assert browser.run("return window.executed") is None


def pointer(page, *steps):
    """Mouse events at places of the page: ("move" | "press" | "release", x, y)."""
    names = {"move": "mouseMoved", "press": "mousePressed", "release": "mouseReleased"}
    held = False
    for step, x, y in steps:
        held = step == "press" or (held and step == "move")
        facts = {"type": names[step], "x": x, "y": y, "button": "left" if step != "move" or held else "none"}
        facts |= {"buttons": int(held), "clickCount": int(step != "move")}
        page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", facts)
        time.sleep(0.05)


def choose(page, select, label):
    page.run(
        "const s = document.getElementById(arguments[0]);"
        "s.value = [...s.options].find((o) => o.text === arguments[1]).value; s.dispatchEvent(new Event('change'))",
        select,
        label,
    )


def showing(page):
    return int(page.run("return document.getElementById('showing').textContent").split()[0])


def pixels(page):
    """How many pixels of the map have about a colour."""
    clip = page.run(
        "const b = document.getElementById('plot').getBoundingClientRect(); return [b.x,b.y,b.right,b.bottom]"
    )
    picture = (
        Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB").crop([int(each) for each in clip])
    )
    image = np.asarray(picture).astype(int)
    return lambda colour: int((np.abs(image - np.array(colour)).max(axis=2) < 24).sum())


def test_points_are_drawn_in_the_colours_of_their_classes(page):
    assert showing(page) == 35
    time.sleep(0.3)
    count = pixels(page)
    on_white = [tuple(round(0.8 * int(c[i : i + 2], 16) + 0.2 * 255) for i in (1, 3, 5)) for c in
                ("#4c78c8", "#f08535", "#3fa45b")]  # fmt: skip
    for colour in on_white:
        assert count(colour) > 100


def test_a_hover_shows_the_picture_and_facts_of_the_window(page, folder):
    ids, _, table = load_embeddings(folder)
    row = 12
    x, y = page.run(PLACE, row)
    pointer(page, ("move", x - 3, y), ("move", x, y))
    page.wait("!document.getElementById('tip').hidden && document.querySelector('#tip img').complete")
    shown = page.run("return document.querySelector('#tip .id').textContent")
    place = ids.index(shown)  # another window may lie on top of it
    facts = page.run("return document.getElementById('tip').textContent")
    assert f"subject {table['subject'][place].as_py()}" in facts
    assert page.run("return document.querySelector('#tip img').naturalWidth") == 296
    assert page.run("return document.querySelector('#tip img').src").endswith(f"pictures/waveform/0/{place}.png")


def test_a_box_selects_windows_and_a_button_saves_their_ids(page, folder):
    page.run(
        "const bar = Bokeh.documents[0].get_model_by_name('map').toolbar;"
        "bar.active_drag = bar.tools.find((t) => t.type === 'BoxSelectTool'); bar.active_drag.active = true"
    )
    time.sleep(0.2)
    left, top, right, bottom = page.run(
        "const b = document.getElementById('plot').getBoundingClientRect(); return [b.x, b.y, b.right, b.bottom]"
    )
    middle = (left + right) / 2
    pointer(
        page, ("move", left + 12, top + 12), ("press", left + 12, top + 12), ("move", middle - 40, bottom - 60),
        ("move", middle, bottom - 14), ("release", middle, bottom - 14),
    )  # fmt: skip
    selected = int(page.wait("Number(document.getElementById('selected').textContent)"))
    assert 0 < selected < 35
    assert page.run("return document.querySelectorAll('#list figure img').length") == selected
    page.run("document.getElementById('save').click()")
    saved = page.downloads / "selected_ids.txt"
    deadline = time.monotonic() + 20
    while not saved.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    ids = saved.read_text().splitlines()
    assert len(ids) == selected
    assert set(ids) < set(load_embeddings(folder)[0])
    page.run("document.getElementById('clear').click()")
    assert page.run("return document.getElementById('selected').textContent") == "0"


def test_entries_of_the_legend_hide_and_columns_can_be_changed(page):
    choose(page, "colour", "label")
    labels = page.run("return [...document.querySelectorAll('#classes .label')].map((each) => each.textContent)")
    assert labels == [EVIL, "rest"]
    page.run("document.querySelectorAll('#classes button')[1].click()")
    assert showing(page) == 18
    page.run("document.getElementById('none').click()")
    assert showing(page) == 0
    page.run("document.getElementById('all').click()")
    assert showing(page) == 35
    choose(page, "colour", "room")
    assert page.run("return document.querySelectorAll('#classes button').length") == 3


def test_modality_representation_and_time_choose_the_windows(page):
    choose(page, "modality", "eda")
    assert showing(page) == 17
    page.run("const s = document.getElementById('to'); s.value = 20; s.dispatchEvent(new Event('input'))")
    assert showing(page) == 8  # the starts 0, 10 and 20 of three recordings, but for the flat window
    before = page.run("return Array.from(Bokeh.documents[0].get_model_by_name('points').data.x).slice(0, 3)")
    choose(page, "representation", "scalogram")
    after = page.run("return Array.from(Bokeh.documents[0].get_model_by_name('points').data.x).slice(0, 3)")
    assert not np.allclose(before, after)


def test_the_map_fits_a_phone_and_has_a_dark_scheme(browser, map_folder):
    browser.open(map_folder / "map.html", size=(360, 740), dark=True)
    browser.wait("document.body.dataset.ready")
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 28)"


@pytest.fixture(scope="module")
def report(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    explore.write_report(folder, path)
    return path


def test_the_report_is_one_file_that_fits_a_phone(browser, report):
    for size, dark, colour in (((1000, 800), False, "rgb(251, 251, 249)"), ((360, 740), True, "rgb(20, 23, 28)")):
        browser.open(report, size=size, dark=dark)
        browser.wait("[...document.images].every((each) => each.complete)")
        assert browser.run("return [...document.images].every((each) => each.naturalWidth > 0 && each.alt)")
        assert browser.run("return document.documentElement.scrollWidth") <= size[0]
        assert browser.run("return getComputedStyle(document.body).backgroundColor") == colour
        assert browser.run("return document.scripts.length") == 0
        assert browser.requests() == [report.as_uri()]
        assert browser.errors() == []


def test_the_report_can_be_read_without_scripts(browser, report):
    browser.open(report, scripts=False)
    words = browser.driver.find_element("tag name", "main").text
    assert "Balance of labels" in words
    assert EVIL in words
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_hit_list_shows_query_and_hits(browser, folder, tmp_path):
    ids = load_embeddings(folder)[0]
    query = explore.query.query_of_window(ids[0], explore.EmbeddingFolder.open(folder))
    hits = explore.search(query, folder, k=4)
    explore.write_similar(query, hits, folder, tmp_path / "similar.html")
    browser.open(tmp_path / "similar.html", size=(360, 740))
    browser.wait("[...document.images].every((each) => each.complete && each.naturalWidth === 296)")
    assert browser.run("return document.images.length") == 5
    assert (
        browser.run("return [...document.querySelectorAll('li code')].map((e) => e.textContent)")
        == hits["id"].to_pylist()
    )
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    assert browser.requests() == [(tmp_path / "similar.html").as_uri()]
    assert browser.errors() == []
