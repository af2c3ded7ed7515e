"""The notebooks run as they are shipped, and what is kept in them is whole, small, and of no particular machine."""

from __future__ import annotations

import ast
import base64
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "notebooks"
NAMES = ("bad_guide", "comparing_bounds", "custom_prior")
MOST_BYTES = 400_000
MOST_PIXELS = 1200
"""Across a picture, which a page shows at its own size."""

OURS = {"inference": r"inference(\.report)?", "guides": "guides", "ppmodels": r"ppmodels\.[a-z.]+"}
"""Where the names that notebooks import from our packages may come from."""

SILENT = {"set_num_threads"}
"""Calls that give nothing to show."""

MISSING = "runs notebooks: pip install 'ppmodels[notebooks]'"

each = pytest.mark.parametrize("name", NAMES)


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.ipynb").read_text())
    return found


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for cell in code_cells(notebook):
        yield from cell["outputs"]


def tree(cell: dict[str, Any]) -> ast.Module:
    """The Python of a cell, without what only IPython understands."""
    return ast.parse("\n".join(line for line in source(cell).splitlines() if not line.startswith("%")))


def called(node: ast.AST) -> str:
    """The last part of the name of what is called; nothing if nothing is."""
    function = node.func if isinstance(node, ast.Call) else None
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def shows(cell: dict[str, Any]) -> bool:
    """Whether there is something to see once the cell has run."""
    body = tree(cell).body
    if not body:
        return False
    outside = [node for part in body if not isinstance(part, ast.FunctionDef | ast.ClassDef) for node in ast.walk(part)]
    prints = any(called(node) in ("print", "display") for node in outside)
    return prints or (isinstance(body[-1], ast.Expr) and called(body[-1].value) not in SILENT)


def texts(notebook: dict[str, Any]) -> Iterator[str]:
    """All that can be read in it: cells, and outputs that are no picture."""
    yield from map(source, notebook["cells"])
    for output in outputs(notebook):
        yield "".join(output.get("text", ""))
        yield from ("".join(data) for kind, data in output.get("data", {}).items() if not kind.startswith("image/"))


def pictures(notebook: dict[str, Any]) -> list[bytes]:
    found = ("".join(output.get("data", {}).get("image/png", "")) for output in outputs(notebook))
    return [base64.b64decode(data) for data in found if data]


def kinds(cell: dict[str, Any]) -> list[set[str]]:
    """What kinds of output a cell has; where there is a table, its plain form does not count."""
    return [({*output.get("data", ())} - {"text/plain"}) or {output["output_type"]} for output in cell["outputs"]]


def test_all_of_them_are_tested() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)


@each
def test_each_is_a_valid_notebook(name: str) -> None:
    nbformat = pytest.importorskip("nbformat", reason=MISSING)
    nbformat.validate(nbformat.read(FOLDER / f"{name}.ipynb", as_version=nbformat.NO_CONVERT))


@each
def test_each_is_short_and_begins_with_a_title_and_a_sentence(name: str) -> None:
    cells = read(name)["cells"]
    assert 8 <= len(cells) <= 14
    title, blank, *text = source(cells[0]).splitlines()
    assert cells[0]["cell_type"] == "markdown"
    assert re.match(r"# \w", title)
    assert blank == ""
    assert re.match(r"[^\W\d_][^#]+?\.(\s|$)", "\n".join(text))


@each
def test_text_explains_what_is_seen(name: str) -> None:
    """The last cell is text, and no more than three cells of code follow on each other unexplained."""
    order = "".join(cell["cell_type"][0] for cell in read(name)["cells"])  # of c and m
    assert order.endswith("m")
    assert "cccc" not in order


@each
def test_what_cells_show_is_kept(name: str) -> None:
    cells = code_cells(read(name))
    assert [cell["id"] for cell in cells if shows(cell) and not cell["outputs"]] == []
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]  # run once, from top to bottom


@each
def test_nothing_went_wrong_in_what_is_kept(name: str) -> None:
    kept = list(outputs(read(name)))
    assert [output for output in kept if output["output_type"] == "error"] == []
    assert [output for output in kept if output.get("name") == "stderr"] == []


@each
def test_pictures_are_kept_at_a_size_to_look_at(name: str) -> None:
    found = pictures(read(name))
    assert found
    for picture in found:
        assert picture.startswith(b"\x89PNG")
        assert 200 <= int.from_bytes(picture[16:20]) <= MOST_PIXELS


@each
def test_nothing_tells_of_the_machine_or_the_hour(name: str) -> None:
    """What would differ from one execution to the next, for no reason that matters."""
    notebook = read(name)
    for text in texts(notebook):
        assert not re.search(r"(?<![\w./<])/(root|home|work|tmp|usr|var|opt|mnt|Users)\b", text)
        assert not re.search(r"\b[A-Z]:\\|\b0x[0-9a-f]{6,}", text)
    assert all(not cell["metadata"] for cell in notebook["cells"])
    assert all(not output.get("metadata") for output in outputs(notebook))
    assert [cell["id"] for cell in notebook["cells"]] == [f"cell-{i + 1}" for i in range(len(notebook["cells"]))]
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"].get("language_info", {"name": "python"}) == {"name": "python"}


@each
def test_each_is_small(name: str) -> None:
    assert (FOLDER / f"{name}.ipynb").stat().st_size < MOST_BYTES


@each
def test_what_it_imports_exists_and_is_public(name: str) -> None:
    nodes = [node for cell in code_cells(read(name)) for node in ast.walk(tree(cell))]
    found = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    assert any(node.module == "inference" for node in found)
    for node in found:
        assert node.module is not None
        module, package = importlib.import_module(node.module), node.module.partition(".")[0]
        assert all(hasattr(module, alias.name) for alias in node.names)
        if package in OURS:
            assert re.fullmatch(OURS[package], node.module)
            assert {alias.name for alias in node.names} <= {*module.__all__}
    for node in nodes:
        if isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & OURS.keys()
            assert all(importlib.import_module(alias.name) for alias in node.names)
        assert not (isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr))  # nothing private


def test_a_cell_that_shows_nothing_is_told_from_one_that_does() -> None:
    """The tests above would notice."""
    loud = "1 + 1", "print(1)", "x = 1\nx", "for i in x:\n    print(i)", "%matplotlib inline\nf(x)"
    silent = "", "x = 1", "def f():\n    print(1)", "torch.set_num_threads(1)", "%matplotlib inline\nimport torch"
    assert [code for code in loud + silent if shows({"source": [code]})] == [*loud]


@pytest.mark.slow
@each
def test_each_runs_without_a_word_of_complaint(name: str, tmp_path: Path) -> None:
    """In an empty folder, from top to bottom, with outputs of the kinds that are kept."""
    nbclient = pytest.importorskip("nbclient", reason=MISSING)
    nbformat = pytest.importorskip("nbformat", reason=MISSING)
    pytest.importorskip("ipykernel", reason=MISSING)
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    kept = [kinds(cell) for cell in code_cells(notebook)]
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    said = ["".join(output["text"]) for output in outputs(notebook) if output.get("name") == "stderr"]
    assert said == []
    assert [kinds(cell) for cell in code_cells(notebook)] == kept
    assert list(tmp_path.iterdir()) == []
