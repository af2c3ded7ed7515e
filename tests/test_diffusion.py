"""Kernels against Bayes' rule, quadrature and enumeration; the chain as a program against its parts."""

import itertools
import math
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from inference import log_weights
from ppmodels.clocks import GatedMLP, TimeMLP, bumps, sinusoids
from ppmodels.diffusion import Diffusion, Noising
from ppmodels.kernels import BinomialKernel, Bits, GaussianKernel, Kernel
from ppmodels.patterns import Heartbeat
from ppmodels.rates import LearnedRates, geometric, harmonic, linear
from ppmodels.reverses import Discretised, Drift, Epsilon, FirstFixed, Flip, posterior_variance, step_variance

pytestmark = pytest.mark.usefixtures("double")


def steps(T: int, first: int = 1) -> Tensor:
    return torch.arange(first, T + 1)


def all_states(bits: int) -> Tensor:
    """Every vector of so many bits, (2 ** bits, bits)."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=bits)))


def noisy(net: Any, scale: float = 0.5) -> Any:
    """The same net with a head that is not silent."""
    with torch.no_grad():
        net.head.weight.normal_(0, scale)
        net.head.bias.normal_(0, scale)
    return net


def gaussian(T: int = 10, x_dim: int = 2, reverse: Any = None, betas: Tensor | None = None) -> Diffusion:
    kernel = GaussianKernel(harmonic(T, least=1e-3) if betas is None else betas)
    outputs = 2 if reverse is None else reverse.outputs
    return Diffusion(kernel, noisy(TimeMLP(x_dim, (8,), times=bumps(T), outputs=outputs)), reverse)


def binomial(T: int = 5, x_dim: int = 3, reverse: Any = None) -> Diffusion:
    return Diffusion(BinomialKernel(harmonic(T)), noisy(TimeMLP(x_dim, (8,), times=bumps(T))), reverse)


# -- rates -----------------------------------------------------------------------------------------------------


def test_rates_are_those_of_the_papers() -> None:
    """Harmonic rates leave (T - t) / T; DDPM's forget as much in any number of steps."""
    T = 20
    kept = (1 - harmonic(T)).cumprod(0)
    torch.testing.assert_close(kept, 1 - steps(T) / T)
    assert harmonic(4000, least=1e-3)[0] == 1e-3
    torch.testing.assert_close(linear(1000), torch.linspace(1e-4, 0.02, 1000))
    for T in (10, 100):
        left, whole = (float((1 - linear(t)).log().sum()) for t in (T, 1000))
        assert left == pytest.approx(whole, rel=1e-3)
    kept = (1 - geometric(30, first=1e-5, last=0.9)).cumprod(0)
    ratio = (kept / (1 - kept)).log().diff()
    torch.testing.assert_close(ratio, ratio[:1].expand(29), rtol=1e-6, atol=0)
    assert float(1 - kept[0]) == pytest.approx(1e-5)
    assert float(1 - kept[-1]) == pytest.approx(0.9)


def test_rates_are_summed_up_in_double_precision() -> None:
    """A billionth lost is a billionth, also where 1 minus it is 1 in the precision that is kept."""
    torch.set_default_dtype(torch.float32)
    rates = GaussianKernel(torch.tensor([1e-9, 1e-9, 0.5])).rates()
    assert rates.lost.dtype == torch.float32
    assert float(rates.lost[2]) == pytest.approx(2e-9, rel=1e-4)


def test_learned_rates_are_the_fixed_ones_and_have_a_gradient() -> None:
    betas = linear(10)
    learned, fixed = GaussianKernel(LearnedRates(betas)), GaussianKernel(betas)
    for mine, theirs in zip(learned.rates(), fixed.rates(), strict=True):
        torch.testing.assert_close(mine, theirs)
    x = torch.randn(4, 2)
    learned.noised(x, torch.tensor(10)).rsample().sum().backward()
    assert [name for name, _ in learned.named_parameters()] == ["rates.logits"]
    assert float(learned.rates.logits.grad.abs().min()) > 0
    assert float(learned.rates().beta[1].detach()) == float(betas[0])  # the first does not move


