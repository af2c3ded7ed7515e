"""Effective draws a second: our `chees`, BlackJAX's NUTS and ChEES, and Pyro's NUTS, on posteriors that are known.

    python -m benchmarks.mcmc [models...] [--rounds R] [--quick] [--full] [--only samplers,scaling,sbc]

Every sampler is a resident process on one core and has its turn in every round, with another seed in each. The least
bulk ESS over the reference's scalars is divided by the seconds of warm-up *and* draws; building is a column of its own.
All draws are judged in one process, by the same functions.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from benchmarks.harness import Row, Settings, wanted
from benchmarks.judging import Found, Score, judge, measure
from benchmarks.posteriors import POSTERIORS, load
from benchmarks.report import Quartiles, digits, markdown, verdict
from benchmarks.steps import INDUCTOR, REPLAY

MODELS = ("eight_schools", "kidscore_interaction", "arK")
ROUNDS = 5
PYRO, PYRO_JIT = "Pyro NUTS", "Pyro NUTS, jit"
BLACKJAX, BLACKJAX_DENSE, BLACKJAX_CHEES = "BlackJAX NUTS", "BlackJAX NUTS, dense", "BlackJAX ChEES"
TARGETS = {(PYRO, "eight_schools"): 300.0, **{(BLACKJAX, name): 1.0 for name in MODELS}}
"""How many times as fast ours should at least be, by peer and model."""

CHAINS = (1, 4, 16, 64, 256, 1024)
DATASETS, SBC_SECONDS = 512, 30.0


def limited(settings: Settings) -> int:
    """Rounds: a run takes seconds where other tables' steps take milliseconds."""
    return min(settings.rounds, 2 if settings.quick else ROUNDS)


# -- samplers ------------------------------------------------------------------------------------------------


def samplers(settings: Settings, models: Sequence[str] = MODELS) -> str:
    """A line per sampler and model, then ours over the others."""
    lines, ratios, rounds = list[list[object]](), list[list[object]](), limited(settings)
    for name in models:
        posterior = load(name)
        with tempfile.NamedTemporaryFile(suffix=".npz") as data:
            np.savez(data, *(np.asarray(value) for value in posterior.args))
            data.flush()
            some = wanted(rows(name, data.name, settings), settings)
            found = measure(some, partial(judge, posterior), rounds)
        lines += [line(each, name) for each in found]
        ratios += compared(found, name, {} if settings.quick else TARGETS)
    said = (
        f"{rounds} rounds, float64. ESS and s are medians; R-hat and err, of a mean in standard deviations, the "
        "largest of all rounds; divergences their sum. s is warm-up and draws, build the rest of the first call with "
        "nothing cached. Chains x (warm-up + draws): ChEES 64 x (500 + 500), BlackJAX NUTS 4 x (500 + 500), Pyro 2 x "
        f"(300 + 300){', a tenth of these here' if settings.quick else ''}."
    )
    header = ["sampler", "model", "min bulk ESS", "s", "build, s", "ESS/s [quartiles]", "R-hat", "err", "divergences"]
    return "\n\n".join(
        [said, markdown(header, lines), markdown(["ours over", "model", "ratio of ESS/s [quartiles]"], ratios)]
    )


def rows(model: str, data: str, settings: Settings) -> list[Row]:
    """Who is measured on a model; Pyro, which takes minutes, on eight schools alone unless with `--full`."""
    ours = {"name": model, **sizes(settings, 500)}
    found = [
        Row(INDUCTOR, "benchmarks.samplers:chees", {**ours, "mode": "inductor"}),
        Row(REPLAY, "benchmarks.samplers:chees", {**ours, "mode": "replay"}),
    ]
    if model in MODELS:
        theirs = {**ours, "data": data}
        found += [
            Row(BLACKJAX, "benchmarks.peer_blackjax:nuts", theirs, peer="blackjax"),
            Row(BLACKJAX_DENSE, "benchmarks.peer_blackjax:nuts", {**theirs, "dense": True}, peer="blackjax"),
            Row(BLACKJAX_CHEES, "benchmarks.peer_blackjax:chees", theirs, peer="blackjax"),
        ]
    if model == "eight_schools" or settings.full:
        pyros = {"name": model, **sizes(settings, 300)}
        found += [
            Row(PYRO, "benchmarks.samplers:pyro_nuts", {**pyros, "jit": False}),
            Row(PYRO_JIT, "benchmarks.samplers:pyro_nuts", {**pyros, "jit": True}),
        ]
    return found


def sizes(settings: Settings, number: int) -> dict[str, Any]:
    """Transitions of a chain."""
    number = number // 10 if settings.quick else number
    return {"warmup": number, "draws": number}


