"""The page as HTML: it parses strictly, fetches nothing, runs nothing but its own script, and loses no number."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from xml.etree.ElementTree import Element

import numpy as np
import pandas as pd
import pytest

from inference.report.blocks import Page, Picture, Section, Table, Text
from inference.report.grid import shown
from inference.report.html import HEADLINES, WORDS, render
from inference.report.verdict import Judgement, Verdict
from tests.report_pages import (
    GOLDEN,
    HTML,
    NASTY,
    curve,
    edges,
    empty,
    large,
    nasty,
    ordinary,
    parsed,
    several,
    structure,
)

PAGES = (ordinary, several, empty, nasty, large)
PAGE = pytest.mark.parametrize("make", PAGES, ids=lambda make: make.__name__)
SYMBOLS = {"NaN": math.nan, "inf": math.inf, "-inf": -math.inf}


@cache
def html_of(make: Callable[[], Page]) -> str:
    return render(make())


@cache
def parsed_once(html: str) -> Element:
    return parsed(html)


def elements(html: str, tag: str) -> Iterator[Element]:
    return parsed_once(html).iter(f"{HTML}{tag}")


def words(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def page_of(*blocks: Text | Table | Picture, glossary: dict[str, str] | None = None) -> Page:
    return Page("Page", (), (Section("one", "One", blocks),), glossary or {}, "today")


def data_of(html: str) -> list[dict[str, list[list[object]]]]:
    scripts = elements(html, "script")
    return [json.loads("".join(one.itertext())) for one in scripts if one.get("type") == "application/json"]


# -- the document ----------------------------------------------------------------------------------------------


@PAGE
def test_pages_parse_strictly(make: Callable[[], Page]) -> None:
    html = html_of(make)
    assert html.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert len(list(elements(html, "h1"))) == 1


@PAGE
def test_anchors_are_unique_and_lead_somewhere(make: Callable[[], Page]) -> None:
    tree = parsed_once(html_of(make))
    ids = [one.get("id") for one in tree.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    targets = {value for one in tree.iter() for name, value in one.attrib.items() if name.endswith("href")}
    assert targets - {"data:,"} <= {f"#{name}" for name in ids}
    pointers = ("aria-labelledby", "aria-describedby")
    pointed = {name for one in tree.iter() for key in pointers for name in one.get(key, "").split()}
    assert pointed <= set(ids)


@PAGE
def test_nothing_is_fetched(make: Callable[[], Page]) -> None:
    tree = parsed_once(html_of(make))
    for one in tree.iter():
        for name, value in one.attrib.items():
            if name.rpartition("}")[2] in ("src", "href", "srcset", "action", "data", "poster", "style"):
                assert value.startswith(("#", "data:")) or name == "style", (one.tag, name, value)
                assert not re.search(r"url\((?!#)|@import", value)
            assert not name.startswith("on"), (one.tag, name)
    styles = "".join(words(one) for one in tree.iter(f"{HTML}style"))
    assert not re.search(r"https?:|url\(|@import", styles)


@PAGE
def test_the_policy_lets_one_script_run(make: Callable[[], Page]) -> None:
    html = html_of(make)
    scripts = [one for one in elements(html, "script") if one.get("type") != "application/json"]
    (script,) = ("".join(one.itertext()) for one in scripts)
    policy = next(one for one in elements(html, "meta") if one.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.get("content", "").split(";"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "<!--" not in script


@PAGE
def test_headings_skip_no_level(make: Callable[[], Page]) -> None:
    levels = [
        int(one.tag[-1]) for one in parsed_once(html_of(make)).iter() if re.fullmatch(rf"{HTML}h[1-6]", str(one.tag))
    ]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_pages_are_the_same_every_time() -> None:
    assert render(ordinary()) == html_of(ordinary)


def test_structure_is_the_golden_one() -> None:
    """Where this fails and the change is meant, `python -m tests.report_pages` writes the golden file anew."""
    assert structure(html_of(ordinary)) == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_large_pages_are_small_and_quick() -> None:
    begun = time.perf_counter()
    html = render(large())
    assert time.perf_counter() - begun < 2
    assert len(html.encode()) < 1.5e6
    assert len(list(elements(html, "tr"))) == 2 + 20 + 20


# -- names from users ------------------------------------------------------------------------------------------


def test_hostile_names_are_only_shown() -> None:
    tree = parsed_once(html_of(nasty))
    tags = {str(one.tag) for one in tree.iter()}
    assert not {f"{HTML}img", f"{HTML}b ", f"{HTML}textarea", f"{HTML}iframe"} & tags
    assert len([one for one in tree.iter(f"{HTML}script") if one.get("type") is None]) == 1
    text = "".join(tree.itertext())
    cleaned = [re.sub("[\x00\x1b]", "\N{REPLACEMENT CHARACTER}", name) for name in NASTY]
    for name in cleaned[:6] + cleaned[7:]:
        assert text.count(name) >= 10
    assert "49" not in {words(one) for one in tree.iter(f"{HTML}h2")}


@pytest.mark.parametrize("name", NASTY)
def test_hostile_names_stay_whole_in_the_data(name: str) -> None:
    frame = pd.DataFrame({name: [name, 1.5]})
    (data,) = data_of(render(page_of(Table(name, name, frame))))
    assert data == {"columns": [name], "kinds": ["text"], "cells": [[name, 1.5]]}


def test_backticks_are_code() -> None:
    html = render(page_of(Text("the site `<z>` is `open")))
    assert "the site <code>&lt;z&gt;</code> is `open" in html


# -- verdicts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", WORDS)
def test_states_are_a_word_and_a_shape(state: str) -> None:
    verdict = Verdict((Judgement("Guide", state, "A sentence.", "one"),))  # type: ignore[arg-type]
    page = Page("Page", (("a run", verdict),), (Section("one", "The guide", ()),), {}, "today")
    (card,) = elements(render(page), "article")
    assert words(card).startswith(HEADLINES[verdict.colour] + " a run")
    (judgement,) = card.iter(f"{HTML}li")
    assert words(judgement) == f"{WORDS[state]} Guide A sentence. Section 1, The guide"  # type: ignore[index]
    assert [link.get("href") for link in judgement.iter(f"{HTML}a")] == ["#one"]
    assert len([one for one in judgement.iter() if str(one.tag).endswith("}use")]) == 1


def test_judgements_without_a_section_have_no_link() -> None:
    page = Page("Page", (("run", Verdict((Judgement("Guide", "bad", "A sentence.", "nowhere"),))),), (), {}, "today")
    assert 'href="#nowhere"' not in render(page)


def test_the_verdict_comes_before_everything() -> None:
    html = html_of(ordinary)
    assert html.index("Red: do not rely on this run") < html.index('id="contents"') < html.index('id="training"')


def test_sections_wear_the_worst_of_their_judgements() -> None:
    heads = [words(one) for one in elements(html_of(several), "h3") if "chapter" in one.get("class", "")]
    assert heads[0] == "2 Training Good"
    assert heads[2] == "4 The guide Bad"
    assert heads[-2:] == ["8 Chains Good", "9 Chains Not looked at"]


@pytest.mark.parametrize("names", [("a", "a"), ("a b",), ("",), ("glossary",), ("table-1",), ("ü",), ("a-title",)])
def test_sections_need_ids_of_their_own(names: tuple[str, ...]) -> None:
    sections = tuple(Section(name, "A section", ()) for name in names)
    with pytest.raises(ValueError, match="`sections` should each have an id"):
        render(Page("Page", (), sections, {}, "today"))


def test_watched_pages_say_so() -> None:
    html = html_of(several)
    assert '<meta http-equiv="refresh" content="30">' in html
    assert "This page is watched: it loads itself again every 30 seconds." in html
    assert "refresh" not in html_of(ordinary)


# -- tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (0.123456, "0.1235"),
        (1.0, "1.000"),
        (0.99996, "1.000"),
        (999.96, "1,000"),
        (-1234.5, "-1,235"),
        (123456789.5, "123,456,790"),
        (1e9, "1.000e+9"),
        (1.23456e-9, "1.235e-9"),
        (1e-4, "0.0001000"),
        (1.0625, "1.063"),
        (-0.0, "0"),
        (5e-324, "4.941e-324"),
        (1.7976931348623157e308, "1.798e+308"),
        ("NaN", "NaN"),
        ("-inf", "-inf"),
        (None, "–"),
        (True, "yes"),
    ],
)
def test_cells_have_four_digits(cell: float | str | None, text: str) -> None:
    assert shown(cell) == text


def test_whole_numbers_are_shown_in_full() -> None:
    assert [shown(cell, "count") for cell in (7, 12345.0, 2**53 - 1)] == ["7", "12,345", "9,007,199,254,740,991"]


def test_odd_cells_are_shown() -> None:
    (body,) = elements(render(page_of(Table("edges", "Edges", edges()))), "tbody")
    rows = [[words(cell) for cell in row] for row in body]
    assert rows[0] == ["z[10]", "0.3000", "10", "1.235e-9", "yes", "9223372036854775808"]
    assert rows[1] == ["z[2]", "NaN", "12,345", "4.000e+12", "no", "5"]
    assert rows[2] == ["w", "inf", "7", "0", "yes", "–"]
    assert rows[4] == ["–", "0.1235", "1,099,511,627,776", "1,000", "yes", "none"]


def test_numbers_are_aligned_and_names_head_their_rows() -> None:
    (body,) = elements(render(page_of(Table("edges", "Edges", edges()))), "tbody")
    assert [cell.tag.removeprefix(HTML) for cell in body[0]] == ["th", *["td"] * 5]
    assert [cell.get("class") for cell in body[0]] == ["text", "number", "count", "number", "text", "text"]
    assert body[0][0].get("scope") == "row"


def test_the_data_are_the_frame() -> None:
    """Every bit of every number, NaN and infinities too."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "name": [f"θ[{i}]" for i in range(60)],
            "double": rng.normal(size=60) * 10.0 ** rng.integers(-300, 300, 60),
            "single": rng.normal(size=60).astype(np.float32),
            "count": rng.integers(-(2**40), 2**40, 60),
            "flag": rng.random(60) < 0.5,
        }
    )
    frame.loc[:2, "double"] = [np.nan, np.inf, -np.inf]
    (data,) = data_of(render(page_of(Table("t", "T", frame, top=5))))
    assert data["columns"] == list(frame.columns)
    assert data["kinds"] == ["text", "number", "number", "count", "text"]
    back = pd.DataFrame(
        {
            name: [SYMBOLS.get(cell, cell) if kind == "number" else cell for cell in cells]  # type: ignore[call-overload]
            for name, kind, cells in zip(data["columns"], data["kinds"], data["cells"], strict=True)
        }
    )
    pd.testing.assert_frame_equal(back.astype(frame.dtypes.to_dict()), frame, check_exact=True)