# -- kernels ---------------------------------------------------------------------------------------------------


def test_many_gaussian_steps_are_one() -> None:
    """Mean and variance of t steps, by recursion over the single steps."""
    kernel, x = GaussianKernel(linear(12)), torch.randn(1, 3)
    mean, variance = x, torch.zeros(1, 3)
    for t in steps(12):
        step: Any = kernel.q(mean, t)
        shrink = (1 - kernel.rates().beta[t]).sqrt()
        mean, variance = step.mean, shrink**2 * variance + step.variance
        whole = kernel.noised(x, t)
        torch.testing.assert_close(whole.mean, mean)
        torch.testing.assert_close(whole.variance, variance.expand_as(mean))


def test_many_tosses_are_one() -> None:
    """The law of a bit after t steps is the product of t matrices."""
    kernel, state = BinomialKernel(harmonic(7)), torch.tensor([[0.0], [1.0]])
    product = torch.eye(2)
    for t in steps(7):
        p_one = kernel.q(state, t).mean  # (2, 1): of 1, by the state before
        product = product @ torch.cat([1 - p_one, p_one], -1)
        torch.testing.assert_close(kernel.noised(state, t).mean[:, 0], product[:, 1])
    torch.testing.assert_close(product, torch.full((2, 2), 0.5))  # the last step tosses all that is left


def test_the_gaussian_posterior_is_bayes_rule() -> None:
    """On a grid: prior times likelihood, normalised, against the closed form, at every step from the second."""
    kernel = GaussianKernel(harmonic(8, least=1e-3))
    grid = torch.linspace(-9, 9, 20001).unsqueeze(-1)  # (points, 1)
    x, state = torch.tensor([[0.7]]), torch.tensor([[-0.4]])
    for t in steps(8, first=2):
        prior = kernel.noised(x, t - 1).log_prob(grid)
        likelihood = kernel.q(grid, t).log_prob(state)
        log_joint = prior + likelihood
        numeric = log_joint - torch.log(torch.trapezoid(log_joint.exp(), grid[:, 0]))
        exact = kernel.q_posterior(state, x, t).log_prob(grid)
        near = exact > -20
        torch.testing.assert_close(numeric[near], exact[near], rtol=1e-6, atol=1e-6)


def test_the_binomial_posterior_is_bayes_rule() -> None:
    kernel, state = BinomialKernel(harmonic(6)), all_states(1)
    for t in steps(6, first=2):
        for x, there in itertools.product(all_states(1), repeat=2):
            joint = (kernel.noised(x[None], t - 1).log_prob(state) + kernel.q(state, t).log_prob(there)).exp()
            torch.testing.assert_close(kernel.q_posterior(there[None], x[None], t).mean[0, 0], joint[1] / joint.sum())


@pytest.mark.parametrize("kernel", [GaussianKernel(linear(5)), BinomialKernel(harmonic(5))])
def test_kernels_are_reversible(kernel: Kernel) -> None:
    """Detailed balance with the law at rest, of any two states: the ground for a fixed first step."""
    rest = kernel.stationary(3)
    a, b = rest.sample(torch.Size([50])), rest.sample(torch.Size([50]))
    for t in steps(5):
        there, back = rest.log_prob(a) + kernel.q(a, t).log_prob(b), rest.log_prob(b) + kernel.q(b, t).log_prob(a)
        torch.testing.assert_close(there, back)


def test_kl_of_normals_and_of_bits() -> None:
    """Against quadrature on 20,001 points, and a sum over two states; broadcast, and beyond torch's reach."""
    p, q, grid = Normal(0.3, 0.8), Normal(-0.5, 1.3), torch.linspace(-12, 12, 20001)
    integrand = p.log_prob(grid).exp() * (p.log_prob(grid) - q.log_prob(grid))
    torch.testing.assert_close(kl_divergence(p, q), torch.trapezoid(integrand, grid))
    one, other = torch.tensor([[-3.0], [0.2], [2.0]]), torch.tensor([-1.0, 0.0, 4.0])
    found = kl_divergence(Bits(logits=one), Bits(logits=other))
    a, b = one.sigmoid(), other.sigmoid()
    torch.testing.assert_close(found, a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log())
    torch.testing.assert_close(
        found[:, 1], kl_divergence(Bernoulli(logits=one[:, 0]), Bernoulli(logits=torch.zeros(3)))
    )
    sure = Bits(logits=torch.tensor(60.0))
    assert float(kl_divergence(Bits(logits=torch.tensor(0.0)), sure)) == pytest.approx(30 - math.log(2))


