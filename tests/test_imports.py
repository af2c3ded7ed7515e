"""What may import what, and that importing changes nothing outside."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ppmodels", "guides", "inference")

# Rooms by the modules in them (the longest prefix counts), and the other rooms each may import. A file of models
# needs no line of its own: it is what else lies in `ppmodels`.
ROOMS = {
    "ppmodels": "models",
    "ppmodels.contracts": "contracts",
    "ppmodels.concrete": "distributions",
    "ppmodels.distributions": "distributions",
    "ppmodels.nade": "distributions",
    "ppmodels.nets": "nets",
    "ppmodels.observed": "contracts",
    "ppmodels.sticks": "distributions",
    "ppmodels.conditionals": "conditionals",
    "ppmodels.bits": "conditionals",
    "ppmodels.components": "conditionals",
    "ppmodels.relaxed": "conditionals",
    "ppmodels.priors": "priors",
    "ppmodels.data": "data",
    "ppmodels.patterns": "data",
    "ppmodels.labels": "data",
    "ppmodels.sources": "data",
    "ppmodels.studies": "data",
    "ppmodels.toys": "data",
    "ppmodels.recipes": "recipes",
    "ppmodels.zoo": "entrance",
    "ppmodels.cli": "entrance",
    "examples": "entrance",
    "tests": "entrance",
    "benchmarks": "entrance",
    "guides": "guides",
    "inference": "inference",
}
FOUNDATIONS = {"contracts", "distributions", "nets"}
DOORS = {
    "contracts": set(),
    "distributions": set(),
    "nets": set(),
    "conditionals": FOUNDATIONS,
    "priors": FOUNDATIONS,
    "models": FOUNDATIONS | {"conditionals", "priors"},
    "guides": FOUNDATIONS | {"conditionals", "priors"},
    "data": {"contracts"},
    "recipes": {"contracts"},
    "inference": {"contracts"},
    "entrance": set(ROOMS.values()),
}


@cache
def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    folders = (*PACKAGES, "examples", "tests", "benchmarks")
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return dict(zip(names, paths, strict=True))


def imports(module: str) -> Iterator[str]:
    """The modules of ours that a module imports, anywhere in it."""
    path = modules()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                found = f"{source}.{alias.name}"
                if found in modules() or source in modules():
                    yield found if found in modules() else source


def room(module: str) -> str:
    return ROOMS[max((prefix for prefix in ROOMS if f"{module}.".startswith(f"{prefix}.")), key=len)]


def test_the_walk_sees_imports_of_every_kind() -> None:
    assert {"ppmodels.distributions", "ppmodels.nets"} <= set(imports("ppmodels.conditionals"))  # relative
    assert "ppmodels.contracts" in set(imports("inference.draws"))  # absolute
    assert "ppmodels.cli.experiment" in set(imports("ppmodels.cli.app"))  # of a module, inside a function


@pytest.mark.parametrize("module", modules())
def test_doors(module: str) -> None:
    here = room(module)
    wrong = [found for found in imports(module) if room(found) != here and room(found) not in DOORS[here]]
    assert not wrong, f"{module} ({here}) may import {sorted(DOORS[here]) or 'nothing of ours'}, not {wrong}"


def test_no_import_cycles() -> None:
    graph = {module: set(imports(module)) - {module} for module in modules()}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", [name for name in modules() if room(name) != "entrance" or "ppmodels" in name])
def test_exported_names_exist(module: str) -> None:
    if module.endswith("__main__") or not modules()[module].read_text():
        return
    found = importlib.import_module(module)
    assert found.__doc__
    assert [name for name in found.__all__ if not hasattr(found, name)] == []


CHANGES_NOTHING = """
import json, logging, random, sys, warnings
import numpy, pandas, pyro, scipy, torch, zuko
import arviz_stats.base, matplotlib.figure, pooch, pydantic, rich, safetensors.torch, sklearn.datasets, tqdm, typer

def state():
    return {
        "dtype": str(torch.get_default_dtype()),
        "torch seed": torch.get_rng_state().tolist(),
        "numpy seed": numpy.random.get_state()[1].tolist(),
        "random seed": random.getstate(),
        "validation of distributions": torch.distributions.Distribution._validate_args,
        "validation of programs": [v for k, v in sorted(pyro.settings.get().items()) if "valid" in k],
        "gradients": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "parameter store": sorted(pyro.get_param_store().keys()),
        "log handlers": [str(h) for h in logging.root.handlers],
        "loggers": [n for n, g in logging.root.manager.loggerDict.items() if getattr(g, "handlers", [])],
        "warning filters": [str(f) for f in warnings.filters],
        "excepthook": str(sys.excepthook),
        "matplotlib": dict(matplotlib.rcParams),
    }

torch.distributions.Distribution.set_default_validate_args(True)
before = state()
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
after = state()
print([key for key in before if before[key] != after[key]])
"""


def test_importing_changes_nothing() -> None:
    ours = [name for name in modules() if name.split(".")[0] in PACKAGES and not name.endswith("__main__")]
    assert python("-c", CHANGES_NOTHING, *ours).stdout == "[]\n"


def test_importing_ppmodels_is_light() -> None:
    heavy = "{'torch', 'pyro', 'numpy', 'pandas', 'matplotlib'}"
    found = python("-c", f"import sys, ppmodels, ppmodels.recipes, ppmodels.cli; print({heavy} & sys.modules.keys())")
    assert found.stdout == "set()\n"


@pytest.mark.parametrize("name", ["guides", "inference"])
@pytest.mark.parametrize("as_package", [False, True])
def test_a_shadowed_package_is_named(tmp_path: Path, name: str, *, as_package: bool) -> None:
    shadow = tmp_path / name / "__init__.py" if as_package else tmp_path / f"{name}.py"
    shadow.parent.mkdir(exist_ok=True)
    shadow.write_text("raise SystemExit('imported')")
    found = python("-c", "import ppmodels", cwd=tmp_path)
    assert found.returncode == 1
    message = found.stderr.splitlines()[-1]
    assert message.startswith(f"ImportError: `import {name}` finds {shadow}, expected the package of ppmodels in ")
    assert "rename" in message


def test_an_empty_folder_shadows_nothing(tmp_path: Path) -> None:
    (tmp_path / "inference").mkdir()
    assert python("-c", "import ppmodels, inference; print(inference.__file__)", cwd=tmp_path).returncode == 0


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
