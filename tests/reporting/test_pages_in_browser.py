"""The pages as Chromium shows them: no errors, nothing from outside, and everything that can be clicked works."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from microg_da.reporting import gallery, write_report
from microg_da.reporting.run_comparison import compare_runs, write_comparison

selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (extra `dev`)")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic",
         "--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars",
         "--disable-dev-shm-usage", "--window-size=1100,900")  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver on PATH (Debian: chromium, chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield running
    running.quit()


@pytest.fixture(scope="module")
def report(whole_run: Path) -> str:
    return write_report(whole_run).as_uri()


@pytest.fixture
def page(browser: Any, report: str) -> Any:
    """The report, freshly opened in the one browser."""
    browser.get_log("browser")
    browser.get(report)
    return browser


def drawn(element: Any) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(element.screenshot_as_png, np.uint8), cv2.IMREAD_COLOR)


def problems(browser: Any) -> list[dict]:
    return [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def column(table: Any, number: int) -> list[str]:
    return [cell.text for cell in table.find_elements(By.CSS_SELECTOR, f"tbody td:nth-child({number})")]


def test_every_section_is_drawn_without_errors_and_without_a_network(page):
    sections = page.find_elements(By.CSS_SELECTOR, "main > section")
    assert [section.get_attribute("id") for section in sections] == [
        "scores", "classes", "confusion", "domains", "validators", "curves", "examples", "details"
    ]  # fmt: skip
    for section in [page.find_element(By.TAG_NAME, "header"), *sections]:
        picture = drawn(section)
        assert picture.shape[0] > 60
        assert picture.std() > 5, section.get_attribute("id")
    assert problems(page) == []
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_a_click_on_a_heading_sorts(page):
    table = page.find_element(By.CSS_SELECTOR, "#classes table.sortable")
    heading = next(b for b in table.find_elements(By.CSS_SELECTOR, "thead button") if b.text == "n")
    before = column(table, 2)
    for reverse, arrow in ((True, "descending"), (False, "ascending")):
        heading.click()
        counts = [int(text.rstrip("*").replace(",", "")) for text in column(table, 2)]
        assert counts == sorted(counts, reverse=reverse)
        assert heading.find_element(By.XPATH, "..").get_attribute("aria-sort") == arrow
    assert sorted(column(table, 2)) == sorted(before)
    names = next(b for b in table.find_elements(By.CSS_SELECTOR, "thead button") if b.text == "Class")
    names.click()
    rows = [cell.text.lower() for cell in table.find_elements(By.CSS_SELECTOR, "tbody th")]
    assert rows == sorted(rows)
    change = next(b for b in table.find_elements(By.CSS_SELECTOR, "thead button") if b.text == "change")
    change.click()
    changes = [float(text.lstrip("▲▼ ±").replace("−", "-")) for text in column(table, 6 + 1)]
    assert changes == sorted(changes, reverse=True)
    assert problems(page) == []


def outcome(person: dict, action: int) -> str:
    right = [
        (person[row].get(str(action), 0) >= 0.5) == (action in person["true"]) for row in ("source_only", "adapted")
    ]
    return {(1, 1): "right", (0, 1): "fixed", (1, 0): "broken", (0, 0): "still wrong"}[int(right[0]), int(right[1])]


def test_examples_are_filtered_by_class_and_outcome(page, whole_run):
    listed = json.loads((whole_run / "examples" / "examples.json").read_text())
    shown_labels = [
        {
            (action, outcome(person, action))
            for person in example["people"]
            for action in {*person["true"], *(int(k) for row in ("source_only", "adapted") for k, p in person[row].items() if p >= 0.5)}
        }
        for example in listed
    ]  # fmt: skip
    form = page.find_element(By.CSS_SELECTOR, "form.filters")
    action, kind = Select(form.find_element(By.NAME, "action")), Select(form.find_element(By.NAME, "outcome"))
    articles = page.find_elements(By.CSS_SELECTOR, ".gallery article")

    def visible() -> list[bool]:
        return [article.is_displayed() for article in articles]

    assert visible() == [True] * 6
    offered = [option.text for option in kind.options[1:]]
    assert set(offered) == {what for labels in shown_labels for _, what in labels}
    for wanted in offered:
        kind.select_by_visible_text(wanted)
        found = [any(what == wanted for _, what in labels) for labels in shown_labels]
        assert visible() == found
        assert form.find_element(By.TAG_NAME, "output").text == f"{sum(found)} of 6 keyframes"
    of_one = sorted(next(labels for labels in shown_labels if labels))[0]
    action.select_by_value(str(of_one[0]))
    kind.select_by_visible_text(of_one[1])
    assert visible() == [of_one in labels for labels in shown_labels]
    marked = page.find_elements(By.CSS_SELECTOR, "article:not([hidden]) tr.match")
    assert marked
    assert all(row.get_attribute("data-outcome") == of_one[1] for row in marked)
    form.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    selenium.support.ui.WebDriverWait(page, 5).until(lambda _: visible() == [True] * 6)
    assert problems(page) == []


def test_a_window_plays_where_one_points(page):
    picture = page.find_element(By.CSS_SELECTOR, ".picture[tabindex]")
    style = "return getComputedStyle(arguments[0].querySelector('.window')).visibility"
    assert page.execute_script(style, picture) == "hidden"
    selenium.ActionChains(page).move_to_element(picture).perform()
    assert page.execute_script(style, picture) == "visible"
    moving = "return getComputedStyle(arguments[0].querySelector('.window img')).animationName"
    assert page.execute_script(moving, picture) == "window"


@pytest.mark.parametrize("width", [360, 768])
def test_a_phone_needs_no_sideways_scrolling(page, width):
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_is_dark_and_paper_is_light(page):
    brightness = (
        "return getComputedStyle(document.body)[arguments[0]].match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    )

    def shown(**media: Any) -> tuple[int, int]:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        return page.execute_script(brightness, "backgroundColor"), page.execute_script(brightness, "color")

    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    try:
        paper, ink = shown(**dark)
        assert paper < 150 < 600 < ink
        paper, ink = shown(media="print", **dark)
        assert ink < 150 < 600 < paper
        assert not page.find_element(By.CSS_SELECTOR, "form.filters").is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    assert len(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]) > 20_000


def test_no_script_runs_but_the_page_s_own(page):
    inject = "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s);"
    assert page.execute_script(inject + "return window.ran ?? 0") == 0
    assert "Content Security Policy" in page.get_log("browser")[-1]["message"]


def test_a_gallery_of_200_stays_small_and_opens_quickly(browser, make_run, monkeypatch):
    folder = make_run(examples=4)
    rng = np.random.default_rng(0)
    for path in (folder / "examples").glob("*.png"):
        cv2.imwrite(str(path), rng.integers(0, 255, (270, 480, 3), dtype=np.uint8))
    listed = json.loads((folder / "examples" / "examples.json").read_text())
    (folder / "examples" / "examples.json").write_text(json.dumps(listed * 50))
    # The same four pictures, encoded once; the page holds each of the 200.
    monkeypatch.setattr(gallery, "embedded_image", functools.cache(gallery.embedded_image))
    strip = functools.cache(lambda paths, budget: original(list(paths), budget))
    original = gallery.embedded_strip
    monkeypatch.setattr(gallery, "embedded_strip", lambda paths, budget: strip(tuple(paths), budget))
    path = write_report(folder)
    assert 5_000_000 < path.stat().st_size < 15_000_000

    # Processor time of the page's thread: what else the machine does is not its fault.
    browser.get("about:blank")
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    browser.get(path.as_uri())
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    assert 0.01 < {metric["name"]: metric["value"] for metric in metrics}["TaskDuration"] < 2
    assert len(browser.find_elements(By.CSS_SELECTOR, ".gallery article")) == 200
    Select(browser.find_element(By.NAME, "outcome")).select_by_visible_text("fixed")
    assert browser.find_element(By.CSS_SELECTOR, ".filters output").text.endswith(" of 200 keyframes")
    assert problems(browser) == []


def test_the_page_of_compared_runs(browser, make_run: Callable[..., Path], tmp_path):
    runs = []
    for seed in (0, 1):
        for method in ("adabn", "dann"):
            folder = make_run(f"{method}-{seed}", seed=seed + 10 * (method == "dann"), examples=0)
            run = json.loads((folder / "run.json").read_text())
            (folder / "run.json").write_text(json.dumps(run | {"adaptation": method, "seed": seed}))
            runs.append(folder)
    path = write_comparison(compare_runs(runs, "adabn"), tmp_path / "compare.html")
    browser.get_log("browser")
    browser.get(path.as_uri())
    sections = browser.find_elements(By.CSS_SELECTOR, "main > section")
    assert [section.get_attribute("id") for section in sections] == ["settings", "classes", "runs"]
    assert all(drawn(section).std() > 5 for section in sections)
    table = browser.find_element(By.CSS_SELECTOR, "#classes table")
    table.find_elements(By.CSS_SELECTOR, "thead button")[2].click()
    changes = [float(text.replace("−", "-").replace("±", "")) for text in column(table, 3)]
    assert changes == sorted(changes, reverse=True)
    assert len(browser.find_elements(By.CSS_SELECTOR, "#classes circle.seed")) == 2 * len(changes)
    assert problems(browser) == []
