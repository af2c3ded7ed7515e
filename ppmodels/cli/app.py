"""The `ppmodels` command: parse, call, print.

What is slow to import is imported in the command that needs it, so that `ppmodels --help` is quick.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ppmodels import __version__

from .show import line, print_table, to_json

if TYPE_CHECKING:
    from inference.fit import Fitted

    from .posterior import Sampled

__all__ = ["app", "main"]

app = typer.Typer(
    name="ppmodels",
    help="Fit, judge and sample generative models.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

UsageError: Any = typer.BadParameter.__bases__[0]  # typer does not export it

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:INDEX, or auto: cuda where there is one.")]
SplitOption = Annotated[str, typer.Option(help="Which data: train, valid, test or all.")]
NumDataOption = Annotated[int | None, typer.Option(min=0, help="How many data, 0 for all; else the recipe's.")]
Threshold = Annotated[float | None, typer.Option(metavar="X", help="In the place of the usual threshold.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: 0 for success, 2 for wrong input, 130 if interrupted.

    1 is for a finding of `doctor`, `diagnose` or `report --strict`.

    >>> main(["fit", "digits-va"])
    2
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    settings = SimpleNamespace(debug=False)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: line("warning", message)
        try:
            code = typer.main.get_command(app).main(
                args=arguments or ["--help"],
                prog_name="ppmodels",
                standalone_mode=False,
                obj=settings,
            )
            sys.stdout.flush()
        except BrokenPipeError:  # the reader of a pipe has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except UsageError as error:
            line("error", error.format_message())
            return 2
        except (ValueError, TypeError, OSError, ArithmeticError, ImportError) as error:
            if settings.debug:
                raise
            line("error", _message(error))
            return 2
        except RuntimeError as error:  # torch has no type of its own for a CPU out of memory
            if settings.debug or "memory" not in str(error):
                raise
            line("error", f"out of memory ({str(error).splitlines()[0]}): use a smaller batch, network or chunk")
            return 2
        except typer.Abort:
            return 130
    return code if isinstance(code, int) else 0


def _message(error: Exception) -> str:
    """What an error says; the system's own errors say it in numbers."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        print(f"ppmodels {__version__}")
        raise typer.Exit


