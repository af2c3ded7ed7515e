"""Energy models against enumeration, quadrature and each other; float64 throughout.

Where draws are compared the seed is fixed and the false-alarm rate stated: a mean may be 4 standard errors off (6e-5),
a chi-square may have a p-value down to 1e-3.
"""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from examples import boltzmann
from guides import MeanFieldBernoulli
from inference.clamped import BoltzmannLearning
from inference.contrastive import ContrastiveDivergence, ExactLikelihood, PersistentContrastiveDivergence
from inference.draws import log_weights
from inference.energies import energy_likelihood
from inference.fit import fit
from inference.likelihood import log_likelihood
from inference.optim import adam
from inference.pair import Pair, no_guide
from inference.partition import LogZ, annealed_log_z, exact_log_z, log_partition
from ppmodels.boltzmann import BoltzmannMachine
from ppmodels.contracts import AnnealingPath, Energy, RestrictedEnergy, SweptEnergy
from ppmodels.helmholtz import SigmoidBeliefNetwork
from ppmodels.priors import check_prior
from ppmodels.rbm import RBM, HiddenGuide
from ppmodels.rbm_prior import RBMPrior
from ppmodels.units import BernoulliUnits, GaussianUnits, bits_of, log_odds

pytestmark = pytest.mark.usefixtures("double")


def bits(n: int) -> Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)))


def an_rbm(visible: int = 5, hidden: int = 3, *, scale: float = 1.0, centred: bool = False) -> RBM:
    rbm = RBM(BernoulliUnits(visible, logits=torch.randn(visible)), hidden, scale=scale)
    with torch.no_grad():
        rbm.hidden_bias.copy_(torch.randn(hidden))
    if centred:
        rbm.move_offsets(torch.rand(visible), torch.rand(hidden))
    return rbm


def joint_energies(rbm: RBM) -> Tensor:
    """E of every pair of states by the formula, term by term, `(2^D, 2^H)`."""
    W, b, c = rbm.weight, rbm.visible_units.bias, rbm.hidden_bias
    rows = [
        [-(v @ b) - (h - rbm.la) @ c - (v - rbm.mu) @ W @ (h - rbm.la) for h in bits(rbm.num_hidden)]
        for v in bits(len(b))
    ]
    return torch.stack([torch.stack(row) for row in rows])


def test_bits_of_counts_in_binary() -> None:
    assert torch.equal(bits_of(torch.arange(8), 3, like=torch.zeros(())), bits(3))


@pytest.mark.parametrize("centred", [False, True])
class TestBinaryRBM:
    def test_energy_is_the_formula(self, *, centred: bool) -> None:
        rbm = an_rbm(centred=centred)
        found = rbm.energy(bits(5)[:, None], bits(3)[None])
        torch.testing.assert_close(found, joint_energies(rbm))

    def test_free_energies_sum_the_other_layer_out(self, *, centred: bool) -> None:
        rbm = an_rbm(centred=centred)
        table = joint_energies(rbm)
        torch.testing.assert_close(rbm.free_energy(bits(5)), -torch.logsumexp(-table, 1))
        torch.testing.assert_close(rbm.free_energy(bits(5), rbm.hidden(bits(5))), -torch.logsumexp(-table, 1))
        torch.testing.assert_close(rbm.hidden_free_energy(bits(3)), -torch.logsumexp(-table, 0))

    def test_conditionals_are_the_joint_law_s(self, *, centred: bool) -> None:
        rbm = an_rbm(centred=centred)
        log_joint = -joint_energies(rbm)
        hidden = torch.stack([rbm.hidden(bits(5)).log_prob(h) for h in bits(3)], 1)
        torch.testing.assert_close(hidden, log_joint.log_softmax(1))
        visible = torch.stack([rbm.visible(bits(3)).log_prob(v) for v in bits(5)])
        torch.testing.assert_close(visible, log_joint.log_softmax(0))

    def test_log_z_by_either_side(self, *, centred: bool) -> None:
        rbm = an_rbm(centred=centred)
        expected = torch.logsumexp(-joint_energies(rbm).flatten(), 0)
        assert exact_log_z(rbm).lower == pytest.approx(expected.item(), abs=1e-10)
        torch.testing.assert_close(log_partition(rbm), expected)
        for count, free_energy in rbm.sides():
            torch.testing.assert_close(torch.logsumexp(-free_energy(torch.arange(2**count)), 0), expected)

    def test_annealing_ratios_telescope(self, *, centred: bool) -> None:
        """The increments from 0 to 1 at one state add up to f_1 / f_0, and log Z_0 is the base's."""
        rbm, v = an_rbm(centred=centred), bits(5)
        path = rbm.path(BernoulliUnits(5, logits=torch.linspace(-1, 1, 5)))
        at = torch.linspace(0, 1, 7)
        total = sum(path.advance(v, a, b)[0] for a, b in itertools.pairwise(at))
        base = v @ torch.linspace(-1, 1, 5) + 3 * np.log(2)
        torch.testing.assert_close(total, -rbm.free_energy(v) - base)
        torch.testing.assert_close(path.log_z0, torch.logsumexp(base, 0))


