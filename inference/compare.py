r"""The bound ladder: several bounds, one pair, one set of draws for all that can share it, one table with errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from inference.batches import as_data, read_once
from inference.bounds import AIS, ELBO, EUBO, Bound, ReverseAIS, check_bound, parse_bound
from inference.bounds import source_of as source
from inference.bracket import paired_difference
from inference.climb import Climb, How, Rung, on_simulated
from inference.draws import check_particles
from inference.graph import Mode
from inference.ladder import CrossedBoundsError, Ladder, pooled
from inference.pair import Pair
from inference.schedule import Annealing
from inference.seeds import stream
from inference.simulate import simulate
from ppmodels.contracts import Batch, Data, Program

__all__ = ["BoundSpec", "CrossedBoundsError", "Ladder", "compare_bounds", "paired_difference"]

BoundSpec = str | Bound | tuple[Bound, int]
"""`"iwae:50"`, a bound (at the table's largest K), or a bound and its K."""

DEFAULT_BOUNDS = ("elbo", "iwae:5", "iwae:50", "renyi:0.5:50", "vrmax:50")

POSTERIOR_DRAWS = 1600
"""Draws per datum for `EUBO`, where its row names no K."""

SIMULATED = 100
"""Data drawn from the model for bidirectional Monte Carlo, where it is not said how many."""


def compare_bounds(
    model: Program,
    guide: Program,
    data: Data | Batch,
    bounds: str | Bound | Iterable[BoundSpec] = DEFAULT_BOUNDS,
    *,
    num_particles: int | None = None,
    batch_size: int = 100,
    chunk: int | None = None,
    seed: int | Sequence[int] = 0,
    num_simulated: int | None = None,
    checkpoint: str | Path | None = None,
    mode: Mode = "auto",
    progress: bool | None = None,
) -> Ladder:
    """Evaluate several bounds of one pair, each set of draws made once for all rows that can share it.

    Most bounds are functions of draws from the guide. `AIS` anneals chains from the guide to the posterior, `EUBO`
    draws from the posterior by MCMC. Reverse AIS (`"bdmc"`) needs exact draws of the posterior, which are known for
    data drawn from the model itself: it makes a second ladder, on such data, with all the other bounds in it too.

    Args:
        model: any Pyro callable.
        guide: any Pyro callable over the same latent sites.
        data: a dataset, or a tensor, tuple or mapping of tensors.
        bounds: `"elbo"`, `"iwae:50"`, `"tvo"`, `"cubo:2"`, `"ais"`, `"bdmc"` (see `inference.bounds.parse_bound`), any
            bound, or a bound and its K; your own are as good, see `inference.bounds.bound`.
        num_particles: draws per datum from the guide; by default the largest K asked for. A bound without a K of its
            own uses all.
        batch_size: data at a time.
        chunk: draws at a time.
        seed: seeds the draws (and the data's own noise); several are averaged, and each kept in `Ladder.replications`.
        num_simulated: data to draw from the model for a second ladder; none unless `"bdmc"` is asked for, then 100.
        checkpoint: a folder to keep the state of annealed chains in, from which a call cut short goes on. What it holds
            of another pair, other data or other settings is left alone.
        mode: how the programs are run: compiled ("inductor"), from their tensor graph ("replay"), as they are
            ("eager"), or what is quickest for this much work ("auto"); see `inference.graph`.
        progress: show a bar; by default where there is a terminal.

    Raises:
        CrossedBoundsError: if a lower bound exceeds an upper one by more than 4 standard errors, both holding in
            expectation.
        ValueError: if a bound is not known, or two rows would have the same name; see also `log_weights`.

    >>> import torch, pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 3, 1.0))
    >>> ladder = compare_bounds(model, guide, torch.randn(50), ["elbo", "iwae:10", "iwae:100", "cubo:2"])
    >>> list(ladder.table["bound"])
    ['ELBO', 'IWAE-10', 'IWAE-100', 'CUBO(2)-100']
    >>> bool(ladder.table["value"].is_monotonic_increasing), ladder.bracket().certified
    (True, False)
    """
    alone = isinstance(bounds, str) or (isinstance(bounds, Bound) and callable(bounds))
    rungs = _read_all([bounds] if alone else bounds, num_particles)  # type: ignore[list-item, arg-type]
    seeds = (seed,) if isinstance(seed, int) else tuple(seed)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"`seed` is {list(seeds)}, expected a whole number, or several that differ")
    pair, data = Pair(model, guide), read_once(as_data(data), stream(seeds[0], "data"))
    reverse = [rung for rung in rungs if source(rung.bound) == "reverse annealing"]
    if reverse and num_simulated is None:
        num_simulated = SIMULATED
    drawn = simulate(pair, data, num_simulated, seed=seeds[0]) if num_simulated else None
    found = []
    for one_seed in seeds:
        how = How(
            num_particles or 1, batch_size, chunk, one_seed, mode, progress, Path(checkpoint) if checkpoint else None
        )
        beside = Climb(pair, as_data(drawn.data), how, drawn).ladder(on_simulated(rungs)) if drawn else None
        given = [Rung(rung.bound, rung.num_particles) for rung in rungs if rung not in reverse]
        found.append(Climb(pair, data, how).ladder(given, beside))
    return pooled(found).check()