def line(found: Found, model: str) -> list[object]:
    """A sampler's line of the table."""
    if found.reason:
        return [found.name, model, f"not measured: {found.reason}", *["-"] * 6]
    ess, seconds = (digits(found.spread(of).middle) for of in ("ess", "seconds"))
    divergences = sum(score.divergences for score in found.scores)
    worst = [found.worst("rhat"), found.worst("err")]
    return [found.name, model, ess, seconds, digits(found.build), found.spread("speed"), *worst, f"{divergences:,}"]


def compared(found: Sequence[Found], model: str, targets: Mapping[tuple[str, str], float]) -> Iterator[list[object]]:
    """Ours, compiled, over every other, beside the target where there is one: short runs have none."""
    ours = next((each for each in found if each.name == INDUCTOR), None)
    for other in found:
        ratio = ours.over(other) if ours is not None and other is not ours else None
        if ratio is not None:
            limit = targets.get((other.name, model))
            yield [other.name, model, ratio if limit is None else at_least(ratio, limit)]


def at_least(value: Quartiles, limit: float) -> str:
    """A measured ratio beside its target."""
    return f"{value}, >= {digits(limit)}: {'met' if value.middle >= limit else '**missed**'}"


# -- chains and data sets by the hundred ---------------------------------------------------------------------


def scaling(settings: Settings) -> str:
    """What a thousand transitions of eight schools take as chains grow, and what they give."""
    posterior, rounds = load("eight_schools"), limited(settings)
    options = {"name": posterior.name, "mode": "inductor", **sizes(settings, 500)}
    some = [
        Row(f"{INDUCTOR}, C = {chains}", "benchmarks.samplers:chees", {**options, "chains": chains})
        for chains in CHAINS[: 3 if settings.quick else None]
    ]
    lines = list[list[object]]()
    for each in measure(wanted(some, settings), partial(judge, posterior), rounds):
        if each.reason:
            lines.append([each.name, f"not measured: {each.reason}", "-", "-", "-"])
        else:
            spreads = [each.spread(of) for of in ("seconds", "ess", "speed")]
            lines.append([each.name, *spreads, each.worst("rhat")])
    transitions = 2 * options["warmup"]
    header = ["eight_schools", f"s per {transitions:,} transitions [quartiles]", "min bulk ESS", "ESS/s", "R-hat"]
    return f"{rounds} rounds; half of the transitions are warm-up.\n\n{markdown(header, lines)}"


def calibration(settings: Settings) -> str:
    """The seconds of a calibration on eight schools, from the first draw of data to the last rank."""
    datasets = 32 if settings.quick else DATASETS
    row = Row("ours, sbc", "benchmarks.samplers:calibration", {"datasets": datasets})
    (found,) = measure([row], lambda _, seconds, divergences: Score(seconds, divergences), limited(settings))
    if found.reason:
        return f"Simulation-based calibration: not measured ({found.reason})"
    return (
        f"Simulation-based calibration on eight schools, {datasets} data sets of 4 chains x (300 + 250), in s "
        f"[quartiles] of {len(found.scores)} calls: {verdict(found.spread('seconds'), SBC_SECONDS)}; the first, with "
        f"nothing cached: {digits(found.build)}."
    )


# -- commands ------------------------------------------------------------------------------------------------

Sections: TypeAlias = dict[str, Callable[[Settings], str]]
SECTIONS: Sections = {"samplers": samplers, "scaling": scaling, "sbc": calibration}


def table(settings: Settings) -> str:
    """All sections; one sentence where the references are missing."""
    try:
        return "\n\n".join(section(settings) for section in SECTIONS.values())
    except FileNotFoundError as error:
        return f"Not measured: {error}."


def main() -> None:
    """Print the sections asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(POSTERIORS)}; {', '.join(MODELS)} by default")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of every sampler, {ROUNDS} at most")
    parser.add_argument("--quick", action="store_true", help="two short rounds, to see that all works")
    parser.add_argument("--full", action="store_true", help="Pyro's NUTS on every model")
    parser.add_argument("--only", default="", help="sections, and parts of the names of samplers, by commas")
    given = parser.parse_args()
    if unknown := set(given.models) - POSTERIORS.keys():
        parser.error(f"no model is called {', '.join(sorted(unknown))}: expected {', '.join(POSTERIORS)}")
    if given.rounds < 1:
        parser.error(f"`--rounds` is {given.rounds}, expected at least 1")
    parts = [part for part in given.only.split(",") if part]
    names = tuple(part for part in parts if part not in SECTIONS)
    settings = Settings(rounds=given.rounds, full=given.full, quick=given.quick, only=names)
    sections: Sections = {**SECTIONS, "samplers": partial(samplers, models=given.models or MODELS)}
    for name in [part for part in parts if part in SECTIONS] or SECTIONS:
        print(f"{sections[name](settings)}\n", flush=True)


if __name__ == "__main__":
    main()