@pytest.mark.parametrize(
    ("values", "kind", "cells"),
    [
        (pd.array([1, None], dtype="Int64"), "count", [1, None]),
        (pd.array([1.5, None], dtype="Float64"), "number", [1.5, None]),
        (pd.Categorical(["a", "b"]), "text", ["a", "b"]),
        (pd.to_datetime(["2025-01-02", None]), "text", ["2025-01-02T00:00:00", None]),
        ([1.0, float("nan")], "count", [1.0, "NaN"]),
        ([float("nan")] * 2, "number", ["NaN"] * 2),
        ([None, None], "text", [None, None]),
        ([2**64, 1], "text", [str(2**64), 1]),
        (["a", None], "text", ["a", None]),
        ([(1, 2), {"a": 1}], "text", ["(1, 2)", "{'a': 1}"]),
    ],
)
def test_kinds_of_columns(values: object, kind: str, cells: list[object]) -> None:
    (data,) = data_of(render(page_of(Table("t", "T", pd.DataFrame({"x": values})))))
    assert data["kinds"] == [kind]
    assert [str(cell)[:19] for cell in data["cells"][0]] == [str(cell)[:19] for cell in cells]


def test_only_long_tables_are_searched() -> None:
    frame = pd.DataFrame({"x": range(30)})
    assert 'type="search"' not in render(page_of(Table("t", "T", frame, top=30)))
    html = render(page_of(Table("t", "T", frame, top=29)))
    assert "Search all 30 rows" in html
    assert "29 of 30 rows" in html


