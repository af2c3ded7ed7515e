"""The page in a browser: its tables sort, search and copy, it fits screens and paper, and nothing leaves it.

Needs playwright and a Chromium of the machine: `make browser` installs both (`pip install playwright`,
`apt-get install chromium`). Without either the module is skipped.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from inference.report.blocks import Page, Section, Table
from inference.report.html import render
from tests.report_pages import NASTY, edges, empty, large, nasty, ordinary, parameters, several

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: `make browser`")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: `make browser`")

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PAGES = (ordinary, several, empty, nasty, large)
DESKTOP, PHONE, NARROW = (1280, 900), (360, 740), (320, 640)

CONTRAST = """() => {
  const luminance = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const worst = {};
  for (const one of document.querySelectorAll("body *")) {
    const isText = [...one.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!isText || !one.checkVisibility() || one.closest("svg, script, .skip")) continue;
    const [a, b] = [getComputedStyle(one).color, ground(one)].map(luminance).sort((x, y) => y - x);
    const name = one.tagName + "." + one.className;
    worst[name] = Math.min(worst[name] ?? 21, (a + 0.05) / (b + 0.05));
  }
  return worst;
}"""


def numbers() -> Page:
    """All rows but the last are there without a script."""
    rng = np.random.default_rng(0)
    odd = [0.0, -0.0, 1.0625, -1.0625, 0.99995, 999.95, 999.96, 1000.5, -2500.5, 1e9, 999999999.5, 1e-4, 9.99995e-5]
    values = np.array(
        [*odd, *(rng.normal(size=1000) * 10.0 ** rng.integers(-12, 15, 1000)), *(10.0 ** np.arange(-320, 309))]
    )
    frame = pd.DataFrame({"name": "n", "value": values, "whole": np.round(np.clip(values, -9e15, 9e15))})
    table = Table("numbers", "Numbers", frame, top=len(frame) - 1)
    return Page("Numbers", (), (Section("one", "One", (table,)),), {}, "today")


@dataclass
class View:
    """A page that is open, and all it has done that it should not."""

    page: Any
    trouble: list[str] = field(default_factory=list)

    def column(self, table: int, column: int) -> list[str]:
        """The texts of a column."""
        cells = self.page.locator(f"#table-{table} tbody tr > :nth-child({column})")
        return [text.strip() for text in cells.all_inner_texts()]

    def click(self, table: int, what: str) -> None:
        """Click on a part of a table."""
        self.page.locator(f"#table-{table} {what}").click()

    def sort(self, table: int, column: int) -> None:
        """Click on the head of a column."""
        self.click(table, f"thead th:nth-child({column}) .sort")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@cache
def written(make: Callable[[], Page], folder: Path) -> Path:
    path = folder / f"{make.__name__}.html"
    path.write_text(render(make()), encoding="utf-8")
    return path


@pytest.fixture
def open_page(browser: Any, folder: Path) -> Iterator[Callable[..., View]]:
    """Open a page at a size; at the end of the test nothing must have gone wrong in it."""
    opened: list[tuple[Any, View]] = []

    def open_(make: Callable[[], Page], size: tuple[int, int] = DESKTOP, **options: Any) -> View:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        view = View(context.new_page())
        opened.append((context, view))
        address = written(make, folder).as_uri()
        allowed = (address, "data:,")
        view.page.on("console", lambda message: view.trouble.append(f"{message.type}: {message.text}"))
        view.page.on("pageerror", lambda error: view.trouble.append(f"error: {error}"))
        view.page.on("dialog", lambda dialog: view.trouble.append(f"dialog: {dialog.message}"))
        view.page.on("request", lambda one: one.url in allowed or view.trouble.append(f"request: {one.url}"))
        view.page.goto(address)
        return view

    yield open_
    for context, view in opened:
        context.close()
        assert view.trouble == []


# -- the page --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [DESKTOP, PHONE, NARROW], ids=["desktop", "phone", "narrow"])
@pytest.mark.parametrize("make", PAGES, ids=lambda make: make.__name__)
def test_pages_open_and_fit(open_page: Callable[..., View], make: Callable[[], Page], size: tuple[int, int]) -> None:
    """No error, no request, nothing wider than the window, and every section is seen."""
    view = open_page(make, size)
    assert view.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    sections = view.page.locator("section").all()
    assert len(sections) == 1 + len(make().sections) + bool(make().glossary)
    assert all(section.is_visible() for section in sections)


def test_hostile_names_run_nothing(open_page: Callable[..., View]) -> None:
    view = open_page(nasty)
    for table in (1, 9):
        view.sort(table, 1)
        view.page.fill(f"#table-{table} input", NASTY[0])
        view.click(table, ".copy")
    assert view.page.evaluate("window.pwned === undefined")
    assert view.page.locator("img").count() == 0


def test_scripts_that_are_not_the_pages_own_are_stopped(open_page: Callable[..., View]) -> None:
    view = open_page(ordinary)
    view.page.evaluate(
        "html => document.body.insertAdjacentHTML('beforeend', html)",
        '<img src="https://example.invalid/x.png" onerror="pwned = 1">',
    )
    view.page.wait_for_function("document.images[0].complete")
    assert view.page.evaluate("window.pwned === undefined")
    assert any("Content Security Policy" in line for line in view.trouble)
    view.trouble.clear()


def test_links_of_the_verdict_lead_to_their_section(open_page: Callable[..., View]) -> None:
    view = open_page(ordinary, reduced_motion="reduce")
    view.page.get_by_role("link", name="Section 3, The guide").click()
    assert view.page.evaluate("location.hash") == "#guide"
    assert view.page.locator("#guide h2").evaluate("one => one.getBoundingClientRect().top < innerHeight / 2")


# -- light, dark, paper ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [ordinary, several], ids=lambda make: make.__name__)
def test_text_is_readable_in_light_and_dark(open_page: Callable[..., View], make: Callable[[], Page]) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        page = open_page(make, color_scheme=scheme).page
        grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        contrasts = page.evaluate(CONTRAST)
        assert len(contrasts) > 20
        assert min(contrasts.values()) >= 4.5, min(contrasts.items(), key=lambda one: one[1])
    assert grounds == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}


def test_the_theme_is_chosen_and_kept(open_page: Callable[..., View]) -> None:
    page = open_page(ordinary, color_scheme="dark").page

    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    button = page.get_by_role("button", name="Theme")
    seen = [(button.inner_text(), ground())]
    for _ in range(3):
        button.click()
        seen.append((button.inner_text(), ground()))
    light, dark = "rgb(255, 255, 255)", "rgb(20, 23, 27)"
    assert seen == [("Theme: auto", dark), ("Theme: light", light), ("Theme: dark", dark), ("Theme: auto", dark)]
    button.click()
    page.reload()
    assert (button.inner_text(), ground()) == ("Theme: light", light)


def test_paper_is_light_and_without_buttons(open_page: Callable[..., View]) -> None:
    page = open_page(ordinary, color_scheme="dark").page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not any(one.is_visible() for one in page.locator("button:not(.sort), input, nav, .term").all())
    assert page.get_by_text("Section 3, The guide").is_visible()
    assert page.locator("#table-3").get_by_text("10 of 300 rows").is_visible()


def test_pages_are_whole_without_a_script(open_page: Callable[..., View]) -> None:
    view = open_page(ordinary, java_script_enabled=False)
    assert view.column(3, 1) == [f"theta[{i}]" for i in range(10)]
    assert not any(one.is_visible() for one in view.page.locator("button, input").all())


# -- tables ----------------------------------------------------------------------------------------------------


def test_the_script_writes_cells_as_python_does(open_page: Callable[..., View]) -> None:
    """Numbers of every size, halves that round either way, and 1,000 at random: as text of the page and as drawn."""
    there, drawn = open_page(numbers, java_script_enabled=False), open_page(numbers)
    drawn.page.fill("#table-1 input", "n")  # each row has one
    drawn.click(1, ".all")
    for column in (2, 3):
        written, redrawn = there.column(1, column), drawn.column(1, column)
        assert len(written) == len(numbers().sections[0].blocks[0].frame) - 1  # type: ignore[union-attr]
        assert redrawn[: len(written)] == written


def test_columns_sort_up_down_and_back(open_page: Callable[..., View]) -> None:
    view = open_page(ordinary)
    head = view.page.locator("#table-2 thead th:nth-child(2)")
    orders = []
    for _ in range(3):
        view.sort(2, 2)
        orders.append((head.get_attribute("aria-sort"), view.column(2, 2)))
    assert orders == [
        ("ascending", ["-inf", "0.1235", "0.3000", "inf", "NaN"]),
        ("descending", ["inf", "0.3000", "0.1235", "-inf", "NaN"]),
        (None, ["0.3000", "NaN", "inf", "-inf", "0.1235"]),
    ]


def test_names_sort_as_people_count(open_page: Callable[..., View]) -> None:
    view = open_page(ordinary)
    view.page.locator("#table-2 thead th:nth-child(1) .sort").focus()
    view.page.keyboard.press("Enter")
    assert view.column(2, 1) == ['a, "b"', "w", "z[2]", "z[10]", "–"]
    view.sort(2, 3)
    assert view.page.locator("#table-2 [aria-sort]").count() == 1
    assert view.column(2, 3) == ["7", "10", "12,345", "1,234,567", "1,099,511,627,776"]


def test_the_largest_of_all_rows_come_first(open_page: Callable[..., View]) -> None:
    view = open_page(large)
    for _ in range(2):
        view.sort(2, 2)
    names = parameters(10_000, 5).sort_values("r_hat", ascending=False)["name"].head(20)
    assert view.column(2, 1) == list(names)


def test_the_search_finds_rows_that_are_not_shown(open_page: Callable[..., View]) -> None:
    view = open_page(large)
    assert view.page.get_by_text("theta[9876]").count() == 0
    search, status = view.page.locator("#table-2 input"), view.page.locator("#table-2 [role=status]")
    search.fill("THETA[9876]")
    assert view.column(2, 1) == ["theta[9876]"]
    assert status.inner_text() == "1 of 10,000 rows match"
    search.fill("theta 98")
    assert len(view.column(2, 1)) == 200
    assert "200 shown" in status.inner_text()
    search.fill("no such row")
    assert (view.column(2, 1), status.inner_text()) == ([], "0 of 10,000 rows match")
    search.fill("")
    assert len(view.column(2, 1)) == 20


def test_rows_are_shown_by_the_page_or_all(open_page: Callable[..., View]) -> None:
    view = open_page(large)
    view.click(1, ".more")
    assert len(view.column(1, 1)) == 200
    view.click(1, ".more")
    assert len(view.column(1, 1)) == 400
    view.click(1, ".all")
    assert len(view.column(1, 1)) == 1000
    assert not view.page.locator("#table-1 .more").is_visible()
    view.click(1, ".fewer")
    assert len(view.column(1, 1)) == 20


@pytest.mark.parametrize("way", ["clipboard", "selection"])
def test_copies_are_all_rows_at_full_precision(open_page: Callable[..., View], way: str) -> None:
    """Through the clipboard, and as a browser that gives files none does it."""
    view = open_page(ordinary, permissions=["clipboard-read", "clipboard-write"])
    if way == "selection":
        view.page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }")
    view.page.fill("#table-3 input", "theta[7]")
    view.click(3, ".copy")
    view.page.get_by_text("Copied 300 rows").wait_for()
    rows = list(csv.reader(io.StringIO(view.page.evaluate("navigator.clipboard.readText()"))))
    frame = parameters(300)
    assert rows[0] == list(frame.columns)
    assert [row[0] for row in rows[1:]] == list(frame["name"])
    np.testing.assert_array_equal(np.array([row[1:] for row in rows[1:]], float), frame.iloc[:, 1:].to_numpy(float))


def test_copies_keep_odd_cells(open_page: Callable[..., View]) -> None:
    view = open_page(ordinary, permissions=["clipboard-read", "clipboard-write"])
    view.click(2, ".copy")
    view.page.get_by_text("Copied 5 rows").wait_for()
    rows = list(csv.reader(io.StringIO(view.page.evaluate("navigator.clipboard.readText()"))))
    assert [row[0] for row in rows[1:]] == ["z[10]", "z[2]", "w", 'a, "b"', ""]
    assert [row[1] for row in rows[1:]] == ["0.3", "NaN", "inf", "-inf", "0.123456789012345"]
    assert [float(row[3]) for row in rows[1:]] == list(edges()["small"])
    assert [row[5] for row in rows[1:]] == [str(2**63), "5", "", "1.5", "none"]


def test_definitions_are_told_on_hover_and_focus(open_page: Callable[..., View]) -> None:
    page = open_page(ordinary, reduced_motion="reduce").page
    tip = page.get_by_role("tooltip")
    assert tip.count() == 0  # hidden
    page.locator("#table-2 thead th:nth-child(2)").scroll_into_view_if_needed()
    page.locator("#table-2 thead th:nth-child(2)").hover()
    assert tip.inner_text().startswith("Pareto k-hat")
    page.keyboard.press("Escape")
    assert tip.count() == 0
    link = page.get_by_role("link", name="What k-hat means")
    link.focus()
    assert tip.is_visible()
    assert link.get_attribute("aria-describedby") == "tip"
    link.press("Enter")
    assert page.locator("dt:target").inner_text() == "k-hat"


def test_the_keyboard_reaches_everything(open_page: Callable[..., View]) -> None:
    page = open_page(ordinary).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    unnamed = [one for one in page.locator("button").all() if one.is_visible() and not one.inner_text().strip()]
    assert unnamed == []
