"""What a second reading of the report found wrong: odd pairs, odd names, and numbers that belonged to others."""

from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch
import xarray as xr
from torch import Tensor
from torch.distributions import kl_divergence

from inference.report import Evidence, examine, read_evidence, report
from inference.report.judging import judge
from inference.report.sections import comparison, sections_of


def model(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        with pyro.poutine.mask(mask=x[..., 0] > 0):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def guide(x: Tensor) -> None:
    with pyro.plate("data", len(x)), pyro.poutine.mask(mask=x[..., 0] > 0):
        pyro.sample("z", dist.Normal(x / 2, 0.7).to_event(1))


def tree(name: str = "theta", coords: list[str] | None = None) -> xr.DataTree:
    rng = np.random.default_rng(0)
    theta, y = rng.normal(size=(2, 100, 3)), rng.normal(size=3)
    dims = ("chain", "draw", "unit")
    by = {"unit": coords or ["a", "b", "c"]}
    return xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({name: (dims, theta)}, coords=by),
            "log_prior": xr.Dataset({name: (dims, -0.5 * theta**2)}, coords=by),
            "log_likelihood": xr.Dataset({"y": (("chain", "draw", "obs"), -0.5 * (y - theta) ** 2)}),
        }
    )


def test_no_worst_data_are_asked_for_and_the_rest_is_there() -> None:
    found = examine(model, guide, torch.randn(12, 2), num_particles=10, num_worst=0)
    assert found.worst is not None
    assert len(found.worst.index) == 0
    assert found.pictures is not None


def test_the_kl_of_a_masked_latent_counts_what_the_mask_lets_in() -> None:
    """Half of the data are let in, and the KL of those is the closed form, within 4 standard errors."""
    x = torch.tensor([[1.0, 2.0], [-1.0, 2.0]]).repeat(100, 1)
    use = examine(model, guide, x, num_particles=10).latents[0]
    each = kl_divergence(dist.Normal(x[0] / 2, 0.7), dist.Normal(0.0, 1.0))
    assert (abs(use.kl - each.numpy() / 2) < 4 * use.kl_se).all()
    assert use.kl[1] < 0.5 * float(each[1]) + 4 * use.kl_se[1] < float(each[1])


def test_names_with_brackets_have_their_sensitivity() -> None:
    found = read_evidence(tree("theta[x]"))
    assert found.missing == {}
    assert found.sensitivity is not None
    assert list(found.sensitivity.index) == ["theta[x][a]", "theta[x][b]", "theta[x][c]"]


def test_parameters_of_one_name_are_all_in_the_table() -> None:
    found = read_evidence(tree(coords=["a", "a", "b"]))
    (section,) = (one for one in sections_of(found, judge(found)) if one.id == "chains")
    frames = [block.frame for block in section.blocks if getattr(block, "name", "") == "parameters"]
    assert sorted(frames[0]["parameter"]) == ["theta[a]", "theta[a]", "theta[b]"]


def test_draws_without_a_likelihood_do_not_stop_a_comparison(tmp_path: Path) -> None:
    def hollow() -> xr.DataTree:
        whole = tree()
        groups = {"posterior": whole["posterior"].to_dataset(), "log_likelihood": xr.Dataset()}
        return xr.DataTree.from_dict({**groups, "observed_data": xr.Dataset({"y": ("obs", np.zeros(3))})})

    found = report([hollow(), hollow()], tmp_path / "both.html")
    assert "are not compared by leave-one-out" in found.path.read_text()


def test_a_paired_difference_names_both_numbers_of_draws() -> None:
    x = torch.randn(12, 2)
    runs = [Evidence(str(K), examination=examine(model, guide, x, num_particles=K)) for K in (10, 20)]
    section = comparison([(one, judge(one)) for one in runs])
    (frame,) = (block.frame for block in section.blocks if getattr(block, "name", "") == "paired")
    assert list(frame["of"]) == ["log p(x), K = 20 and 10"]