def test_steps_may_differ_from_datum_to_datum() -> None:
    x, state, t = all_states(2), all_states(2).flip(0), torch.tensor([2, 6, 3, 4])
    for kernel in (GaussianKernel(linear(6)), BinomialKernel(harmonic(6))):
        for law in (kernel.noised, kernel.q, partial(kernel.q_posterior, x)):
            together = law(state.expand(7, 4, 2), t).mean
            for i in range(4):
                rows = law(state, t[i]).mean[i]
                torch.testing.assert_close(together[:, i], rows.expand(7, 2))


# -- reverses --------------------------------------------------------------------------------------------------


def test_a_silent_net_is_the_kernel_itself() -> None:
    for kernel, reverse in ((GaussianKernel(harmonic(6, least=1e-3)), Drift()), (BinomialKernel(harmonic(6)), Flip())):
        net = TimeMLP(3, (8,), times=bumps(6), outputs=reverse.outputs)
        model, state = Diffusion(kernel, net, reverse), all_states(3)
        for t in steps(6):
            mine, own = model.p(state, t), kernel.q(state, t)
            torch.testing.assert_close(mine.log_prob(state.flip(0)), own.log_prob(state.flip(0)))


def test_drift_and_flip_are_what_they_say() -> None:
    """Against the formulas with the net's numbers put in by hand."""
    model, state, t = gaussian(6, reverse=Drift()), torch.randn(5, 2), torch.tensor([1, 2, 3, 5, 6])
    f, g = model.net(state, t).chunk(2, -1)
    beta = model.kernel.rates().beta[t].unsqueeze(-1)
    found = model.p(state, t)
    torch.testing.assert_close(found.mean, state * (1 - beta).sqrt() + f * beta.sqrt())
    torch.testing.assert_close(found.variance, (g / math.sqrt(6) + (beta / (1 - beta)).log()).sigmoid())
    bits, states = binomial(6, reverse=Flip()), all_states(3)[:6]
    t, odds = steps(6), (2 - bits.kernel.rates().beta[1:]) / bits.kernel.rates().beta[1:]
    logits = (2 * states - 1) * odds.log().unsqueeze(-1) + bits.net(states, t)
    torch.testing.assert_close(bits.p(states, t).mean, logits.sigmoid())


def test_only_the_first_step_is_fixed() -> None:
    for free, fixed in (
        (gaussian(reverse=Drift()), FirstFixed(Drift())),
        (binomial(10, 2, reverse=Flip()), FirstFixed(Flip())),
    ):
        model, state = Diffusion(free.kernel, free.net, fixed), torch.ones(10, 2)
        found = model.p(state, steps(10)).mean
        torch.testing.assert_close(found[1:], free.p(state, steps(10)).mean[1:])
        torch.testing.assert_close(found[0], free.kernel.q(state, torch.tensor(1)).mean[0])
        assert not torch.allclose(found[0], free.p(state, steps(10)).mean[0])


@pytest.mark.parametrize("variance", [step_variance, posterior_variance])
def test_the_right_noise_gives_the_posteriors_mean(variance: Any) -> None:
    """Of a single datum the noise of a state is known: then p is q(x_{t-1} | x_t, x_0), but for the variance chosen."""
    kernel, x, state = GaussianKernel(linear(10)), torch.randn(1, 2), torch.randn(1, 2)
    for t in steps(10, first=2):
        found = Epsilon(variance)(kernel, state, t, kernel.noise(state, x, t))
        exact = kernel.q_posterior(state, x, t)
        torch.testing.assert_close(found.mean, exact.mean)
        wanted = exact.variance if variance is posterior_variance else kernel.rates().beta[t].expand(1, 2)
        torch.testing.assert_close(found.variance, wanted.expand(1, 2))
    one = torch.tensor(1)
    first = Epsilon(variance)(kernel, state, one, kernel.noise(state, x, one))
    torch.testing.assert_close(first.mean, x)
    assert float(first.variance.min()) > 0


