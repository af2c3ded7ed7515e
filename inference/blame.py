"""Who broke it: the site, the part or the parameter whose numbers stopped being finite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from inference.flags import validating
from inference.layout import Layout
from inference.pair import Pair
from inference.particles import run_particles, site_log_prob
from inference.sites import first_line, sample_sites
from ppmodels.contracts import Batch

__all__ = ["blame"]


def blame(
    pair: Pair,
    batch: Batch,
    layout: Layout | None,
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor | None],
) -> str:
    """One clause naming the first thing on a batch that is not finite, a parameter, a site or a gradient, or why the
    pair does not run on it."""
    for name, value in parameters.items():
        if not bool(torch.isfinite(value).all()):
            return f"parameter `{name}` is not finite"
    if layout is not None and (found := _blame_sites(pair, batch, layout)):
        return found
    for name, gradient in gradients.items():
        if gradient is not None and not bool(torch.isfinite(gradient).all()):
            return f"the gradient of `{name}` is not finite"
    what = "its gradient is" if layout is None else "every site is when drawn again"
    return f"the loss is not finite, though {what}"


def _blame_sites(pair: Pair, batch: Batch, layout: Layout) -> str:
    """The first site that is not finite, or why the pair does not run."""
    with torch.no_grad():
        try:
            traces = run_particles(pair, batch, 1, layout.without_strata())
        except RuntimeError as error:  # a distribution of no numbers cannot be drawn from; validation knows why
            return f"the pair does not run on this batch: {_why(pair, batch) or first_line(error)}"
        for trace in traces:
            for name, site in sample_sites(trace).items():
                for what, value in (("value", site["value"]), ("log probability", site_log_prob(site))):
                    wrong = ~torch.isfinite(value)
                    if bool(wrong.any()):
                        example = value[wrong].flatten()[0].item()
                        return f"site `{name}` has a {what} of {example}"
    return ""


def _why(pair: Pair, batch: Batch) -> str:
    """What Pyro's validation has against a batch; nothing, if it has nothing."""
    try:
        with validating(enabled=True):
            pair.traces(batch)
    except (RuntimeError, ValueError) as error:
        return first_line(error)
    return ""
