"""Terms added to a bound against their own gradients, and reconstruction against closed forms; both through `fit`."""

from functools import partial
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from inference import ELBO, Augmented, Reconstruction, Term, Variational, adam, assign, cluster_scores, fit
from inference.objectives import LossParts, Phase, Task
from inference.pair import Pair
from inference.runs import RunError
from ppmodels.contracts import Batch
from ppmodels.data import from_array
from ppmodels.labels import partly_labelled
from tests.oracles import Factor, LinearGaussian

pytestmark = pytest.mark.usefixtures("double")

toy = LinearGaussian.make()
STEP = torch.zeros(())


class Regular(Factor):
    """With a term per datum, and one for its parameters."""

    def sharpness(self, x: Tensor) -> Tensor:
        return -(x @ self.A.T).square().sum(-1)

    def log_prior(self) -> Tensor:
        return dist.Normal(0.0, 0.1).log_prob(self.W).sum()


def gradients(task: Task, x: Batch) -> tuple[LossParts, dict[str, Tensor]]:
    (phase,) = task.phases
    torch.manual_seed(0)
    found = phase.loss(x, STEP)
    every = torch.autograd.grad(found.loss, list(phase.parameters.values()), allow_unused=True)
    return found, {k: g for k, g in zip(phase.parameters, every, strict=True) if g is not None}


# -- terms -----------------------------------------------------------------------------------------------------


def test_the_loss_is_the_objectives_less_weighted_means() -> None:
    regular, x = Regular(), toy.data(9)
    pair = Pair(regular.model, regular.guide)
    terms = {
        "sharpness": Term(regular.sharpness, weight=0.3),
        "prior": Term(regular.log_prior, weight=1 / 40, of_batch=False),
    }
    alone, alone_gradients = gradients(Variational().task(pair, x), x)
    found, its_gradients = gradients(Augmented(Variational(), terms).task(pair, x), x)
    by_hand = 0.3 * regular.sharpness(x).mean() + regular.log_prior() / 40
    torch.testing.assert_close(found.loss, alone.loss - by_hand)
    for name, gradient in its_gradients.items():
        parameter = getattr(regular, name.removeprefix("model."))
        (extra,) = torch.autograd.grad(by_hand, parameter, retain_graph=True, allow_unused=True)
        torch.testing.assert_close(gradient, alone_gradients[name] - (0 if extra is None else extra))
    assert list(found.parts) == [*alone.parts, "sharpness", "prior"]
    assert not any(part.requires_grad for part in found.parts.values())
    torch.testing.assert_close(found.parts["loss"], found.loss.detach())
    torch.testing.assert_close(found.parts["sharpness"] + found.parts["prior"], by_hand.detach())


def test_every_phase_has_the_terms_and_the_score_has_none() -> None:
    regular, x = Regular(), toy.data(4)

    class TwoPhases:
        def task(self, pair: Pair, batch: Batch) -> Task:
            whole = Variational().task(pair, batch)
            (phase,) = whole.phases
            chosen = [{k: v} for k, v in phase.parameters.items() if k in ("model.W", "model.A")]
            phases = tuple(Phase(*named, phase.loss) for named in zip("ab", chosen, strict=True))
            return Task(phases, whole.score, whole.layout)

    pair = Pair(regular.model, regular.guide)
    objective = Augmented(TwoPhases(), {"prior": Term(lambda: torch.tensor(1.0), weight=2.0, of_batch=False)})
    task = objective.task(pair, x)
    assert [phase.name for phase in task.phases] == ["a", "b"]
    for phase, plain in zip(task.phases, TwoPhases().task(pair, x).phases, strict=True):
        torch.manual_seed(0)
        loss = phase.loss(x, STEP).loss
        torch.manual_seed(0)
        torch.testing.assert_close(loss, plain.loss(x, STEP).loss - 2)
    assert task.score is not None
    torch.manual_seed(0)
    score = task.score(x)
    torch.manual_seed(0)
    plain_score = Variational().task(pair, x).score
    assert plain_score is not None
    assert torch.equal(score, plain_score(x))


def objective_of(regular: Regular, weight: float = 0.3) -> Augmented:
    terms = {"sharpness": Term(regular.sharpness, weight), "prior": Term(regular.log_prior, 0.01, of_batch=False)}
    return Augmented(Variational(ELBO("analytic")), terms)