def test_noise_is_what_was_added() -> None:
    kernel, x, epsilon = GaussianKernel(linear(10)), torch.randn(9, 2), torch.randn(9, 2)
    t = steps(9)
    law: Any = kernel.noised(x, t)
    torch.testing.assert_close(kernel.noise(law.mean + law.stddev * epsilon, x, t), epsilon)


def test_levels_of_grey_are_a_distribution() -> None:
    """The masses of all levels sum to one, and one of them is an integral of the density by quadrature."""
    model = gaussian(5, 1, reverse=Discretised(Epsilon(), 17), betas=linear(5))
    levels = torch.linspace(-1, 1, 17).unsqueeze(-1)
    state, one = torch.tensor([[0.4]]), torch.tensor(1)
    law = model.p(state, one)
    torch.testing.assert_close(law.log_prob(levels).exp().sum(), torch.tensor(1.0))
    plain: Any = Diffusion(model.kernel, model.net, Epsilon()).p(state, one)
    around = torch.linspace(0.25 - 1 / 16, 0.25 + 1 / 16, 20001)
    mass = torch.trapezoid(plain.log_prob(around.unsqueeze(-1)).exp(), around)
    torch.testing.assert_close(law.log_prob(torch.tensor([[0.25]])).exp()[0], mass)
    draws = law.sample(torch.Size([2000]))
    assert bool(torch.isin((draws * 8).round(), (levels * 8).round()).all())
    assert float((draws * 8 - (draws * 8).round()).abs().max()) < 1e-12


def test_levels_far_away_keep_their_gradient_and_other_steps_their_density() -> None:
    model = gaussian(5, 1, reverse=Discretised(Epsilon(), 256), betas=linear(5))
    plain = Diffusion(model.kernel, model.net, Epsilon())
    state = torch.tensor([[30.0], [-30.0], [30.0]]).requires_grad_()
    value, t = torch.tensor([[-0.5], [0.5], [0.3]]), torch.tensor([1, 1, 3])
    found = model.p(state, t).log_prob(value)
    torch.testing.assert_close(found[2], plain.p(state, t).log_prob(value)[2])
    density = plain.p(state, t).log_prob(value) + math.log(2 / 255)  # near enough: the normal falls by e^20 a level
    assert bool((found / density - 1).abs()[:2].max() < 0.05)
    (slope,) = torch.autograd.grad(found.sum(), state)
    assert bool(torch.isfinite(slope).all())
    assert float(slope[:2].abs().min()) > 1
    torch.testing.assert_close(model.p(state, t).mean, plain.p(state, t).mean)


# -- the program -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [gaussian, binomial])
def test_weights_of_an_untrained_chain_are_the_law_at_rest(make: Any) -> None:
    """Model and guide walk the same reversible chain, so every single draw has log w = log pi(x), whatever x is."""
    model = make()
    nn.init.zeros_(model.net.head.weight)
    nn.init.zeros_(model.net.head.bias)
    x = all_states(model.x_dim)
    log_w = log_weights(model, Noising(model.kernel), x, 20).log_w
    torch.testing.assert_close(log_w, model.end().log_prob(x).expand(20, -1))