def test_offsets_move_and_the_law_stays() -> None:
    rbm, v = an_rbm(), bits(5)
    before = -rbm.free_energy(v) - log_partition(rbm)
    rbm.move_offsets(torch.rand(5), torch.rand(3))
    torch.testing.assert_close(-rbm.free_energy(v) - log_partition(rbm), before)


def test_the_gradient_is_the_centred_one() -> None:
    """<(v - mu)(h - la)'> of the data less the model's, by all states (Melchior et al. 2016, equation 10)."""
    rbm, x = an_rbm(centred=True), torch.rand(20, 5).round()
    (-rbm.free_energy(x).mean() - log_partition(rbm)).backward()
    p = (-joint_energies(rbm)).flatten().softmax(0).view(32, 8)

    def statistic(v: Tensor, h: Tensor, weight: Tensor) -> Tensor:
        return torch.einsum("n,ni,nj->ij", weight, v - rbm.mu, h - rbm.la)

    data = statistic(x, rbm.hidden(x).mean, torch.full((20,), 1 / 20))
    model = sum(statistic(v.expand(8, 5), bits(3), row) for v, row in zip(bits(5), p, strict=True))
    torch.testing.assert_close(rbm.weight.grad, data - model)


class TestGaussianRBM:
    def make(self) -> RBM:
        rbm = RBM(GaussianUnits(1, loc=torch.tensor([0.3]), scale=0.7), 2, scale=1.0)
        with torch.no_grad():
            rbm.hidden_bias.copy_(torch.tensor([0.5, -1.0]))
        rbm.move_offsets(torch.tensor([0.2]), torch.tensor([0.4, 0.6]))
        return rbm

    def test_log_z_by_quadrature(self) -> None:
        rbm = self.make()
        found, _ = integrate.quad(lambda v: (-rbm.free_energy(torch.tensor([v]))).exp().item(), -15, 15)
        assert exact_log_z(rbm).lower == pytest.approx(np.log(found), abs=1e-8)

    def test_hidden_free_energy_by_quadrature(self) -> None:
        rbm = self.make()
        for h in bits(2):
            found, _ = integrate.quad(lambda v, h=h: (-rbm.energy(torch.tensor([v]), h)).exp().item(), -15, 15)
            assert rbm.hidden_free_energy(h).item() == pytest.approx(-np.log(found), abs=1e-8)

    def test_the_law_of_data_given_causes(self) -> None:
        rbm, v = self.make(), torch.linspace(-3, 3, 7)[:, None]
        for h in bits(2):
            slope = rbm.visible(h).log_prob(v) + rbm.energy(v, h)
            torch.testing.assert_close(slope, slope[:1].expand(7))  # they differ by a constant

    def test_between_is_normalised_by_the_energies(self) -> None:
        units, base = GaussianUnits(1, loc=torch.tensor([1.0]), scale=0.5), GaussianUnits(1, scale=2.0)
        v, field, beta = torch.linspace(-2, 2, 9)[:, None], torch.tensor([0.7]), torch.tensor(0.3)
        log_f = -0.7 * base.energy(v) - 0.3 * (units.energy(v) - units.statistic(v) @ field)
        slope = units.between(base, beta, field).log_prob(v) - log_f
        torch.testing.assert_close(slope, slope[:1].expand(9))

    def test_annealed_log_z(self) -> None:
        rbm = self.make()
        found = annealed_log_z(rbm, num_temperatures=100, num_chains=500, sweeps=50)
        assert found.low < exact_log_z(rbm).lower < found.high