def test_a_graph_has_the_terms_in_it(tmp_path: Path) -> None:
    found = {}
    for mode in ("eager", "replay"):
        regular = Regular()
        how: dict[str, Any] = {"steps": 12, "batch_size": 10, "mode": mode, "report_every": 1, "seed": 3}
        fitted = fit(regular.model, regular.guide, toy.data(25), objective_of(regular), **how)
        assert set(fitted.modes["bound"].values()) == {mode}
        metrics = fitted.metrics
        balance = metrics["kl_z"] - metrics["log_likelihood"] - metrics["sharpness"] - metrics["prior"]
        assert (metrics["loss"] - balance).abs().max() < 1e-10
        found[mode] = [p.detach().clone() for p in regular.parameters()]
    for eager, replay in zip(found["eager"], found["replay"], strict=True):
        torch.testing.assert_close(eager, replay, rtol=1e-12, atol=1e-14)


def test_runs_resume_by_what_the_terms_are_called(tmp_path: Path) -> None:
    x, whole, parts = toy.data(20), Regular(), Regular()
    how: dict[str, Any] = {"batch_size": 10}
    fit(whole.model, whole.guide, x, objective_of(whole), epochs=4, **how)
    fit(parts.model, parts.guide, x, objective_of(parts), epochs=2, out=tmp_path / "run", **how)
    again = Regular()
    assert repr(objective_of(again)) == repr(objective_of(parts))
    with pytest.raises(RunError, match=r"`objective` is .*Regular.sharpness, weight=0.4.* but the run"):
        fit(again.model, again.guide, x, objective_of(again, 0.4), epochs=4, out=tmp_path / "run", resume=True, **how)
    fit(again.model, again.guide, x, objective_of(again), epochs=4, out=tmp_path / "run", resume=True, **how)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_names_are_the_same_in_every_process() -> None:
    def power(x: Tensor, order: int) -> Tensor:
        return x**order

    assert repr(Term(partial(power, order=2), 0.5)).endswith("power, order=2), weight=0.5)")
    assert "0x" not in repr(Term(partial(power, order=2)))
    assert repr(Term(nn.Linear(2, 1))) == "Term(Linear, weight=1.0)"
    assert repr(Term(Regular().log_prior, of_batch=False)) == "Term(Regular.log_prior, weight=1.0, of_batch=False)"


BAD = {
    "a scalar": (lambda x: x.sum(), {}, r"gives torch.float64 of \(\), expected floats of \(4,\), a number per datum"),
    "a matrix": (lambda x: x, {}, r"`terms` has 'a', which gives torch.float64 of \(4, 3\), expected floats of \(4,\)"),
    "integers": (lambda x: torch.zeros(4, dtype=torch.int64), {}, r"gives torch.int64 of \(4,\), expected floats"),
    "a float": (lambda x: 1.0, {}, r"which gives float, expected floats"),
    "not one": (lambda: torch.zeros(2), {"of_batch": False}, r"of \(2,\), expected floats of \(\), one number"),
    "foreign": (nn.Linear(3, 1), {}, "`terms` has 'a', whose `weight` is no parameter of the pair, which nothing"),
}


@pytest.mark.parametrize(("function", "options", "message"), BAD.values(), ids=BAD)
def test_terms_that_cannot_be_added(function: Any, options: dict[str, Any], message: str) -> None:
    pair = Factor()
    with pytest.raises(ValueError, match=message):
        fit(pair.model, pair.guide, toy.data(4), Augmented(Variational(), {"a": Term(function, **options)}), steps=1)


def test_arguments_that_are_none() -> None:
    zero = Term(lambda x: torch.zeros(len(x)))
    with pytest.raises(TypeError, match="`value` is a float, expected a function"):
        Term(0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`weight` is nan, expected a finite number"):
        Term(lambda: STEP, weight=float("nan"))
    with pytest.raises(ValueError, match="`terms` is empty, expected at least one: without any, use the objective"):
        Augmented(Variational(), {})
    with pytest.raises(TypeError, match=r"`terms` has a function as 'a', expected Term\(function, weight=...\)"):
        Augmented(Variational(), {"a": lambda x: x})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match=r"`objective` is a ELBO, expected one such as Variational\(\)"):
        Augmented(ELBO(), {"a": zero})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`terms` has 'loss', which reports use already"):
        Augmented(Variational(), {"loss": zero})
    pair = Factor()
    with pytest.raises(ValueError, match="`terms` has 'kl_z', which the objective reports already"):
        fit(pair.model, pair.guide, toy.data(4), Augmented(Variational(), {"kl_z": zero}), steps=1)


# -- labels ----------------------------------------------------------------------------------------------------


