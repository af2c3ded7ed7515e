"""What is in the figures, against the numbers they are of; how they stand in a page."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import html5lib
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure

from inference.report.examination import Components, LatentUse
from inference.report.figures import (
    confusion_figure,
    differences_figure,
    grid_figure,
    guide_figure,
    khat_figure,
    kl_figure,
    loss_figure,
    pairs_figure,
    parts_figure,
    projection_figure,
    strips_figure,
    styled,
    usage_figure,
)
from inference.report.figures.style import COLOURS, INK, VARIABLES, fitted_name, new_figure
from inference.report.svg import inline_svg

NASTY = "<script>alert(1)</script> $x_1$ " + "long" * 30


def metrics(n: int = 40, **columns: Any) -> pd.DataFrame:
    step = np.arange(1, n + 1) * 10
    return pd.DataFrame({"step": step, "loss": 20 + 10 / step, **columns})


def use(D: int = 8, n: int = 50, **changes: Any) -> LatentUse:
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {
        "site": "z",
        "codes": rng.normal(size=(n, D)),
        "prior": rng.normal(size=(n, D)),
        "variance": np.linspace(1, 0, D),
        "threshold": 0.01,
        "kl": np.linspace(2, 0, D),
        "kl_se": np.full(D, 0.1),
        "total_kl_se": 0.2,
        "told_apart": 0.6,
        "told_apart_se": 0.02,
    }
    return LatentUse(**{**found, **changes})


def components(share: Any = (0.5, 0.3, 0.19, 0.01), **changes: Any) -> Components:
    share = np.asarray(share, dtype=float)
    found: dict[str, Any] = {
        "site": "y",
        "share": share,
        "entropy": 1.0,
        "entropy_se": 0.1,
        "conditional_entropy": 0.2,
        "conditional_entropy_se": 0.1,
        "dead_below": 0.025,
    }
    return Components(**{**found, **changes})


def worst(n: int = 3, D: int = 2) -> xr.DataTree:
    rng = np.random.default_rng(0)
    dims, coords = ("chain", "draw", "data", "z_dim_0"), {"data": [7, 42, 3][:n]}
    groups = {
        "posterior": xr.Dataset({"z": (dims, rng.normal(size=(4, 100, n, D)))}, coords=coords),
        "guide": xr.Dataset({"z": (dims, rng.normal(size=(1, 200, n, D)))}, coords=coords),
    }
    return xr.DataTree.from_dict(groups)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text() and text.get_visible()]


# -- what is in them -----------------------------------------------------------------------------------------


def test_the_curves_are_the_numbers() -> None:
    frame = metrics(validation=np.linspace(-30, -21, 40))
    loss, held_out = loss_figure(frame).axes[0].lines
    np.testing.assert_array_equal(loss.get_ydata(), frame["loss"])
    np.testing.assert_array_equal(held_out.get_ydata(), -frame["validation"])
    np.testing.assert_array_equal(loss.get_xdata(), frame["step"])


def test_the_first_spikes_leave_the_frame_and_nothing_else_does() -> None:
    frame = metrics(200)
    frame.loc[0, "loss"] = 1e6
    low, high = loss_figure(frame).axes[0].get_ylim()
    assert high < 100
    assert low < frame["loss"][1:].min()
    assert high > frame["loss"][20:].max()


def test_reports_that_are_not_finite_are_crosses_at_the_foot() -> None:
    frame = metrics(validation=np.where(np.arange(40) % 10 == 9, -21.0, np.nan))
    frame.loc[[3, 39], "loss"] = [np.inf, np.nan]
    axes = loss_figure(frame).axes[0]
    loss, held_out, crosses = axes.lines
    assert len(loss.get_xdata()) == 38
    assert held_out.get_xdata().tolist() == [100, 200, 300, 400]
    assert crosses.get_xdata().tolist() == [40, 400]  # not where there was no validation
    assert crosses.get_label() == "2 not finite"


def test_spikes_of_long_curves_stay() -> None:
    loss = np.random.default_rng(0).normal(size=50_000)
    loss[[31_234, 49_999]] = [50.0, -3.0]
    (line,) = loss_figure(pd.DataFrame({"step": np.arange(50_000), "loss": loss})).axes[0].lines
    assert len(line.get_xdata()) < 1000
    assert line.get_ydata()[line.get_xdata() == 31_234].tolist() == [50.0]
    assert line.get_ydata()[-1] == -3.0


def test_many_sites_are_counted() -> None:
    frame = metrics(**{f"kl_{name}": 1.0 for name in ("_a", *map(str, range(19)))})
    axes = parts_figure(frame).axes[0]
    assert axes.get_title("left") == "KL from the prior, nats, 12 of 20 sites"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [" _a", *map(str, range(11))]


def test_there_is_a_panel_for_each_part() -> None:
    frame = metrics(log_likelihood=-20.0, kl_z=3.0, kl_y=1.0, grad_norm=5.0, lr=1e-3)
    axes = [one for one in parts_figure(frame).axes if one.get_visible()]
    assert [len(one.lines) for one in axes] == [1, 2, 1, 1]
    assert [line.get_label() for line in axes[1].lines] == ["z", "y"]
    assert [one.get_title("left") for one in axes][2:] == ["gradient norm", "learning rate"]


def test_histograms_count_every_datum_that_is_a_number() -> None:
    khat = np.array([0.1, 0.2, 0.9, np.nan, np.inf])
    left, right = khat_figure(pd.DataFrame({"khat": khat, "ess": [10.0, 20.0, 30.0, np.nan, 0.0]}), 0.55).axes
    assert sum(bar.get_height() for bar in left.patches) == 3
    assert sum(bar.get_height() for bar in right.patches) == 3
    assert sorted(line.get_xdata()[0] for line in left.lines) == [0.55, 0.7]
    assert left.get_xlabel() == "Pareto k-hat; 2 not finite"
    assert right.get_xlabel() == "effective draws; 1 not finite"


def test_kl_is_sorted_and_idle_units_are_grey() -> None:
    axes = kl_figure(use(kl=np.array([0.1, 2.0, np.nan, 0.5] + [0.0] * 4))).axes[0]
    bars = list(axes.patches)
    assert [round(bar.get_height(), 3) for bar in bars] == [2.0, 0.5, 0.1, 0.0, 0.0, 0.0, 0.0]
    assert [label.get_text() for label in axes.get_xticklabels()][:3] == ["1", "3", "0"]
    greys = [mpl.colors.to_hex(bar.get_facecolor()) == COLOURS[6].lower() for bar in bars]
    assert greys == [False] * 6 + [True]  # the last unit's variance is zero
    assert axes.get_xlabel() == "unit; idle units grey; 1 not finite"


def test_kl_has_two_standard_errors() -> None:
    axes = kl_figure(use(3, kl_se=np.array([0.1, np.nan, 0.3]))).axes[0]
    ends = np.array([segment[:, 1] for segment in axes.collections[0].get_segments()])
    np.testing.assert_allclose(ends, [[1.8, 2.2], [1.0, 1.0], [-0.6, 0.6]])
    assert "1 without a standard error" in axes.get_xlabel()


def test_a_site_whose_units_depend_on_each_other_has_one_bar() -> None:
    axes = kl_figure(use(5, kl=np.array([3.0]), kl_se=np.array([0.1]))).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["all units"]


def test_many_units_are_cut_and_counted() -> None:
    axes = kl_figure(use(D=80)).axes[0]
    assert len(axes.patches) == 50
    assert "30 more have less" in axes.get_xlabel()


@pytest.mark.parametrize("D", [1, 2, 5])
def test_prior_and_guide_stand_side_by_side_on_one_scale(D: int) -> None:
    left, right = projection_figure(use(D)).axes
    assert left.get_xlim() == right.get_xlim()
    if D == 1:
        assert abs(sum(bar.get_height() * bar.get_width() for bar in left.patches) - 1) < 1e-9
    else:
        assert len(left.collections[0].get_offsets()) == len(right.collections[0].get_offsets()) == 50
    if D == 2:
        np.testing.assert_allclose(right.collections[0].get_offsets(), use(2).codes)


def test_principal_components_are_those_of_both() -> None:
    rng = np.random.default_rng(1)
    codes = rng.normal(size=(100, 4)) * [5.0, 2.0, 0.1, 0.1]
    figure = projection_figure(use(4, codes=codes, prior=codes + 0.01))
    spread = np.asarray(figure.axes[1].collections[0].get_offsets()).std(0)
    np.testing.assert_allclose(spread, np.sort(codes.std(0))[::-1][:2], rtol=0.05)


def test_the_worst_data_have_their_numbers() -> None:
    figure = guide_figure(worst())
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in shown] == ["datum 7", "datum 42", "datum 3"]
    assert all(len(axes.collections) >= 2 for axes in shown)
    assert {"posterior, by MCMC", "guide"} <= {text.get_text() for text in figure.legends[0].get_texts()}


def test_the_units_that_differ_most_are_drawn() -> None:
    tree = worst(1, 4)
    tree["guide"]["z"][..., 1] += 3.0
    tree["guide"]["z"][..., 3] *= 0.1
    axes = guide_figure(tree).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("unit 1", "unit 3")
    points = np.asarray(axes.collections[0].get_offsets())
    assert len(points) == 200
    np.testing.assert_allclose(points, tree["posterior"]["z"].to_numpy().reshape(-1, 4)[::2, [1, 3]])


def test_the_data_are_found_in_any_order_of_dimensions() -> None:
    plain = worst()
    groups = {k: plain[k].to_dataset().transpose("z_dim_0", "draw", "data", "chain") for k in ("posterior", "guide")}
    turned = guide_figure(xr.DataTree.from_dict(groups))
    for one, other in zip(guide_figure(plain).axes, turned.axes, strict=True):
        assert one.get_title("left") == other.get_title("left")
        np.testing.assert_array_equal(one.collections[0].get_offsets(), other.collections[0].get_offsets())


def test_draws_that_are_not_finite_are_counted() -> None:
    tree = worst()
    tree["posterior"]["z"][0, :5, 1, 0] = np.inf
    titles = [axes.get_title("left") for axes in guide_figure(tree).axes]
    assert titles == ["datum 7", "datum 42; 5 not finite", "datum 3"]


def test_what_is_no_variable_of_data_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`variable` is 'y', expected one that `posterior` and `guide` have: \['z'\]"):
        guide_figure(worst(), variable="y")
    alone = worst().isel(data=0, z_dim_0=0)
    with pytest.raises(ValueError, match="`tree` has `z` over chain and draw alone, expected a dimension of data"):
        guide_figure(alone)


def test_one_unit_is_a_histogram() -> None:
    shown = [axes for axes in guide_figure(worst(D=1)).axes if axes.get_visible()]
    assert all(len(axes.patches) == 2 for axes in shown)


def test_shares_are_sorted_but_sticks_are_not() -> None:
    bars = usage_figure(components((0.1, 0.6, 0.3))).axes[0].patches
    assert [round(bar.get_height(), 3) for bar in bars] == [0.6, 0.3, 0.1]
    axes = usage_figure(components((0.1, 0.6, 0.3), ordered=True)).axes[0]
    assert [round(bar.get_height(), 3) for bar in axes.patches] == [0.1, 0.6, 0.3]
    np.testing.assert_allclose(axes.lines[-1].get_ydata(), [0.1, 0.7, 1.0])


def test_the_dead_are_grey_and_the_unknown_are_counted() -> None:
    axes = usage_figure(components((np.nan, 0.6, 0.01))).axes[0]
    faces = [mpl.colors.to_hex(bar.get_facecolor()) for bar in axes.patches]
    assert faces == [COLOURS[0].lower(), COLOURS[6].lower(), COLOURS[6].lower()]
    assert axes.lines[0].get_ydata()[0] == 0.025
    assert axes.get_xlabel() == "component; 1 not finite"


def test_of_many_components_and_classes_those_with_most_data_stay() -> None:
    counts = np.zeros((100, 200))
    for c in range(100):
        counts[c, 2 * c] = c
    axes = confusion_figure(components(np.full(100, 0.01), confusion=counts)).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [str(c) for c in range(40, 100)]
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(2 * c) for c in range(40, 100)]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("class, 60 of 200", "component, 60 of 100")
    np.testing.assert_array_equal(axes.images[0].get_array(), np.eye(60))


def test_confusion_is_by_row() -> None:
    counts = np.array([[1.0, 3.0], [5.0, 0.0]])
    figure = confusion_figure(components((0.4, 0.6), confusion=counts))
    shown = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(shown, [[1.0, 0.0], [0.25, 0.75]])  # by class
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["1", "0"]
    assert {"5", "1", "3"} <= set(texts(figure))


def test_images_stand_where_they_belong() -> None:
    images = np.zeros((3, 6))
    images[1] = 1.0
    canvas = np.asarray(grid_figure(images, (2, 3), columns=2).axes[0].images[0].get_array())
    assert canvas.shape == (6, 8, 4)
    assert (canvas[0:2, 0:3, 0] == 255).all()  # zero is white
    assert (canvas[0:2, 4:7, 0] == 0).all()
    assert (canvas[3:5, 4:7, 3] == 0).all()  # no image there


def test_a_pair_stands_one_above_the_other() -> None:
    data, made = np.ones((2, 4)), np.zeros((2, 4))
    figure = pairs_figure(data, made, (2, 2), labels=["0: 1.2", "1: 0.9"])
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    room = len(canvas) - 6
    assert room > 0
    assert (canvas[:room, :, 3] == 0).all()
    assert (canvas[room : room + 2, 0:2, 0] == 0).all()
    assert (canvas[room + 3 : room + 5, 0:2, 0] == 255).all()
    assert texts(figure) == ["0: 1.2", "1: 0.9"]


def test_ways_are_rows() -> None:
    canvas = np.asarray(strips_figure(np.ones((2, 5, 4)), (2, 2)).axes[0].images[0].get_array())
    assert canvas.shape == (6, 15, 4)


def test_data_that_are_no_images_are_lines() -> None:
    data = np.arange(90.0).reshape(9, 10)
    figure = pairs_figure(data, 89.0 - data, (10,), labels=[f"datum {i}" for i in range(9)])
    axes = figure.axes[0]
    kinds = [mpl.colors.to_hex(lines.get_color()[0]) for lines in axes.collections[1::2]]
    assert kinds == [COLOURS[0].lower(), COLOURS[1].lower()] * 2
    above, below = (np.array(lines.get_segments()) for lines in axes.collections[1:4:2])
    assert above.shape == below.shape == (8, 10, 2)
    heights = np.diff(above[..., 1].ravel())
    np.testing.assert_allclose(heights, heights[0])  # one scale for all
    np.testing.assert_allclose(np.diff(below[..., 1].ravel()), -heights[0])
    assert {"datum 0", "datum 8", "every box from 0 to 89"} <= set(texts(figure))


def test_ways_of_data_that_are_no_images_are_rows_too() -> None:
    axes = strips_figure(np.random.default_rng(0).normal(size=(3, 12, 20)), (20,)).axes[0]
    assert [len(lines.get_segments()) for lines in axes.collections[1::2]] == [12, 12, 12]


def test_differences_stand_with_their_errors() -> None:
    rows = {"run": ["b", "b", "<c>"], "of": ["ELBO", "IWAE-5", "ELBO"]}
    frame = pd.DataFrame({**rows, "difference": [0.5, -0.1, np.nan], "se": [0.1, np.nan, 0.1]})
    axes = differences_figure(frame).axes[0]
    ends = [list(line.get_xdata()) for line in axes.lines]
    np.testing.assert_allclose(ends[0], [0.3, 0.7])
    np.testing.assert_allclose(ends[2], [-0.1, -0.1])  # an error that is not known has no length
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b: ELBO", "b: IWAE-5", "<c>: ELBO"]
    assert "1 not finite" in axes.get_xlabel()


# -- what is nasty -------------------------------------------------------------------------------------------

NAN = np.full((5, 3), np.nan)
EMPTY = pd.DataFrame({"khat": [], "ess": []}, dtype=float)
HARD: dict[str, Callable[[], Figure]] = {
    "no reports": lambda: loss_figure(metrics(0)),
    "no columns": lambda: parts_figure(pd.DataFrame()),
    "one report": lambda: parts_figure(metrics(1, kl_z=1.0)),
    "nan losses": lambda: loss_figure(metrics(loss=np.nan)),
    "infinite losses": lambda: loss_figure(metrics(loss=np.inf)),
    "a nasty site": lambda: parts_figure(metrics(**{f"kl_{NASTY}": 1.0})),
    "no data": lambda: khat_figure(EMPTY, 0.7),
    "nan k-hat": lambda: khat_figure(pd.DataFrame({"khat": [np.nan] * 3, "ess": [np.nan] * 3}), float("nan")),
    "one k-hat": lambda: khat_figure(pd.DataFrame({"khat": [0.1], "ess": [5.0]}), 0.7),
    "nan kl": lambda: kl_figure(use(kl=np.full(8, np.nan))),
    "nan errors": lambda: kl_figure(use(kl_se=np.full(8, np.nan))),
    "one kl for all": lambda: kl_figure(use(kl=np.array([3.0]), kl_se=np.array([0.1]))),
    "nan codes": lambda: projection_figure(use(3, codes=NAN, prior=NAN)),
    "constant codes": lambda: projection_figure(use(3, codes=np.zeros((5, 3)), prior=np.zeros((5, 3)))),
    "constant unit": lambda: projection_figure(use(1, codes=np.zeros((5, 1)), prior=np.zeros((5, 1)))),
    "nan shares": lambda: usage_figure(components((np.nan, np.nan))),
    "no labels": lambda: confusion_figure(components()),
    "nan counts": lambda: confusion_figure(components((0.5, 0.5), confusion=np.full((2, 2), np.nan))),
    "many components": lambda: usage_figure(components(np.full(200, 1 / 200))),
    "many classes": lambda: confusion_figure(components(np.full(70, 1 / 70), confusion=np.ones((70, 40)))),
    "no images": lambda: grid_figure(np.zeros((0, 4)), (2, 2)),
    "nan images": lambda: pairs_figure(np.full((2, 4), np.nan), np.full((2, 4), np.inf), (2, 2)),
    "nan lines": lambda: grid_figure(np.full((2, 4), np.nan), (4,)),
    "no ways": lambda: strips_figure(np.zeros((0, 9, 1)), (1,)),
    "nan posterior": lambda: guide_figure(worst() * np.nan),
    "no data of the guide": lambda: guide_figure(worst().isel(data=slice(0, 0))),
    "one draw of the guide": lambda: guide_figure(worst().isel(chain=[0], draw=[0])),
    "nasty labels": lambda: pairs_figure(np.ones((3, 4)), np.ones((3, 4)), (2, 2), labels=[NASTY, "$x$", "a\0\ud800"]),
    "nasty sites": lambda: parts_figure(metrics(**{"kl_a\x1b]": 1.0, "kl_$": 1.0, "kl__": 1.0})),
    "no components": lambda: usage_figure(components(())),
    "no classes": lambda: confusion_figure(components((0.5, 0.5), confusion=np.zeros((2, 0)))),
}
ODD = (np.nan, np.inf, -np.inf, 1e308, -1e308, 1e-320)


def some(value: float, *shape: int) -> Any:
    """Ones, and the value in every third place."""
    flat = np.ones(int(np.prod(shape)))
    flat[::3] = value
    return flat.reshape(shape)


@pytest.mark.parametrize("value", ODD)
def test_no_number_is_fatal(value: float) -> None:
    figures = [
        loss_figure(metrics(loss=some(value, 40), validation=some(value, 40))),
        loss_figure(metrics(step=some(value, 40))),
        parts_figure(metrics(kl_z=some(value, 40), lr=value)),
        khat_figure(pd.DataFrame({"khat": some(value, 9), "ess": some(value, 9)}), value),
        kl_figure(use(kl=some(value, 8), kl_se=some(value, 8), variance=some(value, 8))),
        *(projection_figure(use(D, codes=some(value, 20, D))) for D in (1, 2, 4)),
        projection_figure(use(1, codes=np.full((5, 1), 1e10), prior=np.full((5, 1), 1e10))),
        usage_figure(components(some(value, 6), dead_below=value, ordered=True)),
        confusion_figure(components((0.5, 0.5), confusion=some(value, 2, 3))),
        grid_figure(some(value, 4, 6), (2, 3)),
        grid_figure(some(value, 4, 6), (6,)),
        guide_figure(worst().map_over_datasets(lambda group: group.where(group > 0, value))),
    ]
    for figure in figures:
        ElementTree.fromstring(inline_svg(figure, prefix="f", title="t"))


@pytest.mark.parametrize("name", HARD)
def test_nothing_is_fatal(name: str) -> None:
    svg = inline_svg(HARD[name](), prefix="f", title=name)
    ElementTree.fromstring(svg)
    assert "<script" not in svg


@pytest.mark.parametrize("make", [HARD["one report"], HARD["many components"], lambda: projection_figure(use())])
def test_nothing_global_changes(make: Callable[[], Figure]) -> None:
    before, open_before = dict(mpl.rcParams), plt.get_fignums()
    inline_svg(make(), prefix="f", title="t")
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == open_before


# -- in a page -----------------------------------------------------------------------------------------------


def test_two_figures_stand_in_one_page() -> None:
    figure = khat_figure(pd.DataFrame({"khat": [0.1, 0.9], "ess": [5.0, 50.0]}), 0.6)
    page = "".join(inline_svg(figure, prefix=prefix, title=NASTY, description=NASTY) for prefix in ("a", "b"))
    html = f'<!DOCTYPE html><html lang="en"><head><title>t</title></head><body>{page}</body></html>'
    html5lib.HTMLParser(strict=True).parse(html)
    found = re.findall(r' id="([^"]+)"', page)
    assert len(found) == len(set(found))
    for used in re.findall(r'(?:url\(#|href="#)([^)"]+)', page):
        assert used in found
    assert "<script" not in page
    assert "alert" in page
    addresses = re.findall(r"https?://[^\"']+", page)
    assert set(addresses) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_same_figure_gives_the_same_bytes() -> None:
    figure = kl_figure(use())
    one, other = (inline_svg(kl_figure(use()), prefix="f", title="t") for _ in range(2))
    assert one == other == inline_svg(figure, prefix="f", title="t") == inline_svg(figure, prefix="f", title="t")


def test_colours_are_the_pages_and_text_is_text() -> None:
    svg = inline_svg(kl_figure(use()), prefix="f", title="t")
    assert not [colour for colour in COLOURS if colour.lower() in svg.lower()]
    assert "var(--c0)" in svg
    assert "var(--ink)" in svg
    assert "KL, nats per datum" in svg
    assert "font-family" not in svg


def test_numbers_that_are_read_are_not_rounded() -> None:
    svg = inline_svg(parts_figure(metrics(lr=np.linspace(0.0012, 0.0018, 40))), prefix="f", title="0.12345")
    assert ">0.0012<" in svg
    assert "0.12345" in svg
    assert not re.search(r"<[^>]*\d\.\d{3,}[^>]*>", re.sub(r"<title.*?</title>", "", svg))


def test_every_colour_of_the_palette_is_the_pages() -> None:
    names = {f"var(--{name})" for name in ("ink", "muted", "grid", "surface", *(f"c{i}" for i in range(7)))}
    assert set(VARIABLES.values()) == names
    with styled():
        figure = new_figure(2, 1)
        for i, colour in enumerate(VARIABLES):
            figure.subplots().plot([0, i], color=colour)
    svg = inline_svg(figure, prefix="f", title="t")
    assert names <= set(re.findall(r"var\([^)]*\)", svg))
    assert not re.search(r"#[0-9a-f]{6}", svg, flags=re.IGNORECASE)


def test_words_are_left_as_they_are() -> None:
    words = f'id="x" url(#a) href="#a" fill="{INK}" 0.12345'
    with styled():
        figure = new_figure(6, 1)
        figure.subplots().set_title(words)
    element = ElementTree.fromstring(inline_svg(figure, prefix="f", title="a\0b\x1b"))
    assert words in {text.text for text in element.iter("{http://www.w3.org/2000/svg}text")}
    assert element[0].text == "a\ufffdb\ufffd"


def test_pages_name_and_fit_a_figure() -> None:
    svg = inline_svg(kl_figure(use()), prefix="p3", title="KL", description="of 8 units")
    element = ElementTree.fromstring(svg)
    assert element.get("role") == "img"
    named = {one.get("id"): one.text for one in element[:2]}
    assert [named[one] for one in element.get("aria-labelledby", "").split()] == ["KL", "of 8 units"]
    assert element.get("width") is None
    assert element.get("height") is None
    assert element.get("style") == "max-width: 691px"
    assert not re.search("<!--|<metadata|<!DOCTYPE|<\\?xml|RDF|<style", svg)


def test_a_figure_is_as_it_was_afterwards() -> None:
    figure = kl_figure(use())
    canvas, dpi = figure.canvas, figure.dpi
    inline_svg(figure, prefix="f", title="t")
    assert figure.canvas is canvas
    assert figure.dpi == dpi


def test_large_clouds_are_rasterised() -> None:
    big = inline_svg(projection_figure(use(2, n=5000)), prefix="f", title="t")
    assert "data:image/png;base64" in big
    assert len(big) < 300_000
    assert len(inline_svg(guide_figure(worst()), prefix="f", title="t")) < 300_000


def test_names_fit() -> None:
    assert len(fitted_name(NASTY)) == 28
    assert fitted_name("a\nb") == "a b"
    assert fitted_name("a\0\ud800") == "a\ufffd\ufffd"


def test_a_figure_of_anyones_is_taken() -> None:
    with styled():
        figure = new_figure(2, 1)
        figure.subplots().set_title("a $b$ <c>")
    svg = inline_svg(figure, prefix="f", title="t")
    assert "a $b$ &lt;c&gt;" in svg