def test_the_joint_of_bits_is_the_product_of_its_steps() -> None:
    """All 2 ** 18 chains of 3 bits and T = 5: p and q are normalised, and log w of draws is a lookup in them."""
    model = binomial(5, 3)
    states, T = all_states(3), 5
    log_p = model.end().log_prob(states)  # (8,), then a dimension for each step back
    log_q = model.q(states, torch.tensor(1)).log_prob(states.unsqueeze(1)).T  # from row to column
    for t in range(T, 0, -1):
        step = model.p(states, torch.tensor(t)).log_prob(states.unsqueeze(1)).T  # (8, 8): from x_t to x_{t-1}
        log_p = log_p.unsqueeze(-1) + step
    for t in range(2, T + 1):
        log_q = log_q.unsqueeze(-1) + model.q(states, torch.tensor(t)).log_prob(states.unsqueeze(1)).T
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0))
    torch.testing.assert_close(log_q.exp().sum(), torch.tensor(8.0))
    log_x = torch.logsumexp(log_p.flatten(0, -2), 0)  # the exact log p(x), (8,)
    w = log_weights(model, Noising(model.kernel), states, 4000).log_w
    mean = w.exp().mean(0) / log_x.exp()  # importance sampling is unbiased: 4 standard errors, 8 data, 5e-4
    assert bool(((mean - 1).abs() <= 4 * (w - log_x).exp().std(0) / math.sqrt(4000)).all())
    order = tuple(range(T, -1, -1))
    elbo = (log_q.exp() * (log_p.permute(order) - log_q)).flatten(1).sum(1)
    assert bool(((w.mean(0) - elbo).abs() <= 4 * w.std(0) / math.sqrt(4000)).all())
    assert bool((elbo < log_x).all())


def test_the_program_draws_and_scores_under_plates_further_left() -> None:
    model = gaussian(6, reverse=Discretised(Epsilon()), betas=linear(6))
    assert model(n=5).shape == (5, 2)
    x = model(n=4).detach()
    assert bool((x.abs() <= 1).all())
    assert log_weights(model, Noising(model.kernel), x, 7).log_w.shape == (7, 4)


@pytest.mark.parametrize("make", [TimeMLP, GatedMLP])
def test_nets_know_the_time_of_every_datum(make: Any) -> None:
    net = noisy(make(2, (8,), times=bumps(6, 4), outputs=2))
    state, t = torch.randn(3, 2), torch.tensor([1, 4, 6])
    together = net(state.expand(5, 3, 2), t)
    assert together.shape == (5, 3, 4)
    for i in range(3):
        torch.testing.assert_close(together[0, i], net(state[i : i + 1], t[i])[0])
    assert not torch.allclose(net(state, torch.tensor(1)), net(state, torch.tensor(6)))
    torch.testing.assert_close(bumps(6, 4).sum(-1), torch.ones(7))


def test_all_is_moved_and_saved_together() -> None:
    model = gaussian()
    copy = gaussian()
    copy.load_state_dict(model.state_dict())
    x = torch.randn(3, 2)
    torch.testing.assert_close(copy.p(x, torch.tensor(3)).mean, model.p(x, torch.tensor(3)).mean)
    assert model.float()(n=2).dtype == torch.float32


def test_heartbeats_are_five() -> None:
    beats = Heartbeat()
    x = beats.sample(1000, seed=1)
    assert bool((beats.log_prob(x.all()) == torch.tensor(-math.log(5)).float()).all())
    assert float(beats.log_prob(beats.patterns()).exp().sum()) == pytest.approx(1)
    assert float(beats.log_prob(torch.zeros(1, 20))) == -math.inf
    counts = torch.bincount(cast(Tensor, x.labels), minlength=5).double()
    assert float(((counts - 200) ** 2 / 200).sum()) < 18.5  # chi-square with 4 degrees of freedom: false alarm 1e-3
    assert bool((x.all().reshape(-1, 4, 5).sum((1, 2)) == 4).all())
    for row, label in zip(x.all()[:20], x.labels[:20], strict=True):  # type: ignore[index]
        assert row.nonzero().flatten().tolist() == [int(label) + 5 * i for i in range(4)]


