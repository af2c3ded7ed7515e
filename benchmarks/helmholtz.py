r"""Sigmoid belief networks on MNIST by eight ways of learning, at equal epochs: wake-sleep, reweighted, and bounds.

    PPMODELS_DATA=... python -m benchmarks.helmholtz [--net 200 200] [--only NAMES] [--epochs E] [--out DIR]

Each row is a run of its own, kept in DIR, that can be stopped and started again; a row that is there is read. Images
are binarised once under a seed ("static"): what is drawn for one row is drawn for all. K is 5 draws wherever a method
has more than one.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from benchmarks.latents import Protocol, Row, judge
from guides import AutoregressiveBernoulli, MeanFieldBernoulli
from inference.bounds import ELBO, IWAE, TVO
from inference.diagnostics import active_units
from inference.estimators import VIMCO, ScoreFunction, StraightThrough, ThermodynamicCovariance
from inference.objectives import Objective, Variational
from inference.wake_sleep import WakeSleep
from ppmodels.helmholtz import SigmoidBeliefNetwork

METHODS: dict[str, Objective] = {
    "wake-sleep": WakeSleep(),
    "RWS, wake": WakeSleep(5, wake=1.0, sleep=0.0),
    "RWS, sleep": WakeSleep(5, wake=0.0, sleep=1.0),
    "RWS, both": WakeSleep(5, wake=0.5, sleep=0.5),
    "VIMCO": Variational(IWAE(), 5, estimator=VIMCO()),
    "NVIL-style": Variational(ELBO(), 5, estimator=ScoreFunction("batch")),
    "TVO": Variational(TVO(5, first=0.03), 5, estimator=ThermodynamicCovariance()),
    "straight-through": Variational(ELBO(), 5, estimator=StraightThrough(1.0)),
}
"""By the name of its row. The baseline of "NVIL-style" is the mean over the other data of a batch, not a net."""


def measure(method: str, net: tuple[int, ...], protocol: Protocol, out: Path, *, nade: bool) -> Row:
    """Train one net by one method, and judge it on the test images."""
    train, test = protocol.data()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(protocol.seed)
        model = SigmoidBeliefNetwork(784, net, logits=train.logits())
        guide = (AutoregressiveBernoulli if nade else MeanFieldBernoulli)(784, net)
    minutes = protocol.train((model, guide), train, out, METHODS[method])
    active = active_units(model, guide, test.head(500)).count
    used = " + ".join(f"{active[site]}" for site in model.sites)
    return {"method": method} | judge((model, guide), test, protocol) | {"active": used, "min": minutes}


def row(method: str, net: tuple[int, ...], protocol: Protocol, folder: Path, *, nade: bool) -> Row:
    """A row that has been measured, or measure it."""
    name = "-".join(map(str, net)) + ("-nade" if nade else "")
    out = folder / name / f"seed{protocol.seed}" / method.replace(", ", "-")
    kept = out.with_suffix(".json")
    if kept.exists():
        found: Row = json.loads(kept.read_text())
        return found
    found = measure(method, net, protocol, out, nade=nade)
    kept.write_text(json.dumps(found))
    return found


def main() -> None:
    """Print the table of a net."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", type=int, nargs="+", default=[200], help="bits in each layer, from the data up")
    parser.add_argument("--nade", action="store_true", help="an autoregressive guide")
    parser.add_argument("--only", default="", help="which methods, by semicolons")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--num-train", type=int, default=50_000)
    parser.add_argument("--num-test", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("runs/helmholtz"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    methods = [name.strip() for name in args.only.split(";") if name.strip()] or list(METHODS)
    if unknown := set(methods) - set(METHODS):
        parser.error(f"`--only` has {', '.join(sorted(unknown))}, expected some of {'; '.join(METHODS)}")
    given = {name: getattr(args, name) for name in ("epochs", "lr", "particles", "num_train", "num_test")}
    protocol = Protocol(**given)
    rows = [
        row(method, tuple(args.net), replace(protocol, seed=seed), args.out, nade=args.nade)
        for seed in args.seeds
        for method in methods
    ]
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
