"""Training: reaches known optima, is a function of its seed, resumes to the same bits, stops in plain words."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from guides import AmortizedNormal
from inference.bounds import ELBO, IWAE
from inference.checkpoint import checkpoints
from inference.compare import compare_bounds
from inference.diagnostics import active_units
from inference.fit import DivergedError, Fitted, fit
from inference.objectives import Variational
from inference.optim import adam, burda_schedule
from inference.pair import Pair
from inference.runs import Run, RunError
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.data import digits
from ppmodels.nets import MLP
from ppmodels.priors import StandardNormal
from ppmodels.vae import VAE
from tests.oracles import Factor, LinearGaussian

pytestmark = pytest.mark.usefixtures("double")
toy = LinearGaussian.make(z_dim=1)


def run(pair: Factor, x: Tensor, objective: Variational | None = None, **options: Any) -> Fitted:
    return fit(pair.model, pair.guide, x, objective, **({"epochs": 2, "batch_size": 10} | options))


def bits(module: nn.Module) -> list[Tensor]:
    return [v.detach().clone() for v in module.state_dict().values()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(u, v) for u, v in zip(a, b, strict=True))


@pytest.mark.parametrize("objective", [Variational(), Variational(ELBO("analytic")), Variational(IWAE(), 5)])
def test_reaches_the_maximum_likelihood_of_probabilistic_pca(objective: Variational) -> None:
    """With one latent a linear guide is exact, so every bound's optimum is the PPCA likelihood (Tipping and Bishop)."""
    x, pair = toy.data(200), Factor(z_dim=1)
    run(pair, x, objective, epochs=150, batch_size=50, optimizer=adam(0.03), schedule=lambda o: StepLR(o, 50, 0.3))
    S = torch.cov(x.T, correction=0)
    values, vectors = torch.linalg.eigh(S)
    W = vectors[:, -1:] * (values[-1] - 0.49).sqrt()
    best = torch.distributions.MultivariateNormal(x.mean(0), W @ W.T + 0.49 * torch.eye(3)).log_prob(x).mean()
    with torch.no_grad():
        covariance = pair.W @ pair.W.T + 0.49 * torch.eye(3)
        found = torch.distributions.MultivariateNormal(pair.b, covariance).log_prob(x).mean()
        gap = found - pair.elbo(x).mean()
    assert float(best - found) == pytest.approx(0.0, abs=5e-3)
    assert float(gap) == pytest.approx(0.0, abs=2e-2)


def test_reports_and_leaves_the_world_as_it_was() -> None:
    pair, before = Factor(), torch.get_rng_state()
    pair.eval()
    validating = torch.distributions.Distribution._validate_args  # type: ignore[attr-defined]
    fitted = run(pair, LinearGaussian.make().data(25), epochs=4, report_every=2)
    assert list(fitted.metrics["step"]) == [2, 3, 4, 6, 8, 9, 10, 12]
    assert {"epoch", "seconds", "lr", "loss", "log_likelihood", "kl_z", "grad_norm"} <= set(fitted.metrics)
    balance = fitted.metrics["loss"] - (fitted.metrics["kl_z"] - fitted.metrics["log_likelihood"])
    assert balance.abs().max() < 1e-10
    assert fitted.steps == 12
    assert not pair.training
    assert torch.equal(before, torch.get_rng_state())
    assert torch.distributions.Distribution._validate_args is validating  # type: ignore[attr-defined]
    assert len(pyro.get_param_store()) == 0


def test_a_run_is_a_function_of_its_seed() -> None:
    x, found = LinearGaussian.make().data(23), []
    for seed in (0, 0, 1):
        pair = Factor()
        run(pair, x, seed=seed)
        found.append(bits(pair))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


@pytest.mark.parametrize("stop_at", [1, 3, 4, 7])
def test_resumed_bits_are_those_of_an_uninterrupted_run(stop_at: int, tmp_path: Path) -> None:
    """25 data in batches of 10: three updates an epoch, the last of five data; stops fall anywhere in an epoch."""
    x = LinearGaussian.make().data(25)
    options: dict[str, Any] = {
        "optimizer": adam(0.02),
        "schedule": lambda o: StepLR(o, 1, 0.7),
        "validation": x[:7],
        "report_every": 1,
        "checkpoint_seconds": 0.0,
    }
    whole = Factor()
    run(whole, x, epochs=None, steps=9, out=tmp_path / "whole", **options)
    run(Factor(), x, epochs=None, steps=stop_at, out=tmp_path / "parts", **options)
    resumed = Factor()
    with torch.no_grad():
        resumed.W.zero_()  # whatever it holds, the checkpoint decides
    fitted = run(resumed, x, epochs=None, steps=9, out=tmp_path / "parts", resume=True, **options)
    assert same(bits(whole), bits(resumed))
    columns = ["step", "loss", "lr", "validation"]
    assert fitted.metrics[columns].equals(Run(tmp_path / "whole").metrics()[columns])


