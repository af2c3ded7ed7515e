"""Signal and noise of gradients against what theory says of a pair whose gradients are known."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from inference.bounds import ELBO, IWAE
from inference.estimators import STL, Pathwise, ReweightedWakeSleep
from inference.gradient_snr import GradientSNR, gradient_snr
from inference.pair import Pair
from tests.oracles import Factor

pytestmark = pytest.mark.usefixtures("double")


def data(n: int = 8) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(2))


def column(found: GradientSNR, name: str, part: str, value: str) -> Tensor:
    rows = found.table.xs(part, level="part").xs(name, level="estimator")
    return torch.tensor(rows[value].to_numpy())


def slope(values: Tensor, Ks: tuple[int, ...]) -> float:
    """Of the logarithm, by least squares."""
    k = torch.tensor(Ks).log()
    return float(((k - k.mean()) * values.log()).sum() / (k - k.mean()).square().sum())


def test_signal_of_the_encoder_falls_with_k_on_the_path_and_rises_doubly_reparameterised() -> None:
    """Rainforth et al.: the path's falls as the root of K and the decoder's rises so; Tucker et al.: DReG's rises."""
    factor, Ks, x = Factor(), (4, 16, 64), data(1).expand(30, 3)
    found = gradient_snr(factor.model, factor.guide, x, num_particles=Ks, num_repeats=100, mode="replay")
    assert -0.75 < slope(column(found, "Pathwise()", "encoder", "snr"), Ks) < -0.25
    assert 0.3 < slope(column(found, "DReG()", "encoder", "snr"), Ks) < 0.8
    assert 0.3 < slope(column(found, "Pathwise()", "decoder", "snr"), Ks) < 0.8
    for name in ("Pathwise()", "DReG()"):  # unbiased: off by no more than noise, 4 times its root mean square
        for part in ("encoder", "decoder"):
            assert bool((column(found, name, part, "bias") < 4 * column(found, name, part, "bias_se")).all())
    assert found.reference == "Pathwise(), 1,000 repeats"


def test_a_gradient_of_known_signal_and_noise() -> None:
    """The bound's gradient for `slope` is z, and for `loc` it is slope - z: normal, of known mean and variance.

    Tolerances are 4 standard errors of 200 repeats: false alarm 8 x 6e-5.
    """

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loc, self.slope = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(1.0))

        def model(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)
                pyro.factor("line", self.slope * z)

        def guide(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(self.loc, 1.0))

    pair = Line()
    found = gradient_snr(
        pair.model,
        pair.guide,
        torch.zeros(1),
        ELBO(),
        estimators=[Pathwise()],
        num_particles=[1, 4],
        num_repeats=200,
        mode="replay",
    )
    # means 2 and -1, variance 1/K
    torch.testing.assert_close(
        column(found, "Pathwise()", "decoder", "snr"), torch.tensor([2.0, 4.0]), rtol=0.36, atol=0
    )
    torch.testing.assert_close(
        column(found, "Pathwise()", "encoder", "snr"), torch.tensor([1.0, 2.0]), rtol=0.36, atol=0
    )
    torch.testing.assert_close(
        column(found, "Pathwise()", "decoder", "norm"), torch.tensor([2.0, 2.0]), rtol=0.16, atol=0
    )
    expected = (
        torch.tensor([0.5, 0.25]) / math.sqrt(200) * math.sqrt(1.1)
    )  # its own noise and a tenth for the reference
    torch.testing.assert_close(column(found, "Pathwise()", "decoder", "bias_se"), expected, rtol=0.2, atol=0)


def test_bias_shows_against_a_reference_that_is_given() -> None:
    """The closed form of the ELBO's gradient: the path agrees, the IWAE's is off, and STL is where it should be."""
    factor, x = Factor(), data()
    exact = torch.autograd.grad(factor.elbo(x).mean(), list(factor.parameters()))
    reference = dict(zip(Pair(factor.model, factor.guide).parameters(x), exact, strict=True))

    def bias(bound: Any) -> tuple[Tensor, Tensor]:
        found = gradient_snr(
            factor.model,
            factor.guide,
            x,
            bound,
            estimators=[Pathwise(), STL()],
            num_particles=[5],
            num_repeats=300,
            reference=reference,
            mode="replay",
        )
        assert found.reference == "the gradient given"
        table = found.table.xs("encoder", level="part")
        return torch.tensor(table["bias"].to_numpy()), torch.tensor(table["bias_se"].to_numpy())

    off, error = bias(ELBO())
    assert bool((off < 4 * error).all())
    off, error = bias(IWAE())
    assert bool((off > 10 * error).all())