class Classes(nn.Module):
    """Two classes of points on a line, and a guide that is told the labels there are."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2))
        self.slope, self.offset = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))

    def model(self, x: Tensor, y: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(torch.ones(2)), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(self.loc[y].unsqueeze(-1), 1.0).to_event(1), obs=x)

    def logits(self, x: Tensor) -> Tensor:
        return (x * self.slope + self.offset).log_softmax(-1)

    def guide(self, x: Tensor, y: Tensor) -> None:
        told = y.unsqueeze(-1) == torch.arange(2)
        point = torch.where(told, 0.0, -torch.inf).expand(len(x), 2)
        logits = torch.where(y.unsqueeze(-1) >= 0, point, self.logits(x))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})

    def log_prob(self, x: Tensor, y: Tensor) -> Tensor:
        found = self.logits(x).gather(-1, y.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        return torch.where(y >= 0, found, torch.zeros_like(found))


def two_classes(n: int, split: str, seed: int) -> Any:
    y = torch.arange(n) % 2
    x = 4.0 * y.unsqueeze(-1) - 2 + torch.randn(n, 1, generator=torch.Generator().manual_seed(seed)).double()
    return from_array(x.float(), protocol="real", labels=y, split=split)


def test_the_bound_of_a_labelled_datum_is_that_of_datum_and_label() -> None:
    classes = Classes()
    with torch.no_grad():
        classes.slope.copy_(torch.tensor([0.7, -0.3]))
    x, y = torch.tensor([[0.5], [-1.0], [2.0]]), torch.tensor([1, -1, 0])
    score = Variational().task(Pair(classes.model, classes.guide), (x, y)).score
    assert score is not None
    log_joint = dist.Normal(classes.loc, 1.0).log_prob(x) - torch.log(torch.tensor(2.0))  # (3, 2)
    q = classes.logits(x)
    unknown = (q.exp() * (log_joint - q)).sum(-1)
    expected = torch.stack([log_joint[0, 1], unknown[1], log_joint[2, 0]])
    torch.testing.assert_close(score((x, y)), expected)


def test_few_labels_name_the_classes() -> None:
    """Four labels in 400 data, of two classes that nothing else tells apart."""
    train, test = two_classes(400, "train", 0), two_classes(400, "test", 1)
    data = partly_labelled(train, 4, seed=0)
    torch.set_default_dtype(torch.float32)
    classes = Classes()
    term = Term(classes.log_prob, weight=0.1 / data.labelled_share)
    batch = data.batch(torch.arange(400))
    contribution = (term.weight * term(batch)).mean()
    known = data.known >= 0
    torch.testing.assert_close(contribution, 0.1 * classes.log_prob(*batch)[known].mean())
    objective = Augmented(Variational(), {"classification": term})
    how: dict[str, Any] = {"epochs": 40, "batch_size": 50, "optimizer": adam(0.03)}
    metrics = fit(classes.model, classes.guide, data, objective, **how).metrics
    assert metrics["classification"].iloc[-1] > metrics["classification"].iloc[0]
    unlabelled = (test.all(), torch.full((400,), -1))
    r = assign(classes.model, classes.guide, unlabelled)
    assert float((r.argmax(1) == test.labels).double().mean()) > 0.95  # Bayes: 0.977
    assert cluster_scores(r, test, num_resamples=0).naming == {0: 0, 1: 1}
    assert classes.loc.tolist() == pytest.approx([-2.0, 2.0], abs=0.3)


# -- reconstruction --------------------------------------------------------------------------------------------


def test_reconstruction_is_the_likelihood_at_the_guides_mean() -> None:
    factor, x = Factor(), toy.data(6)
    task = Reconstruction().task(Pair(factor.model, factor.guide), x)
    code = x @ factor.A.T + factor.c
    by_hand = dist.Normal(code @ factor.W.T + factor.b, 0.7).log_prob(x).sum(-1)
    assert task.score is not None
    torch.testing.assert_close(task.score(x), by_hand)
    found, its_gradients = gradients(task, x)
    torch.testing.assert_close(found.loss, -by_hand.mean())
    assert set(its_gradients) == {"model.W", "model.b", "model.A", "model.c"}  # no prior, no scale
    for name, gradient in its_gradients.items():
        parameter = getattr(factor, name.removeprefix("model."))
        torch.testing.assert_close(gradient, -torch.autograd.grad(by_hand.mean(), parameter, retain_graph=True)[0])
    assert task.phases[0].name == "reconstruction"
    assert set(task.phases[0].parameters) == {f"model.{name}" for name, _ in factor.named_parameters()}


def test_reconstruction_at_a_draw_is_the_expected_likelihood() -> None:
    """Within 4 standard errors of 4,000 draws, 3 data: false alarms 2e-4."""
    factor, x = Factor(), toy.data(3)
    task = Reconstruction(at="draw").task(Pair(factor.model, factor.guide), x)
    mean, scale = x @ factor.A.T + factor.c, factor.log_scale.exp()
    residual = (x - mean @ factor.W.T - factor.b).square().sum(-1) + (factor.W * scale).square().sum()
    expected = -residual / (2 * 0.49) - 3 * torch.log(0.7 * torch.tensor(2 * torch.pi).sqrt())
    assert task.score is not None
    with torch.no_grad():
        draws = task.score(x.repeat(4000, 1)).reshape(4000, 3)
    error = draws.std(0) / 4000**0.5
    assert bool(((draws.mean(0) - expected).abs() <= 4 * error).all())


def test_reconstruction_reaches_the_principal_subspace() -> None:
    """A linear autoencoder's best squared error is what the two principal components leave (Baldi and Hornik)."""
    factor, x = Factor(), toy.data(100)
    how: dict[str, Any] = {"epochs": 300, "batch_size": 100, "optimizer": adam(0.03), "mode": "eager"}
    fitted = fit(factor.model, factor.guide, x, Reconstruction(), validation=x, **how)
    smallest = torch.linalg.eigvalsh(torch.cov(x.T, correction=0))[0]
    best = -smallest / (2 * 0.49) - 3 * torch.log(0.7 * torch.tensor(2 * torch.pi).sqrt())
    assert fitted.best_score == pytest.approx(float(best), abs=5e-3)
    assert {"loss", "log_likelihood", "validation"} <= set(fitted.metrics)