def test_patience_returns_to_the_best_parameters(tmp_path: Path) -> None:
    """A learning rate that grows tenfold an epoch ruins what it had found."""
    x = LinearGaussian.make().data(40)
    pair = Factor()
    options: dict[str, Any] = {"validation": x, "patience": 3, "out": tmp_path / "run"}
    options |= {"optimizer": adam(0.01), "schedule": lambda o: StepLR(o, 4, 10.0)}
    fitted = run(pair, x, epochs=50, **options)
    assert fitted.stopped == "patience"
    assert fitted.steps < 200
    assert fitted.best_score == pytest.approx(fitted.metrics["validation"].max())
    best = Run(tmp_path / "run").result()
    assert best.step == fitted.metrics.set_index("step")["validation"].idxmax()
    assert torch.equal(best.parameters["model.W"], pair.W)
    again = Factor()
    run(again, x, epochs=60, resume=True, **options)
    assert same(bits(again), bits(pair))


def test_a_validation_score_that_is_not_finite_stops_rather_than_wins() -> None:
    """Data outside the support: the training batch is inside, a validation datum is not."""

    class Uniform(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.width = nn.Parameter(torch.tensor(2.0))

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Uniform(-self.width, self.width), obs=x)

    with pytest.raises(DivergedError, match=r"the validation score is -inf after step 1"):
        fit(Uniform(), lambda x: None, torch.zeros(4), steps=2, batch_size=4, validation=torch.full((3,), 9.0))


def test_dynamic_data_leave_the_callers_random_state_alone() -> None:
    torch.set_default_dtype(torch.float32)
    data = digits("dynamic").head(20)
    model = VAE(StandardNormal(2), ConditionalBernoulli(MLP(2, (4,)), 64))
    guide = AmortizedNormal(ConditionalNormal(MLP(64, (4,)), 2))
    before = torch.get_rng_state()
    fit(model, guide, data, steps=2, batch_size=10)
    compare_bounds(model, guide, data, ["elbo"], num_particles=10)
    active_units(model, guide, data)
    assert torch.equal(before, torch.get_rng_state())


def test_kl_warmup_is_logged_and_weighs_the_kl() -> None:
    x = LinearGaussian.make().data(20)
    metrics = run(Factor(), x, Variational(kl_warmup=4), epochs=3, report_every=1).metrics
    assert list(metrics["kl_weight"]) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    expected = metrics["kl_weight"] * metrics["kl_z"] - metrics["log_likelihood"]
    assert (metrics["loss"] - expected).abs().max() < 1e-10


def test_gradients_are_clipped_to_the_norm_asked_for() -> None:
    pair = Factor()
    before = torch.cat([v.flatten() for v in bits(pair)])
    sgd = partial(torch.optim.SGD, lr=1.0)
    metrics = run(pair, 5 * toy.data(10), epochs=1, optimizer=sgd, clip_norm=0.01).metrics
    moved = torch.cat([v.flatten() for v in bits(pair)]) - before
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-4)
    assert metrics["grad_norm"][0] > 1


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD, torch.optim.Adamax, torch.optim.RMSprop])
def test_any_optimiser_resumes(optimizer: type, tmp_path: Path) -> None:
    x, factory = toy.data(20), partial(optimizer, lr=0.01)
    whole, parts = Factor(), Factor()
    run(whole, x, epochs=4, optimizer=factory)
    run(parts, x, epochs=2, optimizer=factory, out=tmp_path / "run")
    run(parts, x, epochs=4, optimizer=factory, out=tmp_path / "run", resume=True)
    assert same(bits(whole), bits(parts))


def test_plateau_schedules_follow_the_validation_score() -> None:
    plateau = partial(ReduceLROnPlateau, patience=0, threshold=1e9, factor=0.1)
    metrics = run(Factor(), toy.data(20), epochs=4, validation=toy.data(5), schedule=plateau).metrics
    assert metrics["lr"].iloc[-1] < metrics["lr"].iloc[0] / 5
    with pytest.raises(ValueError, match="`schedule` waits for a plateau"):
        run(Factor(), toy.data(20), schedule=plateau)


def test_burda_schedule_shrinks_in_proportion() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    full, tenth = burda_schedule(3280)(optimizer), burda_schedule(328)(optimizer)
    at = [full.lr_lambdas[0](epoch) for epoch in range(0, 3280, 10)]  # type: ignore[attr-defined]
    assert at == [tenth.lr_lambdas[0](epoch) for epoch in range(328)]  # type: ignore[attr-defined]
    assert at[0] == 1.0
    assert at[-1] == 0.1


