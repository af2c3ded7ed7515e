"""What an examination says of pairs whose every number is known."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from inference import Calibration, compare_bounds
from inference.batches import TensorData
from inference.report.examination import Examination
from inference.report.examining import examine, examine_worst
from inference.report.examining.latent_use import told_apart
from inference.report.keeping import (
    load_calibration,
    load_examination,
    load_ladder,
    save_calibration,
    save_examination,
    save_ladder,
)

pytestmark = pytest.mark.usefixtures("double")

WIDTHS = torch.tensor([1.0, 0.5, 3.0], dtype=torch.float64)
"""Of the likelihood of each unit: the posterior's variance is w^2 / (1 + w^2), its mean x / (1 + w^2)."""


def model(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, WIDTHS).to_event(1), obs=x)


def exact(x: Tensor) -> Any:
    return dist.Normal(x / (1 + WIDTHS**2), (WIDTHS**2 / (1 + WIDTHS**2)).sqrt())


def guide(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", exact(x).to_event(1))


def data(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator) * (1 + WIDTHS**2).sqrt()


def log_p(x: Tensor) -> Tensor:
    return dist.Normal(0.0, (1 + WIDTHS**2).sqrt()).log_prob(x).sum(-1)


def test_log_p_of_each_datum_and_k_hat() -> None:
    x = data(50)
    found = examine(model, guide, x, train=data(80, seed=1), num_particles=200)
    np.testing.assert_allclose(found.per_datum["value"], log_p(x), rtol=1e-6)
    assert (found.per_datum["khat"] < 0.3).all()
    assert found.num_particles == 200
    assert found.train is not None
    np.testing.assert_allclose(found.train["value"], log_p(data(80, seed=1))[:50], rtol=1e-6)
    assert found.data["n"] == 50
    assert found.missing == {}


def test_kl_of_each_unit_is_the_closed_form() -> None:
    """Within 4 standard errors of ten draws a datum: one false alarm in 5,000."""
    x = data(200)
    use = examine(model, guide, x, num_particles=20).latents[0]
    expected = kl_divergence(exact(x), dist.Normal(0.0, 1.0)).mean(0).numpy()
    assert use.site == "z"
    assert (abs(use.kl - expected) < 4 * use.kl_se + 0.02).all()
    assert use.kl_se.shape == (3,)
    variance = (x / (1 + WIDTHS**2)).var(0).numpy()
    np.testing.assert_allclose(use.variance, variance, rtol=0.1)
    assert use.active == 3


def test_units_that_move_together_have_their_error_together() -> None:
    """Two units of one number: their KL is twice that of each for every datum, and so is its error."""

    def twice(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    def both(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(2 * x.unsqueeze(-1).expand(-1, 2), 1e-3).to_event(1))

    use = examine(twice, both, torch.randn(100), num_particles=20).latents[0]
    assert use.total_kl == pytest.approx(use.kl.sum())
    assert use.total_kl_se == pytest.approx(2 * use.kl_se[0], rel=0.02)  # added as if independent: 1.41 times


def test_the_error_of_telling_apart_is_its_spread() -> None:
    """Over 40 sets of draws the spread of the share is its error, to a third: 40 draws know a spread to 11 %."""
    rng = np.random.default_rng(0)
    found = [told_apart(rng.normal(size=(100, 2)), rng.normal(0.7, 1.0, size=(100, 2))) for _ in range(40)]
    share, error = np.array(found).T
    assert 0.6 < share.mean() < 0.8
    assert share.std(ddof=1) == pytest.approx(error.mean(), rel=1 / 3)


def test_codes_of_an_exact_guide_are_the_priors() -> None:
    use = examine(model, guide, data(400), num_particles=20).latents[0]
    assert abs(use.told_apart - 0.5) < 4 * use.told_apart_se
    assert use.codes.shape == use.prior.shape == (400, 3)


def test_codes_elsewhere_are_told_apart() -> None:
    def shifted(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / (1 + WIDTHS**2) + 2.0, 0.1).to_event(1))

    use = examine(model, shifted, data(200), num_particles=20).latents[0]
    assert use.told_apart > 0.95


def test_too_few_draws_to_tell_apart_say_so() -> None:
    few = np.zeros((3, 2))
    assert all(math.isnan(value) for value in told_apart(few, few))
    assert all(math.isnan(value) for value in told_apart(np.full((50, 2), np.nan), np.zeros((50, 2))))


def test_units_that_depend_on_each_other_have_one_kl() -> None:
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]])

    def correlated(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), covariance))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def independent(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.5 * x, 0.5).to_event(1))

    x = torch.randn(300, 2)
    use = examine(correlated, independent, x, num_particles=20).latents[0]
    q = dist.MultivariateNormal(0.5 * x, 0.25 * torch.eye(2))
    expected = kl_divergence(q, dist.MultivariateNormal(torch.zeros(2), covariance)).mean()
    assert use.kl.shape == (1,)
    assert abs(use.kl[0] - float(expected)) < 4 * use.kl_se[0] + 0.05