# -- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GaussianKernel(torch.tensor([0.1])), r"`betas` must have shape \(T,\), a rate for each of at least 2"),
        (
            lambda: GaussianKernel(torch.tensor([0.0, 0.5])),
            "`betas` must be more than 0 and less than 1 .*0.0 for step 1",
        ),
        (lambda: BinomialKernel(torch.tensor([1.0, 0.5])), "`betas` must be .*got 1.0 for step 1"),
        (lambda: BinomialKernel(torch.tensor([0.5, 1.5])), "`betas` must be .*got 1.5 for step 2"),
        (lambda: GaussianKernel(torch.tensor([0.5, math.nan])), "`betas` must be .*got nan for step 2"),
        (lambda: LearnedRates(harmonic(4)), "`betas` must all be less than 1 to be learned"),
        (lambda: harmonic(1), "`num_steps` must be an integer, at least 2, got 1"),
        (lambda: linear(10, first=0.1, last=0.01), "`first` and `last` must be rates"),
        (lambda: geometric(10, first=0.9, last=0.1), "`first` and `last` must be what is lost"),
        (lambda: gaussian().p(torch.zeros(1, 2), torch.tensor(11)), "`t` must be a step from 1 to 10, got 11"),
        (lambda: gaussian().noised(torch.zeros(1, 2), torch.tensor([0])), "`t` must be a step from 1 to 10, got 0"),
        (
            lambda: gaussian().q_posterior(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor(1)),
            "`t` must be a step from 2 to 10, got 1",
        ),
        (lambda: gaussian().q(torch.zeros(1, 2), torch.tensor(1.0)), "`t` must be int64 of shape"),
        (lambda: gaussian().noised(torch.zeros(1, 3), torch.tensor(1)), r"`x` must have shape \(..., n, 2\), got"),
        (lambda: gaussian().p(torch.zeros(1, 3), torch.tensor(1)), r"`state` must have shape \(..., n, 2\), got"),
        (lambda: gaussian()(torch.zeros(4, 3)), r"`x` must have shape \(n, 2\)"),
        (lambda: binomial().noised(torch.full((1, 3), 0.5), torch.tensor(1)), "`x` must hold bits, 0 or 1, got 0.5"),
        (lambda: binomial().q(torch.full((1, 3), -1.0), torch.tensor(1)), "`state` must hold bits, 0 or 1, got -1.0"),
        (
            lambda: Diffusion(GaussianKernel(linear(4)), TimeMLP(3, times=bumps(4))),
            "`net` must make 6 numbers, 2 for each of 3, got 3",
        ),
        (
            lambda: Diffusion(GaussianKernel(harmonic(4)), TimeMLP(3, times=bumps(4)), Epsilon()),
            "`kernel` must leave something of the datum",
        ),
        (
            lambda: Diffusion(GaussianKernel(linear(4)), TimeMLP(3, times=bumps(5), outputs=2)),
            "`net` knows 5 steps, expected the 4 of the kernel",
        ),
        (lambda: Discretised(Epsilon(), 1), "`levels` must be an integer, at least 2, got 1"),
        (lambda: Discretised(Epsilon(), low=1.0, high=0.0), "`low` must be less than `high`"),
        (lambda: sinusoids(10, 5), "`size` must be even"),
        (lambda: TimeMLP(2, times=torch.zeros(5)), r"`times` must have shape \(T \+ 1, size\)"),
        (lambda: Heartbeat(4, 5), "`period` is 5, expected from 1 to the `length`, 4"),
        (lambda: Heartbeat().sample(0), "`n` must be at least 1, got 0"),
    ],
)
def test_values_that_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Diffusion(cast(Any, linear(4)), TimeMLP(2, times=bumps(4))), "`kernel` must be a Kernel, got Tensor"),
        (
            lambda: Diffusion(BinomialKernel(harmonic(4)), TimeMLP(2, times=bumps(4)), Epsilon()),
            "`reverse` is Epsilon, which walks back a GaussianKernel, got a BinomialKernel",
        ),
        (lambda: FirstFixed(cast(Any, Epsilon())), "`reverse` must be `Drift` or `Flip`, got Epsilon"),
        (lambda: Discretised(cast(Any, Flip())), "`reverse` must be a normal one, got Flip"),
        (
            lambda: gaussian().squared_error(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor(1)),
            "`reverse` must tell the noise, as `Epsilon` does, got FirstFixed",
        ),
    ],
)
def test_kinds_that_are_refused(call: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()