class Broken(nn.Module):
    """Its scale is a bare parameter: a large step makes it negative, and the density not a number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, self.scale), obs=x)


def test_a_number_that_is_not_finite_stops_with_site_step_and_what_is_left(tmp_path: Path) -> None:
    sgd = partial(torch.optim.SGD, lr=2.0)
    with pytest.raises(DivergedError, match=r"stopped at step 1 .*site `x` has a log probability of nan") as error:
        fit(Broken(), lambda x: None, torch.zeros(30), epochs=5, batch_size=10, optimizer=sgd, out=tmp_path / "run")
    assert f"the last good checkpoint is step 0 in {tmp_path / 'run'}" in str(error.value)
    assert Run(tmp_path / "run").manifest["status"] == "diverged"


def test_a_gradient_that_is_not_finite_is_named() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(self.a.sqrt(), 1.0), obs=x)  # the slope at zero is infinite

    with pytest.raises(DivergedError, match=r"the gradient of `model.a` is not finite; nothing was saved"):
        fit(Root(), lambda x: None, torch.ones(5), steps=3)


def test_discrete_guides_without_enumeration_are_refused() -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(y, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        p = pyro.param("p", torch.tensor(0.5), constraint=dist.constraints.unit_interval)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(p))

    with pytest.raises(ValueError, match="site `y` has no reparameterised draws"):
        fit(model, guide, torch.ones(5), steps=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": None}, "`epochs` is None and `steps` is None, expected exactly one"),
        ({"steps": 3}, "`epochs` is 2 and `steps` is 3, expected exactly one"),
        ({"epochs": 0}, "`epochs` is 0, expected a whole number, at least 1"),
        ({"batch_size": 0}, "`batch_size` is 0, expected a whole number, at least 1"),
        ({"batch_size": 10.0}, "`batch_size` is 10.0, expected a whole number, at least 1"),
        ({"validation": torch.zeros(4, 2)}, "`validation` does not suit the pair: mat1 and mat2"),
        ({"clip_norm": -1.0}, "`clip_norm` is -1.0, expected a positive norm"),
        ({"patience": 2}, "`patience` is 2, expected at least 1 epoch and `validation` data"),
        ({"resume": True}, "`resume` is set without `out`"),
        ({"optimizer": torch.optim.LBFGS}, "`optimizer` makes LBFGS"),
        ({"validation": torch.empty(0, 3)}, "`data` is empty"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(Factor(), toy.data(10), **options)


def test_bad_objectives_and_rates_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`lr` is -0.1, expected a positive learning rate"):
        adam(-0.1)
    with pytest.raises(ValueError, match="`num_particles` is 0"):
        Variational(num_particles=0)
    with pytest.raises(ValueError, match="`kl_warmup` is -1"):
        Variational(kl_warmup=-1)
    with pytest.raises(ValueError, match="the pair has no parameters to learn"):
        fit(toy.model, toy.wrong, toy.data(4), steps=1)


def test_a_run_folder_is_not_overwritten_nor_resumed_with_other_settings(tmp_path: Path) -> None:
    x = toy.data(20)
    run(Factor(), x, out=tmp_path / "run", recipe={"name": "test", "training": {"epochs": 2}})
    found = Run(tmp_path / "run")
    assert found.manifest["status"] == "finished"
    assert found.manifest["data"]["n"] == 20
    assert 'name = "test"' in (tmp_path / "run" / "recipe.toml").read_text()
    assert len(checkpoints(tmp_path / "run" / "checkpoint")) == 2
    with pytest.raises(RunError, match=r"holds a run already: resume it, or choose another folder"):
        run(Factor(), x, out=tmp_path / "run")
    with pytest.raises(RunError, match=r"`batch_size` is 5, but the run .* was begun with 10"):
        run(Factor(), x, out=tmp_path / "run", resume=True, batch_size=5)
    with pytest.raises(RunError, match=r"`objective` is .*IWAE.* but the run"):
        run(Factor(), x, Variational(IWAE(), 5), out=tmp_path / "run", resume=True)
    with pytest.raises(RunError, match=r"`optimizer` is .*0.5.* but the run"):
        run(Factor(), x, out=tmp_path / "run", resume=True, optimizer=adam(0.5))
    with pytest.raises(RunError, match=r"`schedule` is .*StepLR.* but the run"):
        run(Factor(), x, out=tmp_path / "run", resume=True, schedule=lambda o: StepLR(o, 3))
    with pytest.raises(RunError, match=r"`data` is .* but the run"):
        run(Factor(), x + 1, out=tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match="`state` does not belong to this pair"):
        run(Factor(z_dim=3), x, out=tmp_path / "run", resume=True)


def test_a_refused_pair_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no parameters to learn"):
        fit(toy.model, toy.wrong, toy.data(4), steps=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_unwritable_folders_are_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"`out` .*file/run cannot be written"):
        run(Factor(), toy.data(10), out=tmp_path / "file" / "run")


def test_pairs_are_found_behind_methods_partials_and_wrappers() -> None:
    pair, x = Factor(), toy.data(4)
    names = {"model.W", "model.b", "model.A", "model.c", "model.log_scale"}
    assert set(Pair(pair.model, pair.guide).parameters(x)) == names
    assert set(Pair(partial(pair.model), pair.guide).parameters(x)) == names
    pair.b.requires_grad_(requires_grad=False)
    assert set(Pair(pair.model, pair.guide).parameters(x)) == names - {"model.b"}
    assert math.isfinite(run(pair, x).metrics["loss"].iloc[-1])
