"""The README is run: its Python blocks in order, in one namespace; its commands exist; its tables are true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_blocks_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # they write files
    namespace: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "problem" not in printed.replace("0 problem", "")
    assert "IWAE-500" in printed
    assert "nats per datum" in printed


def test_commands_exist() -> None:
    targets = (ROOT / "Makefile").read_text()
    listed = subprocess.run(
        [sys.executable, "-m", "ppmodels.cli", "--help"], capture_output=True, text=True, check=True
    )
    for line in "".join(blocks("sh")).splitlines():
        program, verb = line.split("#")[0].split()[:2]
        where = f"{verb}:" if program == "make" else verb
        assert where in (targets if program == "make" else listed.stdout), line


def test_the_custom_prior_takes_fifteen_lines() -> None:
    assert len(blocks("python")[0].strip().splitlines()) <= 15


def test_the_table_of_models_is_the_zoos() -> None:
    from ppmodels.zoo import table

    for row in table():
        assert f"| `{row['model']}` |" in README
        assert row["paper"] in README


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