def test_columns_carry_their_definition() -> None:
    table = Table("t", "T", pd.DataFrame({"r_hat": [1.0], "x": [2.0]}), {"r_hat": "R-hat", "x": "unknown"})
    html = render(page_of(table, glossary={"ESS": "A size.", "R-hat": 'Wider than "one".'}))
    heads = next(elements(html, "thead"))[0]
    assert [head.get("title") for head in heads] == ['Wider than "one".', None]
    assert [link.get("href") for link in heads.iter(f"{HTML}a")] == ["#term-2"]
    assert [words(one) for one in elements(html, "dt")] == ["ESS", "R-hat"]


# -- figures ---------------------------------------------------------------------------------------------------


def test_figures_say_what_they_show() -> None:
    html = render(page_of(Picture(curve, "A < B by 3 nats.", "Higher is better."), Picture(curve, "Other.", "More.")))
    figures = list(elements(html, "figure"))
    assert [figure.get("id") for figure in figures] == ["figure-1", "figure-2"]
    assert words(next(figures[0].iter(f"{HTML}figcaption"))) == "Figure 1. Higher is better."
    (svg,) = (one for one in figures[0].iter() if str(one.tag).endswith("}svg"))
    assert svg.get("role") == "img"
    assert "A < B by 3 nats." in words(svg)