@app.callback()
def ppmodels(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Fit, judge and sample generative models."""
    context.obj.debug = debug


@app.command("list")
def list_(*, json: JsonOption = False) -> None:
    """List the models, the programs and the recipes."""
    from ppmodels import programs, zoo
    from ppmodels.recipes import load_recipe, recipe_names

    from . import posterior

    recipes = [load_recipe(name) for name in recipe_names()]
    rows = [{"recipe": r.name, "data": r.data.name, "aim": r.aim, "paper": r.paper} for r in recipes]
    tables: dict[str, list[dict[str, Any]]] = {"models": zoo.table(), "recipes": rows}
    tables |= {"programs": programs.table(), "posteriors": posterior.rows()}
    if json:
        print(to_json(tables))
        return
    for i, table in enumerate(tables.values()):
        if i:
            print()
        print_table(table)


@app.command()
def fit(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name, or a path to a .toml.")],
    *,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: bound.num_particles=50.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same as --set seed=SEED.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; else a new one in runs/.")] = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Fit the model of a recipe to its data, and write a run folder."""
    from ppmodels.recipes import load_recipe

    from . import experiment

    wanted = load_recipe(recipe, [*(changes or []), *([] if seed is None else [f"seed={seed}"])])
    folder = out or _free_folder(f"{wanted.name}-{wanted.seed}")
    with _resumable(folder):
        fitted = experiment.fit_recipe(wanted, folder, device=experiment.parse_device(device))
    _print_fitted(fitted, json=json)


@app.command()
def resume(
    run: RunArgument,
    *,
    device: Annotated[str | None, typer.Option(help="Where to go on; else where the run was begun.")] = None,
    json: JsonOption = False,
) -> None:
    """Go on with a run, a fit or a posterior, from its newest checkpoint to the end its recipe asks for."""
    from . import experiment, posterior

    begun = experiment.begun(run)
    place = experiment.parse_device(begun.manifest.get("device", "auto") if device is None else device)
    if posterior.is_posterior(begun):
        with _resumable(run):
            sampled = posterior.resume_posterior(begun, device=place)
        _print_sampled(sampled, json=json)
        return
    recipe = experiment.run_recipe(begun)
    with _resumable(run):
        fitted = experiment.fit_recipe(recipe, run, device=place, resume=True)
    _print_fitted(fitted, json=json)


@app.command()
def evaluate(
    run: RunArgument,
    *,
    split: SplitOption = "test",
    num_particles: Annotated[int | None, typer.Option(help="K, draws per datum; else the recipe's.")] = None,
    num_data: NumDataOption = None,
    samples: Annotated[
        bool, typer.Option("--samples", help="Judge the model's draws too, as is always done where it has no density.")
    ] = False,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Judge a model by what its kind allows: log p(x) and its errors, both its sides, a bound, or draws alone."""
    from . import experiment
    from .printing import print_evaluation

    fitted = experiment.open_run(run, device=experiment.parse_device(device))
    how: Any = {"split": split, "num_particles": num_particles, "num_data": num_data, "samples": samples}
    found = experiment.evaluate(fitted, **how)
    if json:
        print(to_json(found))
        return
    print_evaluation(found)


@app.command()
def bounds(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    *,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--bounds",
            help="As many as wanted; else the recipe's. Below: elbo, iwae:K, miwae:M:K, piwae:M:K, ciwae:BETA:K, "
            "renyi:ALPHA:K, tvo:PARTS:K, ais:T:CHAINS. Above: tvo-right:PARTS:K, cubo:N:K, eubo:K, bdmc:T:CHAINS. "
            "Neither: vrmax:K.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write it here: .csv, .json, .md or .parquet.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw it here: .png, .svg or .pdf.")] = None,
    num_simulated: Annotated[
        int | None,
        typer.Option(min=1, help="Judge the bounds on this many data drawn from the model too; bdmc does so with 100."),
    ] = None,
    num_seeds: Annotated[int, typer.Option(min=1, help="Seeds to average over.")] = 1,
    split: SplitOption = "test",
    num_data: NumDataOption = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Print the bound ladders of runs under one another, and what sets the runs apart."""
    from . import experiment, ladder

    if out is not None:
        ladder.check_suffix(out)
    if plot is not None:
        ladder.check_figure(plot)
    place = experiment.parse_device(device)
    folders, wanted = ladder.sort_out(runs, names or ())
    fitted = [experiment.open_run(folder, device=place) for folder in folders]
    how: Any = {"split": split, "num_data": num_data, "num_simulated": num_simulated, "num_seeds": num_seeds}
    rungs = [ladder.climb(one, wanted, **how) for one in fitted]
    if out is not None:
        ladder.write(out, rungs)
    if plot is not None:
        ladder.draw(plot, rungs)
    if json:
        print(to_json(ladder.document(rungs)))
        return
    print(ladder.printed(rungs))
    if apart := ladder.differences(rungs):
        print()
        print_table(apart)


@app.command()
def sample(
    run: RunArgument,
    *,
    n: Annotated[int, typer.Option("-n", min=1, help="How many samples, and how many reconstructions.")] = 64,
    out: Annotated[
        Path | None, typer.Option(help="Where to: .png, .pdf, .svg, or .csv; else samples.png in the run folder.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds the draws.")] = 0,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Draw from the model, and reconstruct test data: grids of images, or rows of numbers."""
    from . import experiment

    fitted = experiment.open_run(run, device=experiment.parse_device(device))
    written = experiment.write_samples(fitted, n, out, seed=seed)
    if json:
        print(to_json({name: str(path) for name, path in written.items()}))
        return
    for path in written.values():
        print(path)


@app.command()
def mcmc(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|RUN",
            help="A recipe of a posterior, by name or a path to a .toml; or the run of a fitted pair.",
        ),
    ],
    *,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change it: sampler.num_samples=1000.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same as --set sampler.seed=SEED.")] = None,
    num_data: Annotated[
        int | None, typer.Option(min=1, help="Whose latents of a pair are sampled: the first of its test data; 20.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder; else a new one in runs/.")] = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Sample a posterior, judge the draws, and write both into a folder; interrupted, what is drawn is kept."""
    from . import experiment, posterior

    wanted = posterior.plan(target, changes or (), seed=seed, num_data=num_data)
    folder = out or _free_folder(f"{wanted.name}-{wanted.sampler.seed}")
    with _resumable(folder):
        sampled = posterior.run_posterior(wanted, folder, device=experiment.parse_device(device))
    _print_sampled(sampled, json=json)


@app.command()
def diagnose(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder that `mcmc` wrote, or a .nc or .zarr.")],
    *,
    rhat: Threshold = None,
    nested_rhat: Threshold = None,
    ess_bulk: Threshold = None,
    ess_tail: Threshold = None,
    mcse: Threshold = None,
    bfmi: Threshold = None,
    divergences: Threshold = None,
    restarts: Threshold = None,
    khat: Threshold = None,
    loo_khat: Threshold = None,
    var_names: Annotated[
        list[str] | None,
        typer.Option("--var-name", help="What to look at, as often as wanted; else what is identified."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Judge the draws of a posterior; exit code 1 if they do not pass."""
    from . import posterior

    found = posterior.judge(
        path,
        rhat=rhat,
        nested_rhat=nested_rhat,
        ess_bulk=ess_bulk,
        ess_tail=ess_tail,
        mcse=mcse,
        bfmi=bfmi,
        divergences=divergences,
        restarts=restarts,
        khat=khat,
        loo_khat=loo_khat,
        var_names=var_names,
    )
    print(to_json(found.to_dict()) if json else found)
    if not found.passed:
        raise typer.Exit(1)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or .nc or .zarr files of draws.")],
    *,
    out: Annotated[
        Path | None, typer.Option(help="The .html to write; else report.html in the run folder, or here for several.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the page; else the runs' names.")] = None,
    as_is: Annotated[bool, typer.Option("--as-is", help="Report what the folders hold, and reckon nothing.")] = False,
    num_worst: Annotated[
        int, typer.Option(min=0, help="Data of highest k-hat whose posterior is drawn by MCMC; 0 for none.")
    ] = 10,
    calibrate: Annotated[
        int, typer.Option(min=0, help="Data sets to simulate for a check of calibration; 0 for none.")
    ] = 0,
    watching: Annotated[bool, typer.Option("--watch", help="Write it again and again while the run goes on.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two of these.")] = 10.0,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 unless the verdict is green.")] = False,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Write one HTML file on runs that says first what is wrong; what a run lacks for it is reckoned and kept."""
    from . import experiment, reporting

    place = experiment.parse_device(device)
    wanted = reporting.Wanted(as_is=as_is, num_worst=num_worst, calibrate=calibrate, device=place, title=title)
    path = reporting.default_path(runs) if out is None else out
    if watching and len(runs) > 1:
        raise ValueError(f"`--watch` was asked for with {len(runs)} runs, expected one: watch each by itself")
    if watching:
        written = reporting.watch(runs[0], path, wanted, every, lambda so_far: line(so_far.colour, str(so_far.path)))
    else:
        written = reporting.write_report(runs, path, wanted)
    print(to_json(reporting.document(written)) if json else written)
    if strict and written.colour != "green":
        raise typer.Exit(1)


@app.command()
def doctor(*, json: JsonOption = False) -> None:
    """Look over the machine: versions, devices, compiler, data; exit code 1 if something is bad."""
    from .doctor import examine

    rows = examine()
    if json:
        print(to_json(rows))
    else:
        print_table(rows)
    if any(row["state"] == "bad" for row in rows):
        raise typer.Exit(1)


def _free_folder(name: str) -> Path:
    """The first of runs/name, runs/name-2, ... that is not there yet."""
    names = chain([name], (f"{name}-{i}" for i in count(2)))
    return next(folder for folder in map(Path("runs").joinpath, names) if not folder.exists())


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Say how to go on where a run is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        begun = any((folder / part / "manifest.json").exists() for part in ("", "pretraining"))
        line("interrupted", f"go on with `ppmodels resume {folder}`" if begun else "nothing was written")
        raise typer.Exit(130) from None


def _print_fitted(fitted: Fitted, *, json: bool) -> None:
    assert fitted.run is not None
    reports = fitted.metrics.to_dict("records")
    last = {str(k): v for k, v in reports[-1].items() if v == v} if reports else {}
    if json:
        summary: dict[str, Any] = {"run": str(fitted.run.folder), "steps": fitted.steps, "seconds": fitted.seconds}
        summary |= {"stopped": fitted.stopped, "best_score": fitted.best_score, "modes": fitted.modes}
        print(to_json({**summary, "metrics": last}))
        return
    modes = ", ".join(dict.fromkeys(mode for by_size in fitted.modes.values() for mode in by_size.values()))
    print(f"{fitted.run.folder}: {fitted.steps} steps in {fitted.seconds:.1f} s ({modes}), {fitted.stopped}")
    print("  ".join(f"{k} {v:.4g}" for k, v in last.items() if k not in ("step", "seconds") and isinstance(v, float)))


def _print_sampled(sampled: Sampled, *, json: bool) -> None:
    from . import posterior

    print(to_json(posterior.document(sampled)) if json else posterior.printed(sampled))
    if sampled.partial:
        line("interrupted", f"what was drawn is kept; go on with `ppmodels resume {sampled.run.folder}`")
        raise typer.Exit(130)