class MixturePrior(Factor):
    """A cluster above z, which the model sums out, and with it (or not) in the datum."""

    def __init__(self, *, in_datum: bool = False) -> None:
        super().__init__()
        self.in_datum = in_datum
        self.means = nn.Parameter(torch.randn(3, 2, dtype=torch.float64))

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(torch.ones(3)), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(self.means[y], 1.0).to_event(1))
            shift = y.unsqueeze(-1) if self.in_datum else 0.0
            pyro.sample("x", dist.Normal(z @ self.W.T + self.b + shift, 0.7).to_event(1), obs=x)


@pytest.mark.parametrize("mode", ["eager", "replay"])
def test_clusters_above_the_code_do_not_matter(mode: Any) -> None:
    x, plain, mixture = toy.data(30), Factor(), MixturePrior()
    means = mixture.means.detach().clone()
    how: dict[str, Any] = {"epochs": 3, "batch_size": 10, "mode": mode}
    fit(plain.model, plain.guide, x, Reconstruction(), **how)
    fit(mixture.model, mixture.guide, x, Reconstruction(), **how)
    for name, value in plain.named_parameters():
        torch.testing.assert_close(value, dict(mixture.named_parameters())[name])
    assert torch.equal(mixture.means, means)


def test_pairs_without_a_code_are_refused() -> None:
    x, mixture = toy.data(4), MixturePrior(in_datum=True)
    with pytest.raises(
        ValueError, match="site `y` is summed out and what is observed depends on it, so there is no like"
    ):
        fit(mixture.model, mixture.guide, x, Reconstruction(), steps=1)

    A = mixture.A.detach()

    def discrete(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x @ A.T, 1.0).to_event(1))
            pyro.sample("y", dist.Categorical(torch.ones(3)), infer={"enumerate": "parallel"})

    with pytest.raises(ValueError, match=r"site `y` is discrete \(Categorical\), expected codes that gradients reach"):
        fit(mixture.model, discrete, x, Reconstruction(), steps=1)

    def flow(x: Tensor) -> None:
        base = dist.Normal(x @ A.T, 1.0).to_event(1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.TransformedDistribution(base, [dist.transforms.SigmoidTransform()]))

    factor = Factor()
    with pytest.raises(
        ValueError, match=r"site `z` is TransformedDistribution, whose mean .* Reconstruction\(at=\"draw"
    ):
        fit(factor.model, flow, x, Reconstruction(), steps=1)
    fit(factor.model, flow, x, Reconstruction(at="draw"), steps=1)
    with pytest.raises(ValueError, match='`at` is \'mode\', expected "mean" or "draw"'):
        Reconstruction(at="mode")  # type: ignore[arg-type]