class TestBoltzmannMachine:
    def test_free_energy_and_log_z_by_all_states(self) -> None:
        machine = BoltzmannMachine(4, 2, scale=1.0)
        with torch.no_grad():
            machine.bias.normal_()
        W = machine.coupling
        assert torch.equal(W, W.T)
        assert not W.diag().any()
        energies = torch.stack([-s @ W @ s / 2 - machine.bias @ s for s in bits(6)]).view(16, 4)
        torch.testing.assert_close(machine.energy(bits(6)[:, :4], bits(6)[:, 4:]), energies.flatten())
        torch.testing.assert_close(machine.free_energy(bits(4)), -torch.logsumexp(-energies, 1))
        assert exact_log_z(machine).lower == pytest.approx(torch.logsumexp(-energies.flatten(), 0).item(), abs=1e-10)

    def test_a_visible_machine_matches_moments(self) -> None:
        """Its likelihood is concave: at the top, means and products of pairs are the data's."""
        machine, x = BoltzmannMachine(4), (torch.rand(200, 4) @ torch.randn(4, 4) > 0).double()
        x = torch.cat([x, bits(4)])  # so that no pair is certain
        fit(machine, None, x, ExactLikelihood(), steps=1500, batch_size=len(x), optimizer=adam(0.05))
        p = torch.softmax(-machine.free_energy(bits(4)), 0)
        torch.testing.assert_close(
            torch.einsum("k,ki,kj->ij", p, bits(4), bits(4)), x.T @ x / len(x), atol=1e-4, rtol=0
        )

    def test_clamped_sweeps_leave_data_alone_and_hit_their_law(self) -> None:
        machine = BoltzmannMachine(3, 2, scale=1.0)
        s = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0]).expand(20_000, 5)
        for _ in range(20):
            s = machine.sweep(s, clamp=True)
        assert torch.equal(s[:, :3], torch.tensor([1.0, 0.0, 1.0]).expand(20_000, 3))
        expected = torch.softmax(-machine.energy(s[:4, :3], bits(2)), 0)
        counts = np.bincount((s[:, 3] * 2 + s[:, 4]).long().numpy(), minlength=4)
        assert stats.chisquare(counts, expected.detach().numpy() * 20_000).pvalue > 1e-3

    def test_annealed_log_z(self) -> None:
        machine = BoltzmannMachine(6, 3, scale=0.7)
        found = annealed_log_z(machine, num_temperatures=100, num_chains=500, sweeps=50)
        assert found.low < exact_log_z(machine).lower < found.high
        assert found.gap < 0.1


def chi_square(states: Tensor, probs: Tensor) -> float:
    numbers = (states @ 2.0 ** torch.arange(states.shape[-1] - 1, -1, -1)).long().numpy()
    return float(stats.chisquare(np.bincount(numbers, minlength=len(probs)), probs.numpy() * len(states)).pvalue)


def test_gibbs_chains_of_an_rbm_draw_from_its_law() -> None:
    """Chi-square on the 2^6 states of the data, 30,000 chains of 50 sweeps."""
    rbm = an_rbm(6, 4, scale=0.7, centred=True)
    probs = torch.softmax(-rbm.free_energy(bits(6)), 0).detach()
    assert chi_square(rbm.sample(30_000, sweeps=50), probs) > 1e-3
    wrong = torch.softmax(-1.1 * rbm.free_energy(bits(6)), 0).detach()
    assert chi_square(rbm.sample(30_000, sweeps=50), wrong) < 1e-6  # the test can tell


def test_gibbs_chains_of_a_machine_draw_from_its_law() -> None:
    machine = BoltzmannMachine(6, 2, scale=0.7)
    probs = torch.softmax(-machine.free_energy(bits(6)), 0).detach()
    assert chi_square(machine.sample(30_000, sweeps=40), probs) > 1e-3


