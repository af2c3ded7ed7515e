"""The examples run as they are shipped, at a size that takes seconds."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import inference.compare
from examples import compare_bounds, digits
from ppmodels.data import Dataset

ROWS = ["ELBO", "IWAE-20", "IWAE-1000", "Renyi(0.5)-1000", "TVO(20)-1000", "truncated-1000", "CUBO(2)-1000"]


def test_three_trained_pairs_under_eight_bounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference.compare, "SIMULATED", 4)
    compare_bounds.main(epochs=1, n=3, temperatures=2, out=str(tmp_path / "new" / "bounds.svg"))
    out = capsys.readouterr().out
    assert re.findall("trained with (.+)", out) == ["ELBO", "IWAE", "DReG"]
    for label in ROWS:
        assert len(re.findall(rf"^ *{re.escape(label)} ", out, flags=re.MULTILINE)) == 2 * 3  # on simulated data too
    assert len(re.findall("^ *reverse AIS-2x16 ", out, flags=re.MULTILINE)) == 3
    picture = (tmp_path / "new" / "bounds.svg").read_text()
    assert picture.count("DReG") == 2  # a title for the data and one for simulated ones
    assert picture.count("DReG (simulated data)") == 1


def test_it_is_as_short_as_promised() -> None:
    assert len(Path(compare_bounds.__file__).read_text().splitlines()) < 40


def test_the_demo_trains_judges_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = digits.digits

    def little(*args: Any, split: str) -> Dataset:
        return whole(*args, split=split).head(300 if split == "train" else 20)

    monkeypatch.setattr(digits, "digits", little)
    digits.main(epochs=1, out=tmp_path)
    first = capsys.readouterr().out
    for name in ("elbo", "iwae"):
        assert list(pd.read_csv(tmp_path / name / "bounds.csv")["bound"][:3]) == ["ELBO", "IWAE-5", "IWAE-50"]
        for picture in ("samples.png", "reconstructions.png"):
            assert (tmp_path / name / picture).read_bytes().startswith(b"\x89PNG")
    digits.main(epochs=1, out=tmp_path)  # all is done already
    again = capsys.readouterr().out
    gain = re.compile("log p.x. of the pair fitted with iwae is (.+)")
    assert gain.findall(again) == gain.findall(first) != []
