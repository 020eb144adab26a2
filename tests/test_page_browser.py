"""HTML pages in a browser: Debian's chromium, driven by Selenium."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

import i0tscore
from i0tscore.render.document import Document, Notes, Paragraph, Signatures, Table
from i0tscore.render.page import render_html
from i0tscore.results import Resampling, Result
from i0tscore.results.comparison import RunScores, compare_systems
from i0tscore.samples import Skipped
from i0tscore.views.comparison_page import comparison_page

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="chromium and chromedriver are not installed"),
    pytest.mark.enable_socket,  # Selenium talks to the browser on the local host
]

SWITCHES = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1200,900",
)  # fmt: skip
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
PHONE = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
N = 120
HOSTILE = (
    "<script>document.title = 'changed'</script>",
    "</script></template><script>document.title = 'changed'</script>",
    "\"'><img src=x onerror=\"document.title = 'changed'\">",
    "<!-- <script> {{ 7 * 7 }} ${title} ]]>",
    "right \u202eto left\u2066 and null \0 byte",
    "word " * 10_000,
    "unbroken" * 200,
)
HOSTILE_ID = '"><svg onload="document.title = \'changed\'">/../a.png'


def make_result() -> Result:
    """Return scores with statistics that have reference pairs, cut and repeated captions, and skipped samples."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(400, 16))
    images, captions = (shared + 0.8 * rng.normal(size=shared.shape) + shift for shift in (2, -2))
    captions[200 : 200 + N : 4] = rng.normal(size=(N // 4, 16)) - 2
    statistics = i0tscore.fit(images[:200], captions[:200], name="toy", source="200 random pairs")
    scorer = i0tscore.I0TScorer(statistics=statistics, resamples=50)
    ids = [HOSTILE_ID, *(f"image {i:03}.png" for i in range(1, N))]
    texts = [*HOSTILE, *("A photo of nothing." for _ in range(3)), *(f"Caption number {i}." for i in range(N))][:N]
    return dataclasses.replace(
        scorer.score(images[200 : 200 + N], captions[200 : 200 + N], ids=ids),
        captions=tuple(texts),
        tokens=np.arange(N) + 20,
        tokens_cut=np.maximum(np.arange(N) - 110, 0),
        skipped=(Skipped("<b>lost</b>", "no such file"),),
    )


@pytest.fixture(scope="module")
def result() -> Result:
    return make_result()


@pytest.fixture(scope="module")
def page(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of that result, with one image that vanished."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    images: list[Any] = [Image.new("RGB", (40 + i, 60), (2 * i, 90, 120)) for i in range(N)]
    images[3] = tmp_path_factory.mktemp("images") / "vanished.png"
    result.to_html(file, images)
    return file


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        for switch in (*SWITCHES, f"--user-data-dir={profile}"):
            options.add_argument(switch)
        started = webdriver.Chrome(options, Service(DRIVER))
        started.get("data:text/html,ready")  # after the browser's own first page
        yield started
        started.quit()


@pytest.fixture
def browser(driver: webdriver.Chrome, page: Path) -> Iterator[webdriver.Chrome]:
    """The browser with the page open; nothing may be requested, changed, or complained about."""
    visit(driver, page)
    WebDriverWait(driver, 20).until(lambda _: driver.find_element(By.ID, "controls").is_displayed())
    yield driver
    assert driver.title.startswith("Caption scores: I0TScore ")
    check_silent(driver, page)


def visit(driver: webdriver.Chrome, page: Path) -> None:
    """Open a page, and forget what happened before; on a busy machine, the driver may return too early."""
    driver.get_log("performance")
    driver.get(page.as_uri())
    WebDriverWait(driver, 20).until(lambda _: driver.execute_script("return document.readyState") == "complete")
    assert driver.current_url == page.as_uri()


def check_silent(driver: webdriver.Chrome, page: Path) -> None:
    """Check that the console is empty, and that only the page was loaded."""
    assert driver.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert {url for url in urls if not url.startswith(("data:", "blob:", "chrome:"))} == {page.as_uri()}


def shown(browser: webdriver.Chrome) -> list[str]:
    """Return the ids of the rows, in order."""
    ids: list[str] = browser.execute_script(
        "return [...document.querySelectorAll('#rows .id')].map((one) => one.textContent)"
    )
    return ids


def field(browser: webdriver.Chrome, name: str) -> Any:
    return browser.find_element(By.NAME, name)


def status(browser: webdriver.Chrome) -> str:
    return str(browser.find_element(By.ID, "status").text)


def by_score(result: Result, metric: str = "I0TScore") -> list[str]:
    """Return the ids from the lowest score; equal scores stay in the order of I0TScore."""
    return [result.ids[i] for i in np.lexsort((result["I0TScore"].values, result[metric].values))]


def violations(browser: webdriver.Chrome) -> list[str]:
    """Return what axe-core calls serious or critical."""
    browser.execute_script(AXE.read_text())
    found = browser.execute_async_script("axe.run().then(arguments[0])")["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")
    ]


def test_rows_are_sorted_by_headers(browser, result):
    assert shown(browser) == by_score(result)[:50]
    heads = {head.text.strip(" ↑"): head for head in browser.find_elements(By.CSS_SELECTOR, "[data-sort]")}
    assert heads["I0TScore"].get_attribute("aria-sort") == "ascending"
    heads["I0TScore"].find_element(By.TAG_NAME, "button").click()
    assert heads["I0TScore"].get_attribute("aria-sort") == "descending"
    assert shown(browser) == by_score(result)[::-1][:50]
    heads["CLIPScore"].find_element(By.TAG_NAME, "button").click()
    assert shown(browser) == by_score(result, "CLIPScore")[:50]
    assert heads["I0TScore"].get_attribute("aria-sort") is None
    Select(field(browser, "sort")).select_by_visible_text("caption bias")
    Select(field(browser, "order")).select_by_visible_text("highest first")
    assert shown(browser)[0] == result.ids[int(result.breakdown["caption_bias"].argmax())]


def test_rows_are_filtered_by_values_words_and_groups(browser, result):
    probabilities = result["I0TScore"].p_match
    Select(field(browser, "measure")).select_by_visible_text("p(match)")
    field(browser, "from").send_keys("0.2")
    field(browser, "to").send_keys("0.9")
    between = (probabilities >= 0.2) & (probabilities <= 0.9)
    assert status(browser) == f"{between.sum()} of 120 samples, 0 selected"
    browser.find_element(By.CSS_SELECTOR, "[type=reset]").click()
    field(browser, "search").send_keys("NUMBER caption 7.")
    found = [name for name, text in zip(result.ids, result.captions, strict=True) if text.endswith("number 7.")]
    WebDriverWait(browser, 10).until(lambda _: len(shown(browser)) < 20)
    assert set(found) <= set(shown(browser))
    browser.find_element(By.CSS_SELECTOR, "[aria-label='Show: Cut captions']").click()
    assert set(shown(browser)) == {result.ids[i] for i in range(111, 120)}
    Select(field(browser, "group")).select_by_visible_text("One caption for several images")
    assert set(shown(browser)) == {result.ids[i] for i in (7, 8, 9)}
    Select(field(browser, "group")).select_by_visible_text("Likely mismatched")
    assert status(browser).startswith(f"{(probabilities < 0.5).sum()} of 120 samples")
    field(browser, "search").send_keys("no such words")
    assert shown(browser) == []


def test_pages_follow_each_other(browser, result):
    assert browser.find_element(By.ID, "page").text == "Page 1 of 3"
    assert not browser.find_element(By.ID, "previous").is_enabled()
    browser.find_element(By.ID, "next").click()
    browser.find_element(By.ID, "next").click()
    assert shown(browser) == by_score(result)[100:]
    assert not browser.find_element(By.ID, "next").is_enabled()


def test_selections_are_exported(browser, result, tmp_path):
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.find_element(By.CSS_SELECTOR, "[aria-label='Show: Cut captions']").click()
    browser.find_element(By.ID, "ids").click()
    assert exported(browser, tmp_path / "ids.txt").splitlines() == shown(browser)
    browser.find_element(By.CSS_SELECTOR, "[type=reset]").click()
    WebDriverWait(browser, 10).until(lambda _: len(shown(browser)) == 50)
    for i in (0, 2):
        browser.find_elements(By.CSS_SELECTOR, "#rows input")[i].click()
    assert status(browser) == "120 of 120 samples, 2 selected"
    browser.find_element(By.ID, "lines").click()
    lines = [json.loads(line) for line in exported(browser, tmp_path / "samples.jsonl").splitlines()]
    assert [line["id"] for line in lines] == [by_score(result)[i] for i in (0, 2)]
    for line in lines:
        sample = result.samples[result.ids.index(line["id"])]
        assert line["caption"] == sample.caption
        assert line["I0TScore"] == pytest.approx(sample.scores["I0TScore"].value, abs=1e-6)
        assert line["I0TScore.p_match"] == pytest.approx(sample.scores["I0TScore"].p_match, abs=1e-6)
    browser.find_element(By.ID, "pick").click()
    assert status(browser) == "120 of 120 samples, 120 selected"


def exported(browser: webdriver.Chrome, file: Path) -> str:
    WebDriverWait(browser, 20).until(lambda _: file.exists())
    return file.read_text(encoding="utf-8")


def test_details_show_the_breakdown(browser, result):
    row = browser.find_element(By.CSS_SELECTOR, "#rows tr")
    summary = row.find_element(By.TAG_NAME, "summary")
    assert not row.find_element(By.CLASS_NAME, "parts").is_displayed()
    summary.click()
    numbers = [float(one.text) for one in row.find_elements(By.CSS_SELECTOR, ".parts dt + dd")]
    assert sum(numbers[:4]) == pytest.approx(numbers[4], abs=0.003)
    lowest = result.samples[int(result["I0TScore"].values.argmin())]
    assert "of 120 for this image among the distinct captions of this run" in row.text
    assert f"{lowest.breakdown['semantic']:+.3f}" in row.text


def test_the_page_works_with_the_keyboard_alone(browser, result):
    def tab_to(matches):
        for _ in range(60):
            webdriver.ActionChains(browser).send_keys(Keys.TAB).perform()
            if matches(focused := browser.switch_to.active_element):
                outline = focused.value_of_css_property("outline-style")
                assert outline == "solid", focused.get_attribute("outerHTML")
                return focused
        raise AssertionError("not reached")

    tab_to(lambda one: one.get_attribute("aria-label") == "Show: Likely mismatched").send_keys(Keys.ENTER)
    assert status(browser).startswith(str((result["I0TScore"].p_match < 0.5).sum()))
    tab_to(lambda one: one.text == "Reset").send_keys(Keys.SPACE)
    tab_to(lambda one: one.text == "CLIPScore").send_keys(Keys.ENTER)
    assert shown(browser) == by_score(result, "CLIPScore")[:50]
    tab_to(lambda one: one.get_attribute("type") == "checkbox").send_keys(Keys.SPACE)
    assert status(browser).endswith("1 selected")
    tab_to(lambda one: one.tag_name == "summary").send_keys(Keys.ENTER)
    assert browser.find_element(By.CLASS_NAME, "parts").is_displayed()


def test_hostile_text_is_only_text(browser, result):
    assert browser.find_elements(By.CSS_SELECTOR, "img[src=x], svg[onload], b") == []
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 2
    field(browser, "search").send_keys("document.title")
    row = next(one for one in browser.find_elements(By.CSS_SELECTOR, "#rows tr") if HOSTILE[0] in one.text)
    assert HOSTILE_ID in row.text
    browser.find_element(By.CSS_SELECTOR, "[type=reset]").click()
    field(browser, "search").send_keys("byte")
    assert "right to left and null byte" in browser.find_element(By.ID, "rows").text


def test_vanished_images_are_marked(browser, result):
    field(browser, "search").send_keys("{{")
    assert "vanished.png: there is no such file" in browser.find_element(By.ID, "rows").text
    assert browser.find_elements(By.CSS_SELECTOR, "#rows img") == []
    field(browser, "search").clear()
    browser.find_element(By.CSS_SELECTOR, "[type=reset]").click()
    WebDriverWait(browser, 10).until(lambda _: len(shown(browser)) == 50)
    sizes = browser.execute_script("return [...document.querySelectorAll('#rows img')].map((one) => one.naturalHeight)")
    assert sizes
    assert all(size == 60 for size in sizes)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_and_fits_a_phone(browser, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    color = browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    assert color == ("rgba(255, 255, 255, 1)" if scheme == "light" else "rgba(20, 23, 27, 1)")
    browser.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    assert violations(browser) == []
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 360
    assert violations(browser) == []
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_page_prints_without_controls(browser):
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not browser.find_element(By.ID, "controls").is_displayed()
    assert browser.find_element(By.CSS_SELECTOR, "#rows tr").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_page_reads_without_its_script(driver, page, result):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    driver.get(page.as_uri())
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert shown(driver) == by_score(result)[:50]
    assert not driver.find_element(By.ID, "controls").is_displayed()


def test_pages_of_comparisons_are_accessible_and_escaped(driver, result, tmp_path):
    ids = tuple(f"{HOSTILE_ID} {i}" for i in range(N))
    systems = {
        name: RunScores(ids, {"I0TScore": values}, {}, result.captions[::step])
        for name, values, step in (("<i>a</i>", np.arange(N) / N, 1), ("b", np.sin(np.arange(N)), -1))
    }
    file = tmp_path / "comparison.html"
    comparison = compare_systems(systems, "<i>a</i>", resampling=Resampling(resamples=50))
    images = {name: Image.new("RGB", (30, 20)) for name in ids[10:]}
    file.write_text(comparison_page(comparison, images), encoding="utf-8")
    visit(driver, file)
    assert driver.title == "Comparison with <i>a</i>: I0TScore"
    assert driver.find_elements(By.CSS_SELECTOR, "i, b, svg[onload]") == []
    assert violations(driver) == []
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    assert driver.execute_script("return document.documentElement.scrollWidth") == 360
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    check_silent(driver, file)


def test_pages_of_documents_are_accessible_and_escaped(driver, tmp_path):
    table = Table(["<b>system</b>", "mean"], [[text, "0.5"] for text in HOSTILE[:5]], "A table & more")
    blocks = [table, Paragraph([HOSTILE[0]]), Notes(HOSTILE), Signatures(["I0TScore|m:<lite>"])]
    file = tmp_path / "document.html"
    file.write_text(render_html(Document(blocks)), encoding="utf-8")
    visit(driver, file)
    assert driver.title == "i0tscore report"
    assert HOSTILE[0] in driver.find_element(By.TAG_NAME, "tbody").text
    assert violations(driver) == []
    check_silent(driver, file)