def test_without_an_unbiased_estimator_there_is_no_bias_to_see() -> None:
    factor = Factor()
    how: dict[str, Any] = {"num_particles": [3], "num_repeats": 5, "mode": "eager"}
    found = gradient_snr(factor.model, factor.guide, data(), estimators=[STL(), ReweightedWakeSleep()], **how)
    assert bool(found.table["bias"].isna().all())
    assert "nothing: none is unbiased" in str(found)
    assert gradient_snr(
        factor.model, factor.guide, data(), estimators=[STL()], **{**how, "num_particles": [1]}
    ).reference != ("nothing: none is unbiased")  # with one draw STL is


def test_entries_without_noise_are_left_out_and_modes_agree() -> None:
    class Dead(Factor):
        def __init__(self) -> None:
            super().__init__()
            self.dead = nn.Parameter(torch.zeros(4))

    pair = Dead()
    tables = []
    for mode in ("eager", "replay"):
        found = gradient_snr(pair.model, pair.guide, data(), num_particles=[2], num_repeats=6, mode=mode)
        assert found.table.xs("encoder", level="part")["entries"].tolist() == [10, 10]  # A, c, log_scale
        assert found.table.xs("decoder", level="part")["entries"].tolist() == [9, 9]  # W, b, and not `dead`
        tables.append(torch.tensor(found.table["norm"].to_numpy()))
    torch.testing.assert_close(*tables)


def test_the_callers_random_state_is_left() -> None:
    factor, before = Factor(), torch.get_rng_state()
    gradient_snr(factor.model, factor.guide, data(), num_particles=[2], num_repeats=3, mode="eager")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_figure_has_a_line_for_every_estimator() -> None:
    factor = Factor()
    found = gradient_snr(factor.model, factor.guide, data(), num_particles=[1, 3], num_repeats=4, mode="eager")
    figure = found.plot()
    assert [axis.get_title() for axis in figure.axes] == ["encoder", "decoder"]
    for axis in figure.axes:
        assert [line.get_label() for line in axis.lines] == ["Pathwise()", "DReG()"]
        assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
        assert axis.lines[0].get_xdata().tolist() == [1, 3]  # type: ignore[union-attr]


def test_arguments_that_are_refused() -> None:
    factor, x = Factor(), data()
    given = {name: torch.zeros_like(value) for name, value in Pair(factor.model, factor.guide).parameters(x).items()}
    for how, said in (
        ({"num_repeats": 1}, "`num_repeats` is 1, expected a whole number, at least 2"),
        ({"num_particles": [0]}, "`num_particles` is 0"),
        ({"mode": "fast"}, "`mode` is 'fast'"),
        ({"reference": {}}, "`reference` has gradients of .*expected one for each of the 5 parameters"),
        (
            {"reference": given | {"model.b": torch.zeros(2)}},
            r"`reference` has shape \(2,\) for `model.b`, expected \(3,\)",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            gradient_snr(factor.model, factor.guide, x, **how)


def test_running_statistics_stay_as_they_were() -> None:
    layer = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1, keepdim=True).expand(*z.shape[:-1], 3), 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("layer", layer)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(layer(x), 1.0).to_event(1))

    before = [buffer.clone() for buffer in layer.buffers()]
    gradient_snr(model, guide, torch.randn(8, 3) + 9, estimators=(Pathwise(),), num_particles=(1,), num_repeats=3)
    assert all(torch.equal(a, b) for a, b in zip(before, layer.buffers(), strict=True))
    with pytest.raises(TypeError, match=r"`num_particles` is 5, expected several: \(5,\)"):
        gradient_snr(model, guide, torch.randn(8, 3), num_particles=5)  # type: ignore[arg-type]
