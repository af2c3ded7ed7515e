"""The examples run as they are shipped, at a size that takes seconds."""

import ast
import re
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import inference.bounds.parsing
import inference.compare
from examples import (
    compare_bounds,
    custom_prior,
    digits,
    gaussian_mixture_vae,
    helmholtz,
    posterior,
    semi_supervised,
    stick_breaking,
)
from inference import FewParticlesWarning
from inference.schedule import Annealing
from ppmodels.data import Dataset

EXAMPLES = sorted(Path(compare_bounds.__file__).parent.glob("*.py"))
LENGTHS = {"compare_bounds": range(30, 40)}
"""Of examples that are not of 40 to 80 lines."""

ROWS = ["ELBO", "IWAE-20", "IWAE-1000", "Renyi(0.5)-1000", "TVO(20)-1000", "truncated-1000", "CUBO(2)-1000"]


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains of bounds find their steps in less time."""
    monkeypatch.setattr(inference.bounds.parsing, "Annealing", partial(Annealing, num_pilot=10, num_warmup=5))


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


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_is_short_and_says_how_to_run_it(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) in LENGTHS.get(path.stem, range(40, 81))
    assert f"python examples/{path.name}" in (ast.get_docstring(ast.parse(text)) or "")
    assert text.rstrip().splitlines()[-1].startswith("    main(")


def test_each_is_run_by_a_test() -> None:
    tests = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [path.stem for path in EXAMPLES if f"{path.stem}.main(" not in tests] == []


def test_the_demo_trains_judges_reports_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, chains = digits.digits, digits.examine_worst

    def little(*args: Any, split: str) -> Dataset:
        return whole(*args, split=split).head(300 if split == "train" else 20)

    def few(*args: Any, **how: Any) -> Any:
        return chains(*args, num_chains=4, num_samples=20, num_warmup=10, **how)

    monkeypatch.setattr(digits, "digits", little)
    monkeypatch.setattr(digits, "examine_worst", few)
    monkeypatch.setattr(digits, "BOUNDS", ["elbo", "iwae:5", "iwae:5000", "bdmc:3:4"])
    digits.main(epochs=1, out=tmp_path)
    first = capsys.readouterr().out
    for name in ("elbo", "iwae"):
        assert list(pd.read_csv(tmp_path / name / "bounds.csv")["bound"][:3]) == ["ELBO", "IWAE-5", "IWAE-5000"]
    page = (tmp_path / "report.html").read_text()
    assert first.splitlines()[-1] == str(tmp_path / "report.html")
    assert re.findall(r"^(elbo|iwae): (?:green|amber|red)$", first, flags=re.MULTILINE) == ["elbo", "iwae"]
    assert {"comparison", "guide-of-1", "latents-of-2"} <= set(re.findall(r'<section[^>]* id="([^"]+)"', page))
    assert "could not be made" not in page
    digits.main(epochs=1, out=tmp_path)  # all is trained already
    again = capsys.readouterr().out
    gain = re.compile("log p.x. of the pair fitted with iwae is (.+)")
    assert gain.findall(again) == gain.findall(first) != []


@pytest.mark.filterwarnings("ignore:K = 1000 is too small")  # so little training is said to be little
def test_a_prior_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Checked, trained, bracketed, sampled, diagnosed."""
    custom_prior.main(epochs=1, size=60, n=4, steps=20, out=str(tmp_path / "shell.png"))
    out = capsys.readouterr().out
    assert out.startswith("ShellPrior: sound\n")
    assert len(re.findall("^ *(reverse )?AIS-20x16 ", out, flags=re.MULTILINE)) == 3
    assert re.search(r"log p\(x\) in \[.*\] nats per datum at 95%", out)
    assert "median k-hat" in out
    assert "z: " in out
    assert (tmp_path / "shell.png").read_bytes().startswith(b"\x89PNG")


def test_its_density_is_the_standard_normals_where_distances_are() -> None:
    chi_square = torch.distributions.TransformedDistribution(
        torch.distributions.Chi2(torch.tensor(5.0)), [torch.distributions.PowerTransform(torch.tensor(0.5))]
    )
    z = torch.randn(7, 5)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(custom_prior.Shell(chi_square, 5).log_prob(z), expected)


def test_sticks_are_broken_further_while_mass_remains(capsys: pytest.CaptureFixture[str]) -> None:
    stick_breaking.main(epochs=1, size=60, components=2, most=4)
    out = capsys.readouterr().out
    assert re.findall(r"^(\d) components leave", out, flags=re.MULTILINE) == ["2", "4"]
    assert len(re.findall("IWAE-500", out)) == 2
    assert len(re.findall("error by neighbours", out)) == 2


def test_clusters_are_found_and_judged(capsys: pytest.CaptureFixture[str]) -> None:
    gaussian_mixture_vae.main(1, 60)
    found = re.findall(r"^(\w+): H\(y\|x\) [\d.]+ nats, accuracy [\d.]+$", capsys.readouterr().out, flags=re.MULTILINE)
    assert found == ["GMVAE", "M2", "StyleGMVAE"]


def test_labels_teach(capsys: pytest.CaptureFixture[str]) -> None:
    semi_supervised.main(1, 10, 100)
    found = re.findall(r"^(.+): error ([\d.]+)% .*10 labels of 100", capsys.readouterr().out, flags=re.MULTILINE)
    assert [name for name, _ in found] == ["normal latent", "stick weights", "labels alone"]


def test_machines_dream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(FewParticlesWarning):  # so little training is said to be little
        helmholtz.main(20, 3, tmp_path)
    out = capsys.readouterr().out
    assert re.search(r"^bars: KL\(data, model\) = \d", out, flags=re.MULTILINE)
    assert "z3: " in out
    for name in ("bars", "digits-001", "digits-002", "digits-003"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto distribution")
@pytest.mark.filterwarnings("ignore:The inplace keyword")  # arviz_stats.compare, with pandas 3.1
def test_a_posterior_under_two_priors(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(posterior.PRIORS, "half-Cauchy")
    for name in ("sample", "sbc"):
        monkeypatch.setattr(posterior, name, partial(getattr(posterior, name), num_warmup=60))
    posterior.main(num_chains=16, num_draws=60, num_datasets=4)
    out = capsys.readouterr().out
    assert re.findall("^-- (.+?):", out, flags=re.MULTILINE) == list(posterior.PRIORS)
    assert len(re.findall(r"^theta\[A\]", out, flags=re.MULTILINE)) == 2
    assert "calibrated on 4 simulated data sets" in out