def test_the_4_2_4_encoder_is_learned_by_most() -> None:
    """Exact gradient, 100 seeds at once: from either half the other is read off, four codes, by >= 95 (Ackley 1985)."""
    machines = [BoltzmannMachine(8, 2, scale=0.1) for _ in range(100)]
    base, x = machines[0], torch.eye(4).repeat(1, 2)

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        def free_energy(v: Tensor) -> Tensor:
            return functional_call(_FreeEnergy(base), {f"of.{k}": p for k, p in parameters.items()}, (v,))

        return free_energy(x).mean() + torch.logsumexp(-free_energy(bits(8)), 0)

    parameters, _ = stack_module_state(machines)
    parameters = {name: value.detach() for name, value in parameters.items()}
    state = {name: torch.zeros_like(value) for name, value in parameters.items()}
    slope = vmap(grad(loss))
    for _ in range(800):  # gradient ascent with momentum
        found = slope(parameters)
        state = {name: 0.9 * state[name] - 0.3 * found[name] for name in state}
        parameters = {name: parameters[name] + state[name] for name in parameters}
    solved = 0
    for i in range(100):
        base.load_state_dict({name: value[i] for name, value in parameters.items()})
        complete = torch.cat([torch.eye(4).repeat_interleave(4, 0), torch.eye(4).repeat(4, 1)], 1)
        best = base.free_energy(complete).view(4, 4).argmin(1)
        solved += bool(torch.equal(best, torch.arange(4)))
    assert solved >= 95


class _FreeEnergy(torch.nn.Module):
    def __init__(self, of: BoltzmannMachine) -> None:
        super().__init__()
        self.of = of

    def forward(self, v: Tensor) -> Tensor:
        return self.of.free_energy(v)


class TestPartition:
    def test_a_second_way_back_leaves_the_first_as_it_is_and_the_higher_end_stands(self) -> None:
        rbm, v = an_rbm(6, 4, scale=0.5), torch.zeros(50, 6)
        how = {"num_temperatures": 20, "num_chains": 50, "sweeps": 0, "seed": 3}
        alone, both = annealed_log_z(rbm, **how), annealed_log_z(rbm, also_from=v, **how)
        assert (both.lower, both.lower_se) == (alone.lower, alone.lower_se)
        assert both.high >= alone.high
        ones, zeros = (annealed_log_z(rbm, start=v + s, **how).high for s in (1.0, 0.0))
        worse = annealed_log_z(rbm, also_from=v + float(ones > zeros), **how)  # the further off of two states
        assert worse.high > alone.high
        with pytest.raises(ValueError, match="`also_from` is given, but `reverse` is False"):
            annealed_log_z(rbm, also_from=v, reverse=False)

    def test_the_bracket_holds_for_nearly_all(self) -> None:
        """100 random machines of 10 x 8 units: each is to be inside with 95 % at least."""
        inside = 0
        for seed in range(100):
            torch.manual_seed(seed)
            rbm = an_rbm(10, 8, scale=0.5)
            found = annealed_log_z(rbm, num_temperatures=60, num_chains=100, sweeps=50, seed=seed)
            inside += found.low <= exact_log_z(rbm).lower <= found.high
        assert inside >= 95

    def test_forward_weights_are_unbiased_and_so_are_the_ones_that_come_back(self) -> None:
        """With exact draws to come back from: the mean of both estimates of Z or 1/Z, over 300 runs, 4 s.e."""
        rbm = an_rbm(4, 3, scale=1.5)
        log_z = exact_log_z(rbm).lower
        probs = torch.softmax(-rbm.free_energy(bits(4)), 0)
        forward, back = [], []
        for seed in range(300):
            torch.manual_seed(seed)
            exact = bits(4)[probs.multinomial(10, replacement=True)]
            found = annealed_log_z(rbm, num_temperatures=3, num_chains=10, start=exact, sweeps=0, seed=seed)
            forward.append(np.exp(found.lower - log_z))
            back.append(np.exp(log_z - found.upper))
        for estimate in (forward, back):
            assert abs(np.mean(estimate) - 1) < 4 * np.std(estimate) / np.sqrt(300)
        assert np.mean(np.log(forward)) < 0 < -np.mean(np.log(back))  # the sides

    def test_enumeration_is_in_parts(self) -> None:
        rbm = an_rbm(20, 16, scale=0.3)
        expected = torch.logsumexp(-rbm.hidden_free_energy(bits(16)), 0)
        assert exact_log_z(rbm).lower == pytest.approx(expected.item(), abs=1e-9)

    def test_likelihood_of_data(self) -> None:
        rbm, x = an_rbm(), bits(5)[::3]
        exact = energy_likelihood(rbm, x, exact_log_z(rbm)).to_frame()
        log_p = (-rbm.free_energy(bits(5))).log_softmax(0)[::3]
        assert exact["value"].tolist() == [pytest.approx(log_p.mean().item(), abs=1e-10)]
        annealed = annealed_log_z(rbm, num_temperatures=50, sweeps=20)
        frame = energy_likelihood(rbm, x, annealed).to_frame().set_index("direction")
        assert frame.loc["lower", "low"] < log_p.mean().item() < frame.loc["upper", "high"]
        assert "in [" in str(annealed)

    def test_a_number_from_below_alone_is_refused(self) -> None:
        rbm = an_rbm()
        found = annealed_log_z(rbm, num_temperatures=10, reverse=False)
        assert found.high == float("inf")
        assert "nothing is known from above" in str(found)
        with pytest.raises(ValueError, match=r"`log_z` is known from below alone, .* `reverse=True`"):
            energy_likelihood(rbm, bits(5), found)
        with pytest.raises(ValueError, match="from below alone"):
            found.to_frame()

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="`model` has 26 bits to enumerate, expected at most `most_bits` = 25"):
            exact_log_z(RBM(30, 26))
        with pytest.raises(ValueError, match="`num_chains` is 1, expected a whole number, at least 2"):
            annealed_log_z(an_rbm(), num_chains=1)
        with pytest.raises(ValueError, match="`sweeps` is -1, expected a whole number, 0 for none"):
            annealed_log_z(an_rbm(), sweeps=-1)
        with pytest.raises(ValueError, match="`start` has 1 rows, expected at least 2 chains"):
            annealed_log_z(an_rbm(), start=torch.zeros(1, 5))
        with pytest.raises(ValueError, match="`base` is 5 GaussianUnits, expected 5 BernoulliUnits"):
            an_rbm().path(GaussianUnits(5))

    def test_seeds_count_and_the_caller_s_state_does_not(self) -> None:
        rbm, state = an_rbm(), torch.get_rng_state()
        first, again, other = (annealed_log_z(rbm, num_temperatures=10, sweeps=5, seed=s) for s in (0, 0, 1))
        assert isinstance(first, LogZ)
        assert (first.lower, first.upper) == (again.lower, again.upper) != (other.lower, other.upper)
        assert torch.equal(torch.get_rng_state(), state)


