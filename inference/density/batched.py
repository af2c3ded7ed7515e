r"""Log densities and gradients of many vectors in one call: chains, draws and datasets are rows of a tensor.

The program is mapped over its rows with `torch.func.vmap`, never run in an outer plate: a plate asks every line of the
program to broadcast, and where one does not, the density is silently another. What cannot be mapped over runs row by
row, with a warning that says why; on top of that come the modes of `inference.graph`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from inference.density.drawing import drawing
from inference.density.flat import FlatDensity
from inference.graph import Graphed, GraphWarning, Mode
from inference.pair import Pair
from inference.seeds import seeded
from inference.sites import first_line

__all__ = ["Batched", "map_rows", "parts_of"]

MEMORY = {"cpu": 2**22, "cuda": 2**28}
"""Numbers that one part of the rows may hold in the widest tensor of the program, on each kind of device."""

SAVED = 0.8
"""The part of a replayed leapfrog's time that compiling takes off: its operations are many and small."""

COLUMNS = 64
"""Numbers that a row is taken to hold at least."""


class Batched:
    """A density at C vectors at once.

    Attributes:
        density: of one vector.
        dims: which of its data have an axis of rows, by the axis; `None` for those that all rows share.
        mapped: whether all rows run together; otherwise one by one.
    """

    def __init__(self, density: FlatDensity, dims: Sequence[int | None] | None = None) -> None:
        self.density = density
        self.dims = tuple(dims) if dims is not None else (None,) * len(density.data)
        self._together = torch.func.vmap(
            torch.func.grad_and_value(density.log_density), in_dims=(0, *self.dims), out_dims=0
        )
        self.mapped = True

    def __call__(self, q: Tensor, *data: Tensor) -> tuple[Tensor, Tensor]:
        """Log densities `(C,)` and gradients `(C, D)` at vectors `(C, D)`."""
        if self.mapped:
            with self.density.running():
                grad, log_p = self._together(q, *data)
            return log_p, grad
        return self.one_by_one(q, *data)

    def one_by_one(self, q: Tensor, *data: Tensor) -> tuple[Tensor, Tensor]:
        """The same without mapping."""
        found = [self._alone(row, *self._of_row(i, data)) for i, row in enumerate(q)]
        return torch.stack([log_p for log_p, _ in found]), torch.stack([grad for _, grad in found])

    def _alone(self, row: Tensor, *data: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            row = row.detach().requires_grad_()
            log_p = self.density.log_density(row, *data)
            (grad,) = torch.autograd.grad(log_p, row, materialize_grads=True)
        return log_p.detach(), grad

    def _of_row(self, i: int, data: Sequence[Tensor]) -> Iterator[Tensor]:
        for value, dim in zip(data, self.dims, strict=True):
            yield value if dim is None else value.select(dim, i)

    def check(self, q: Tensor, *data: Tensor) -> None:
        """Compare the density, mapped over two vectors, with the program run at each of them.

        Warns:
            GraphWarning: if the program cannot be mapped over, or gives something else then: it runs row by row.

        Raises:
            ValueError: if its density is not a function of the vector, or has no gradient, or another than autograd's.
        """
        with seeded(0, q.device):
            log_p, grad = self._differentiated(q, *data)
        with seeded(1, q.device):
            if not _same(log_p, self._differentiated(q, *data)[0]):
                raise ValueError(
                    "`model` has another log density whenever it is run: it draws noise that is no sample site of its "
                    "own, or keeps count; expected a function of its latents and its data"
                )
        self._check_gradient(q[0], grad[0], *self._of_row(0, data))
        reason = self._why_not_together(q, data, log_p, grad)
        if reason:
            self.mapped = False
            warnings.warn(f"`model` runs one chain at a time: {reason}", GraphWarning, stacklevel=3)

    def _differentiated(self, q: Tensor, *data: Tensor) -> tuple[Tensor, Tensor]:
        try:
            return self.one_by_one(q, *data)
        except RuntimeError as error:
            raise ValueError(f"`model` has no gradient, which chains need: {first_line(error)}") from error

    def _why_not_together(self, q: Tensor, data: Sequence[Tensor], log_p: Tensor, grad: Tensor) -> str | None:
        try:
            together = self(q, *data)
        except Exception as error:  # a program may fail in any way where its values are not numbers
            return f"it cannot be mapped over ({first_line(error)})"
        if not (_same(together[0], log_p) and _same(together[1], grad)):
            return "mapped over, it gives another density than alone"
        return None

    def _check_gradient(self, q: Tensor, grad: Tensor, *data: Tensor) -> None:
        """Along one direction, by differences: a value that was taken out of a tensor carries no gradient."""
        if q.dtype != torch.float64 or not bool(grad.isfinite().all()):
            return
        with seeded(2, q.device), torch.no_grad():
            way = torch.randn_like(q)
            ahead, back = (self.density.log_density(q + h * way, *data) for h in (1e-5, -1e-5))
        slope, expected = float((ahead - back) / 2e-5), float(grad @ way)
        rounding = 1e2 * torch.finfo(q.dtype).eps * (1 + abs(float(ahead))) / 2e-5
        if abs(slope - expected) > 1e-3 * (abs(slope) + abs(expected)) + 1e-4 + rounding:
            raise ValueError(
                f"`model` has a log density that rises by {slope:.4g} where its gradient says {expected:.4g}: a value "
                "is taken out of its graph (`.item()`, `float(z)`, `.detach()`, `no_grad`); keep it in"
            )

    def graphed(
        self, function: Callable[..., tuple[Sequence[Tensor], Any]], mode: Mode, calls: Callable[[int], int]
    ) -> Graphed:
        """`function(q, *others)`, which calls this density, run from its graph where it has one."""
        model = self.density.model
        wanted: Mode = mode if self.mapped else "eager"
        return Graphed(Pair(model, model), function, wanted, calls, every=1_000_000, subject="the density", saved=SAVED)

    def mode(self, graph: Graphed) -> str:
        """How rows are run: a mode of the graph, or "vmap" or "loop" without one."""
        modes = {mode if mode != "eager" else "vmap" for mode in graph.modes.values()}
        return " and ".join(sorted(modes)) if self.mapped else "loop"


def _same(a: Tensor, b: Tensor) -> bool:
    """To 1e-10 in double precision, and what that is in others; relative to the largest of each."""
    slack = 1e-10 if a.dtype == torch.float64 else 1e3 * torch.finfo(a.dtype).eps
    scale = b[b.isfinite()].abs().max() if bool(b.isfinite().any()) else b.new_ones(())
    return torch.allclose(a, b, rtol=slack, atol=slack * (1 + float(scale)), equal_nan=True)


def parts_of(density: FlatDensity, rows: int) -> int:
    """Into how many equal parts that many rows are split, so that the widest tensor of each fits."""
    widest = max((site["value"].numel() for site in density.sites().values()), default=1)
    most = max(1, MEMORY.get(density.device.type, MEMORY["cuda"]) // max(widest, density.dim, COLUMNS))
    parts = -(-rows // most)
    return next((k for k in range(parts, 2 * parts + 1) if rows % k == 0), parts)


def map_rows(
    density: FlatDensity,
    function: Callable[..., dict[str, Tensor]],
    rows: Tensor | dict[str, Tensor],
    *data: Tensor,
    seed: int = 0,
) -> dict[str, Tensor]:
    """`function(row, *data)` of every row of a tensor, or of tensors by name, in parts that fit.

    Draws differ from row to row. What cannot be mapped over runs row by row, without a warning: nothing is
    differentiated, and it is done once.
    """
    together = torch.func.vmap(function, in_dims=(0, *(None for _ in data)), randomness="different")
    count = len(next(iter(rows.values())) if isinstance(rows, dict) else rows)
    size = -(-count // parts_of(density, count))
    with seeded(seed, density.device), torch.no_grad(), density.running(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "An output with one or more elements was resized", UserWarning)
        try:
            with drawing():
                found = [together(_some(rows, slice(i, i + size)), *data) for i in range(0, count, size)]
        except Exception:  # a program may fail in any way where its values are not numbers
            each = [function(_some(rows, i), *data) for i in range(count)]
            return {name: torch.stack([row[name] for row in each]) for name in each[0]}
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}


def _some(rows: Tensor | dict[str, Tensor], index: int | slice) -> Any:
    return {name: value[index] for name, value in rows.items()} if isinstance(rows, dict) else rows[index]