def test_a_site_whose_prior_is_summed_out_has_no_kl_of_its_own() -> None:
    def mixed(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(torch.ones(2)), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(torch.tensor([-2.0, 2.0])[y], 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def flat(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.7))

    found = examine(mixed, flat, torch.randn(60) * 3, num_particles=50)
    assert np.isnan(found.latents[0].kl).all()
    assert found.components[0].site == "y"
    assert found.components[0].share.shape == (2,)


# -- pictures ------------------------------------------------------------------------------------------------


class Images:
    """Data that know their shape, their labels and their split."""

    shape, split = (1, 3), "test"

    def __init__(self, x: Tensor, labels: Tensor | None = None) -> None:
        self.x, self.labels = x, labels

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Tensor:
        return self.x[index]

    def describe(self) -> dict[str, Any]:
        return {"name": "images", "protocol": "real", "n": len(self.x), "sha256": "0"}


def test_pictures_are_means_of_the_data() -> None:
    def certain(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 1e-6).to_event(1))

    x = data(40)
    found = examine(model, certain, Images(x), num_particles=20, num_worst=3)
    pictures, worst = found.pictures, found.worst
    assert pictures is not None
    assert worst is not None
    assert pictures.shape == (1, 3)
    assert pictures.are_images
    np.testing.assert_allclose(pictures.data, x[:32])
    np.testing.assert_allclose(pictures.reconstructions, x[:32], atol=1e-4)  # the mean of x is z, and z is x
    assert pictures.samples.shape == (64, 3)
    assert abs(pictures.samples.std() - 1) < 0.2
    ways = pictures.interpolations
    assert ways.shape == (4, 9, 3)
    np.testing.assert_allclose(ways[:, 0], x[0:8:2], atol=1e-4)
    np.testing.assert_allclose(ways[:, -1], x[1:8:2], atol=1e-4)
    np.testing.assert_allclose(ways[:, 4], (x[0:8:2] + x[1:8:2]) / 2, atol=1e-4)
    order = found.per_datum["khat"].fillna(np.inf).sort_values(ascending=False, kind="stable").index[:3]
    assert worst.index.tolist() == order.tolist()
    np.testing.assert_allclose(worst.data, x[worst.index])


def test_bits_change_half_way() -> None:
    def bits(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5 * torch.ones(3)).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def read(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli((x > 0.5).double() * 0.998 + 0.001).to_event(1))

    x = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]).repeat(4, 1)
    ways = examine(bits, read, x, num_particles=20).pictures
    assert ways is not None
    steps = ways.interpolations[0]
    assert set(np.unique(steps)) <= {0.0, 1.0}
    assert (steps[:5] == steps[0]).all()
    assert (steps[5:] == steps[-1]).all()


def test_data_whose_law_knows_no_mean_have_no_pictures() -> None:
    class Unknown(dist.Normal):
        @property
        def mean(self) -> Tensor:
            raise NotImplementedError

    def dark(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", Unknown(z, 1.0), obs=x)

    def half(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, 0.7))

    found = examine(dark, half, torch.randn(20), num_particles=20)
    assert found.pictures is None
    assert found.missing == {"pictures": "site `x` is Unknown, which does not know its mean"}
    assert len(found.latents) == 1


# -- components ----------------------------------------------------------------------------------------------


def test_clusters_are_counted_by_class() -> None:
    places = torch.tensor([-6.0, 0.0, 6.0])

    def clusters(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(torch.ones(3)), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(places[y].unsqueeze(-1), 1.0).to_event(1), obs=x)

    def nothing(x: Tensor) -> None:
        pass

    labels = torch.tensor([0] * 10 + [1] * 20 + [2] * 30)
    x = places[labels] + 0.1 * torch.randn(60)
    one = examine(clusters, nothing, Images(x.unsqueeze(-1), labels), num_particles=5).components[0]
    assert one.confusion is not None
    np.testing.assert_array_equal(one.confusion, np.diag([10.0, 20.0, 30.0]))
    np.testing.assert_allclose(one.share, [1 / 6, 1 / 3, 1 / 2], atol=1e-3)
    assert one.scores["accuracy"] == 1.0
    assert one.scores_se["accuracy"] == 0.0
    assert one.conditional_entropy < 0.01
    assert one.dead == ()
    assert math.isclose(one.information, one.entropy - one.conditional_entropy)