def exact_slopes(rbm: RBM, x: Tensor) -> dict[str, Tensor]:
    names, values = zip(*rbm.named_parameters(), strict=True)
    loss = rbm.free_energy(x).mean() + log_partition(rbm)
    return dict(zip(names, torch.autograd.grad(loss, values), strict=True))


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("centred", [False, True])
def test_contrastive_slopes_are_the_exact_ones_after_many_sweeps(*, persistent: bool, centred: bool) -> None:
    """8 x 6 units; 100 steps of 100 chains and 30 sweeps, each entry of the mean slope within 4.5 s.e. (2e-5)."""
    rbm, x = an_rbm(8, 6, scale=0.4, centred=centred), torch.rand(100, 8).round()
    objective = PersistentContrastiveDivergence(k=30) if persistent else ContrastiveDivergence(k=30)
    (phase,) = objective.task(Pair(rbm, no_guide, modules_only=True), x).phases
    found = {name: [] for name, _ in rbm.named_parameters()}
    for _ in range(100):
        slopes = torch.autograd.grad(phase.loss(x, torch.zeros(())).loss, list(rbm.parameters()))
        for name, slope in zip(found, slopes, strict=True):
            found[name].append(slope)
    for name, expected in exact_slopes(rbm, x).items():
        each = torch.stack(found[name])
        error = each.std(0) / 10
        assert ((each.mean(0) - expected).abs() < 4.5 * error + 1e-12).all(), name


def test_one_sweep_is_biased_where_the_model_is_not_the_data() -> None:
    """CD-1 differs from the exact slope by far more than its error: the test above can fail."""
    rbm, x = an_rbm(8, 6, scale=1.0), torch.ones(100, 8)
    (phase,) = ContrastiveDivergence().task(Pair(rbm, no_guide, modules_only=True), x).phases
    each = torch.stack([torch.autograd.grad(phase.loss(x, torch.zeros(())).loss, rbm.weight)[0] for _ in range(400)])
    z = (each.mean(0) - exact_slopes(rbm, x)["weight"]).abs() / (each.std(0) / 20)
    assert z.max() > 10