def _read_all(bounds: Iterable[BoundSpec], num_particles: int | None) -> list[Rung]:
    """Read what was asked for; a bound without a K of its own takes all the draws there are."""
    specs = [_read(spec) for spec in bounds]
    if not specs:
        raise ValueError("`bounds` is empty, expected at least one row")
    if num_particles is not None:
        check_particles(num_particles)
    K = max([num_particles or 1, *(k or 1 for bound, k in specs if source(bound) == "guide")])
    rungs = [Rung(bound, k or _default_particles(bound, K)) for bound, k in specs]
    for rung in rungs:
        groups = getattr(rung.bound, "groups", 1)
        if isinstance(groups, int) and rung.num_particles % groups:
            raise ValueError(
                f"`bounds` has {rung.bound.name} with {rung.num_particles} draws, expected a multiple of its {groups} "
                f"groups: give it a K, such as {groups * max(1, rung.num_particles // groups)}"
            )
    labels = [rung.label for rung in rungs]
    twice = [label for label in dict.fromkeys(labels) if labels.count(label) > 1]
    if twice:
        raise ValueError(f"`bounds` has {twice[0]} twice, expected each row once: drop one, or give it another K")
    return rungs


def _read(spec: BoundSpec) -> tuple[Bound, int | None]:
    if isinstance(spec, str):
        return parse_bound(spec)
    bound, K = spec if isinstance(spec, tuple) else (spec, 1 if isinstance(spec, ELBO) else None)
    if not isinstance(bound, Bound):
        raise TypeError(
            f"`bounds` has a {type(bound).__name__}, expected a string, a bound, or a bound and its K: a bound is a "
            "callable with `name` and `direction`, such as `inference.bounds.bound` makes of a function"
        )
    if isinstance(bound, type):
        raise TypeError(f"`bounds` has the class {bound.__name__}, expected one of its bounds: {bound.__name__}(...)")
    if K is not None and (not isinstance(K, int) or K < 1):
        raise ValueError(f"`bounds` has {bound.name} whose K is {K!r}, expected a whole number, at least 1")
    check_bound(bound)
    if isinstance(bound, EUBO) and bound.exact:
        raise ValueError(
            "`bounds` has EUBO(exact=True), but exact draws of the posterior are known for simulated data alone: use "
            "EUBO(), which is exact there, see `num_simulated`"
        )
    if K is not None and isinstance(bound, AIS | ReverseAIS) and bound.annealing.num_chains < K:
        raise ValueError(
            f"`bounds` has {bound.name} whose K is {K}, expected at most its chains, {bound.annealing.num_chains}: set "
            "`num_chains` of its `Annealing`"
        )
    return bound, K


def _default_particles(bound: Bound, K: int) -> int:
    if source(bound) in ("annealing", "reverse annealing"):
        settings: Annealing = getattr(bound, "annealing", Annealing())
        return settings.num_chains
    return POSTERIOR_DRAWS if source(bound) == "posterior" else K