def test_sticks_are_shares_in_order() -> None:
    def halves(z: Tensor) -> Tensor:
        p = z[:, :1].sigmoid()
        return torch.cat([p, 1 - p], 1)

    found = examine(model, guide, data(50), shares={"z": halves}, num_particles=20)
    assert [one.ordered for one in found.components] == [True]
    assert math.isclose(float(found.components[0].share.sum()), 1.0)


# -- what is kept --------------------------------------------------------------------------------------------


def same(a: object, b: object) -> None:
    """Two values, arrays in dataclasses in tuples included."""
    if isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, np.asarray(b))
    elif isinstance(a, pd.DataFrame):
        pd.testing.assert_frame_equal(a, b, check_index_type=False)  # type: ignore[arg-type]
    elif isinstance(a, tuple):
        assert isinstance(b, tuple)
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            same(one, other)
    elif hasattr(a, "__dataclass_fields__"):
        assert type(a) is type(b)
        for field in fields(a):  # type: ignore[arg-type]
            same(getattr(a, field.name), getattr(b, field.name))
    else:
        assert a == b or (a != a and b != b)


@pytest.mark.parametrize("site", ["z", "layer/z", "<script>alert(1)</script>", "z.1 ü"])
def test_what_is_kept_is_what_was_found(tmp_path: Path, site: str) -> None:
    def named(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample(site, dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, WIDTHS).to_event(1), obs=x)

    def named_guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample(site, exact(x).to_event(1))

    x = data(30)
    found = examine(named, named_guide, x, train=x, num_particles=20, out=tmp_path)
    again = load_examination(tmp_path)
    assert again.latents[0].site == site
    same(found, again)


def test_little_is_kept_too(tmp_path: Path) -> None:
    frame = pd.DataFrame({"value": [np.nan], "standard_error": [np.inf], "khat": [np.nan], "ess": [1.0]})
    found = Examination(frame, 1, missing={"pictures": "why"})
    save_examination(found, tmp_path)
    same(found, load_examination(tmp_path))


@pytest.mark.parametrize("load", [load_examination, load_ladder, load_calibration])
def test_what_is_no_tree_of_ours_is_refused(tmp_path: Path, load: Any) -> None:
    for name in ("examination.nc", "bounds.nc", "calibration.nc"):
        (tmp_path / name).write_text("nothing")
    with pytest.raises(ValueError, match=r"`path` .* is no nc tree"):
        load(tmp_path)


def test_ladders_are_kept(tmp_path: Path) -> None:
    ladder = compare_bounds(model, guide, data(20), ["elbo", "iwae:10", "cubo:2:10"], num_simulated=10)
    save_ladder(ladder, str(tmp_path), data(20))
    again, of = load_ladder(tmp_path)
    pd.testing.assert_frame_equal(again.table, ladder.table)
    assert str(again) == str(ladder)
    assert of == TensorData(data(20)).describe()
    assert again.simulated is not None
    assert str(again.bracket()) == str(ladder.bracket())
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "bounds.csv"), ladder.table)


def test_calibrations_are_kept(tmp_path: Path) -> None:
    ranks = {"mu": np.arange(50) % 11, "<tau>": np.zeros(50, dtype=int)}
    found = Calibration(ranks, 10, about={"max_rhat": np.float64(1.01)})
    save_calibration(found, str(tmp_path))
    again = load_calibration(tmp_path)
    pd.testing.assert_frame_equal(again.frame, found.frame)
    assert str(again) == str(found)


# -- the worst data ------------------------------------------------------------------------------------------


def test_the_posterior_of_the_worst_data_is_theirs(tmp_path: Path) -> None:
    """Means within 5 Monte Carlo errors of 8 x 200 draws thinned tenfold; the guide, exact, agrees."""
    x, index = data(30), [7, 3, 21]
    tree = examine_worst(model, guide, x, index, num_chains=8, num_samples=200, num_warmup=50, out=tmp_path)
    assert tree["posterior"]["data"].to_numpy().tolist() == index
    law = exact(x[index])
    for group, n in (("posterior", 160), ("guide", 1000)):
        z = tree[group]["z"]
        assert z.dims == ("chain", "draw", "data", "z_dim_0")
        apart = abs(z.mean(("chain", "draw")).to_numpy() - law.mean.numpy()) / law.stddev.numpy()
        assert (apart < 5 / math.sqrt(n)).all()
        np.testing.assert_allclose(z.std(("chain", "draw")), law.stddev, rtol=0.15)
    assert (tmp_path / "worst.nc").exists()


def test_discrete_latents_have_no_chains() -> None:
    def bits(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.5 * torch.ones(60)).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    def read(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Bernoulli(0.5 * torch.ones(len(x), 60)).to_event(1))

    with pytest.raises(ValueError, match="`z`"):
        examine_worst(bits, read, torch.randn(5), [0, 1])