@pytest.mark.parametrize("objective", [ExactLikelihood(), PersistentContrastiveDivergence(centre=0.05)], ids=str)
def test_fit_learns_a_small_law(objective: object) -> None:
    """Two patterns with noise: KL of the data from the model below 0.12 nats, from 0.9 at first."""
    patterns = torch.tensor([[1.0, 1, 1, 0, 0, 0], [0.0, 0, 0, 1, 1, 1]]).repeat(500, 1)
    x = (patterns + (torch.rand(1000, 6) < 0.05).double()) % 2
    rbm = RBM(6, 3, scale=0.1)
    fit(rbm, None, x, objective, steps=3000, optimizer=adam(0.01), mode="replay")
    numbers = (x @ 2.0 ** torch.arange(5, -1, -1)).long()
    share = torch.bincount(numbers, minlength=64) / 1000
    log_p = (-rbm.free_energy(bits(6))).log_softmax(0)
    assert (torch.special.xlogy(share, share) - share * log_p).sum() < 0.12


def test_the_exact_score_is_log_p() -> None:
    rbm, x = an_rbm(), bits(5)
    task = ExactLikelihood().task(Pair(rbm, no_guide, modules_only=True), x)
    torch.testing.assert_close(task.score(x), (-rbm.free_energy(x)).log_softmax(0))


def test_chains_are_kept_and_a_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    x = torch.rand(60, 8).round()

    def run(steps: list[int], folder: Path) -> dict[str, Tensor]:
        torch.manual_seed(1)
        rbm = RBM(8, 5)
        for i, until in enumerate(steps):
            objective = PersistentContrastiveDivergence(num_chains=7, centre=0.05)
            fit(rbm, None, x, objective, steps=until, batch_size=20, out=folder, resume=i > 0, checkpoint_seconds=0)
        return {name: value.clone() for name, value in rbm.state_dict().items()}

    whole, parts = run([40], tmp_path / "whole"), run([17, 40], tmp_path / "parts")
    assert whole["mu"].any()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


class TestBoltzmannLearning:
    """By chains with the data clamped, against chains that run free."""

    def slopes(self, machine: BoltzmannMachine, x: Tensor, objective: BoltzmannLearning, times: int) -> list[Tensor]:
        """Of every parameter at `times` updates, `(times, ...)`, the machine as it is."""
        task = objective.task(Pair(machine, no_guide, modules_only=True), x)
        for _ in range(30):  # free chains begin at the data
            task.phases[0].loss(x, torch.zeros(()))
        rows = [
            torch.autograd.grad(task.phases[0].loss(x, torch.zeros(())).loss, list(machine.parameters()))
            for _ in range(times)
        ]
        return [torch.stack(each) for each in zip(*rows, strict=True)]

    @pytest.mark.parametrize("hidden", [0, 3])
    def test_slopes_are_the_exact_ones(self, hidden: int) -> None:
        """5 visible units; 100 steps of 200 chains, 20 sweeps each; every entry of the mean within 5.5 standard errors.

        Chains that go on are correlated, so errors are those of 20 means of five steps each: of an entry the false
        alarm is 2.6e-5 (t of 19 degrees), of the 36 that a machine of 8 units has 1e-3.
        """
        machine, x = BoltzmannMachine(5, hidden, scale=0.6), torch.rand(100, 5).round()
        loss = machine.free_energy(x).mean() + log_partition(machine)
        exact = torch.autograd.grad(loss, list(machine.parameters()))
        found = self.slopes(machine, x, BoltzmannLearning(sweeps=20, clamped=20, num_chains=200), 100)
        for each, expected in zip(found, exact, strict=True):
            batches = each.view(20, 5, *each.shape[1:]).mean(1)
            error = batches.std(0) / 20**0.5
            assert ((each.mean(0) - expected).abs() < 5.5 * error + 1e-12).all()

    def test_hidden_units_that_are_not_swept_enough_bias_it(self) -> None:
        """One sweep from fair coins leaves strongly joined units off their law: the test above can fail."""
        machine, x = BoltzmannMachine(2, 4, scale=2.0), torch.ones(500, 2)
        exact = torch.autograd.grad(machine.free_energy(x).mean() + log_partition(machine), machine.bias)[0]
        found = self.slopes(machine, x, BoltzmannLearning(sweeps=20, clamped=1), 40)[1]
        assert ((found.mean(0) - exact).abs() / (found.std(0) / 40**0.5)).max() > 10

    def test_it_learns_a_law_of_pairs(self) -> None:
        """A visible machine of 7 bits reaches the top of its concave likelihood, known by `ExactLikelihood`."""
        x = (torch.rand(1000, 3) @ torch.randn(3, 7) + 0.3 * torch.randn(1000, 7) > 0.3).double()
        best, machine = BoltzmannMachine(7), BoltzmannMachine(7)
        fit(best, None, x, ExactLikelihood(), steps=300, batch_size=1000, optimizer=adam(0.1), mode="replay")
        top, begun = ((-each.free_energy(x).mean() - log_partition(each)).item() for each in (best, machine))
        objective = BoltzmannLearning(num_chains=300)
        fit(machine, None, x, objective, steps=800, batch_size=500, optimizer=adam(0.03), average=0.99, mode="replay")
        found = (-machine.free_energy(x).mean() - log_partition(machine)).item()
        assert begun < top - 1
        assert top - 0.05 < found < top + 1e-3

    def test_chains_are_part_of_checkpoints(self, tmp_path: Path) -> None:
        x, ends = torch.rand(60, 6).round(), []
        for name, parts in {"whole": [20], "parts": [9, 20]}.items():
            torch.manual_seed(1)
            machine = BoltzmannMachine(6, 2)
            for i, until in enumerate(parts):
                how = {"steps": until, "batch_size": 20, "out": tmp_path / name, "resume": i > 0}
                fit(machine, None, x, BoltzmannLearning(num_chains=7), checkpoint_seconds=0, **how)
            ends.append(machine.state_dict())
        assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())

    def test_more_hidden_units_than_can_be_enumerated(self) -> None:
        machine, x = BoltzmannMachine(6, 25), torch.rand(40, 6).round()
        before = machine.weight.detach().clone()
        fit(machine, None, x, BoltzmannLearning(clamped=2), steps=3, batch_size=20)
        assert not torch.equal(machine.weight, before)
        assert isinstance(machine, SweptEnergy)

    def test_what_is_no_such_machine_is_refused(self) -> None:
        with pytest.raises(TypeError, match="`model` is a RBM without `sweep`"):
            fit(an_rbm(), None, bits(5), BoltzmannLearning(), steps=1)
        with pytest.raises(ValueError, match="data are of length 5, but the model has `num_visible` = 4"):
            fit(BoltzmannMachine(4), None, bits(5), BoltzmannLearning(), steps=1)
        with pytest.raises(ValueError, match=r"25 bits to enumerate, .*: train it with `BoltzmannLearning"):
            fit(BoltzmannMachine(25), None, torch.rand(9, 25).round(), ExactLikelihood(), steps=1)
        for name in ("sweeps", "clamped", "num_chains"):
            with pytest.raises(ValueError, match=f"`{name}` is 0, expected"):
                BoltzmannLearning(**{name: 0})


def test_replayed_and_eager_steps_are_the_same() -> None:
    x = torch.rand(60, 8).round()
    found = []
    for how in ("replay", "eager"):
        torch.manual_seed(1)
        rbm = RBM(8, 5)
        fitted = fit(rbm, None, x, PersistentContrastiveDivergence(centre=0.05), steps=30, batch_size=20, mode=how)
        assert set(fitted.modes["contrast"].values()) == {how}
        found.append(rbm.weight.detach().clone())
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


class TestAsPrograms:
    def test_weights_with_the_exact_posterior_are_the_free_energy(self) -> None:
        rbm, x = an_rbm(), bits(5)
        weights = log_weights(rbm, HiddenGuide(rbm), x, 3)
        torch.testing.assert_close(weights.log_w, -rbm.free_energy(x).expand(3, 32))

    def test_a_deep_belief_network_by_enumeration(self) -> None:
        """An RBM above, bits below: importance sampling agrees with the sum over all 2^5 states, 4 s.e."""
        rbm = an_rbm()
        prior = RBMPrior(rbm, exact_log_z(rbm).lower, sweeps=50)
        model = SigmoidBeliefNetwork(6, (5,), prior=prior)
        guide = MeanFieldBernoulli(6, (5,))
        x = torch.rand(4, 6).round()
        found = log_likelihood(model, guide, x, num_particles=20_000)
        z = bits(5)
        log_prior = (-rbm.free_energy(z)).log_softmax(0)
        given = torch.stack([model.likelihood(z).log_prob(one) for one in x], 1)  # (32, 4)
        expected = torch.logsumexp(log_prior[:, None] + given, 0)
        assert ((found.value - expected).abs() < 4 * found.standard_error).all()
        assert model(n=7).shape == (7, 6)

    def test_the_law_of_the_prior_sums_to_one(self) -> None:
        rbm = an_rbm()
        prior = RBMPrior(rbm, exact_log_z(rbm).lower)
        law = prior()
        assert "RBMPrior: sound" in str(check_prior(prior))
        assert law.log_prob(bits(5)).exp().sum().item() == pytest.approx(1)
        assert law.expand([4]).sample().shape == (4, 5)


def test_contracts() -> None:
    assert isinstance(an_rbm(), Energy)
    assert isinstance(an_rbm(), RestrictedEnergy)
    assert isinstance(BoltzmannMachine(3), Energy)
    assert not isinstance(BoltzmannMachine(3), RestrictedEnergy)
    assert isinstance(an_rbm().path(), AnnealingPath)
    assert isinstance(BoltzmannMachine(3).path(), AnnealingPath)


def test_log_odds_of_the_mean() -> None:
    x = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(log_odds(x), torch.logit(torch.tensor([3 / 4, 1 / 4, 1 / 2])))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RBM(3, 0), "`num_hidden` must be an integer, at least 1, got 0"),
        (lambda: RBM(3, 2, scale=0.0), "`scale` is 0.0, expected a positive number"),
        (lambda: BernoulliUnits(3, logits=torch.zeros(2)), r"`logits` must have shape \(3,\), .* got \(2,\)"),
        (lambda: GaussianUnits(3, scale=-1.0), "`scale` is -1.0, expected a positive number"),
        (lambda: BoltzmannMachine(3, -1), "`num_hidden` must be an integer, at least 0, got -1"),
        (lambda: BoltzmannMachine(2, 21).free_energy(torch.zeros(1, 2)), "`num_hidden` is 21, .* at most 20"),
        (lambda: RBMPrior(RBM(GaussianUnits(3), 2), 0.0), "`rbm` has real visible units, expected bits"),
        (lambda: ContrastiveDivergence(k=0), "`k` is 0, expected a whole number of sweeps, at least 1"),
        (lambda: ContrastiveDivergence(centre=1.0), "`centre` is 1.0, expected a rate from 0 to below 1"),
        (lambda: PersistentContrastiveDivergence(num_chains=0), "`num_chains` is 0, expected at least 1"),
    ],
)
def test_refusals(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_models_that_an_objective_cannot_train() -> None:
    x = torch.zeros(10, 3)
    with pytest.raises(
        TypeError, match=r"`model` is a BoltzmannMachine without `hidden`, expected an energy model with"
    ):
        fit(BoltzmannMachine(3, 2), None, x, ContrastiveDivergence(), steps=1)

    class Plain(torch.nn.Module):  # all that CD asks for, and no offsets
        free_energy = hidden = visible = None

    with pytest.raises(TypeError, match="`model` is a Plain without `centre`"):
        fit(Plain(), None, x, PersistentContrastiveDivergence(centre=0.1), steps=1)
    with pytest.raises(ValueError, match=r"`RBM` has 21 bits to enumerate, expected at most 20: train it with"):
        fit(RBM(30, 21), None, torch.zeros(10, 30), ExactLikelihood(), steps=1)
    with pytest.raises(ValueError, match="`validation` is given, but the objective has no score"):
        fit(RBM(3, 2), None, x, ContrastiveDivergence(), steps=1, validation=x)


def test_the_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_default_dtype(torch.float32)
    boltzmann.main(epochs=2, hidden=5, out=tmp_path)
    out = capsys.readouterr().out
    exact, low, high = (
        float(re.findall(end, out)[0]) for end in (r"= ([\d.]+)", r"in \[([\d.]+)", r", ([\d.]+)\] nats")
    )
    assert low < exact < high
    assert "by 32 states" in out
    assert {path.name for path in tmp_path.iterdir()} == {"rbm.png", "belief.png"}
