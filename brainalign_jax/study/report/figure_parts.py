"""Parts that figures share: colours, panels, legends below them that fit, labels, and their PNG.

Colours are those of Okabe and Ito, told apart by readers with any colour vision.
"""

import weakref
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from brainalign_jax.files import new_file
from brainalign_jax.study.names import UNTRAINED, without_seed

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#666666"  # nulls, chance, ceilings: what scores are compared with
# What a verdict's level looks like.
LEVEL_COLOURS = {
    "real": OKABE_ITO[2],
    "static": OKABE_ITO[2],
    "uncertain": OKABE_ITO[4],
    "explained": OKABE_ITO[4],
    "chance": OKABE_ITO[1],
    "untested": "#8a8a8a",
}
DPI = 150
_MARKERS = "osD^vPX"
_DRAWN: weakref.WeakKeyDictionary[Figure, bytes] = weakref.WeakKeyDictionary()


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG of 150 dpi, drawn once: it must not be changed afterwards."""
    if figure not in _DRAWN:
        # What `savefig` writes, which draws a figure twice where its layout is constrained.
        figure.set_dpi(DPI)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        buffer = BytesIO()
        imsave(buffer, canvas.buffer_rgba(), format="png", dpi=DPI)
        _DRAWN[figure] = buffer.getvalue()
    return _DRAWN[figure]


def save(figure: Figure, path: Path) -> None:
    """Write the figure's PNG, whole or not at all."""
    content = png_bytes(figure)
    with new_file(path) as file:
        file.write(content)


def model_styles(models: Sequence[str]) -> dict[str, dict]:
    """Line styles by model; an untrained twin is dashed in the colour of its trained model."""
    trained = {name: without_seed(name).removeprefix(UNTRAINED) for name in models}
    bases = list(dict.fromkeys(trained.values()))
    styles = {}
    for name in models:
        index = bases.index(trained[name])
        untrained = name.startswith(UNTRAINED)
        styles[name] = {
            "color": OKABE_ITO[index % len(OKABE_ITO)],
            "marker": _MARKERS[(index // len(OKABE_ITO) + index) % len(_MARKERS)],
            "markersize": 4.5,
            "markerfacecolor": "white" if untrained else OKABE_ITO[index % len(OKABE_ITO)],
            "linestyle": "--" if untrained else "-",
            "linewidth": 1.8,
        }
    return styles


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name, in turn."""
    return {name: OKABE_ITO[i % len(OKABE_ITO)] for i, name in enumerate(names)}


def plain_axis(axis: Axes, grid: str) -> None:
    """No frame at the top and right, and faint lines behind the data. grid: "x" or "y"."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis=grid, color="#DDDDDD", linewidth=0.6)
    axis.set_axisbelow(True)


def log_sizes(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def label(axes: np.ndarray, x: str, y: str) -> None:
    """Label the x axis of every panel and the y axis of the panels at the left."""
    for axis in axes:
        axis.set_xlabel(x, fontsize=11)
        if axis.get_subplotspec().is_first_col():
            axis.set_ylabel(y, fontsize=11)


def panels(count: int, *, width: float = 3.7, same_y: bool = True) -> tuple[Figure, np.ndarray]:
    """A figure of `count` panels with common axes, three in a row. same_y: whether they share the y axis."""
    columns = min(count, 3)
    n_rows = -(-count // columns)
    # One panel alone needs room for the legend's long lines.
    size = (max(width * columns, 6.2) + 0.6, 3.5 * n_rows)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    grid = figure.subplots(n_rows, columns, sharex=True, sharey=same_y, squeeze=False).ravel()
    for axis in grid:
        plain_axis(axis, "y")
        axis.tick_params(labelsize=10, labelbottom=True)
    for axis in grid[count:]:
        axis.set_visible(False)
    return figure, grid[:count]


def bars(rows: pd.DataFrame) -> list[pd.Series]:
    """How far the intervals of scores reach below and above them; NaN where there is none."""
    return [
        (rows["score"] - rows["lower"]).clip(lower=0),
        (rows["upper"] - rows["score"]).clip(lower=0),
    ]


def line(colour: str, **style) -> Line2D:
    """A line for a legend."""
    return Line2D([], [], color=colour, **{"linewidth": 1.2, **style})


def legend(figure: Figure, entries: list[tuple]) -> None:
    """A legend below the panels, for which the figure grows."""
    handles, labels = zip(*entries, strict=True)
    labels = [_wrap(label) for label in labels]
    longest = max(len(line) for label in labels for line in label.split("\n"))
    columns = int(np.clip(figure.get_figwidth() / (0.085 * longest + 0.6), 1, len(entries)))
    n_lines = sum(label.count("\n") + 1 for label in labels)
    figure.set_figheight(figure.get_figheight() + 0.2 * np.ceil(n_lines / columns) + 0.2)
    legend_below(figure, zip(handles, labels, strict=True), columns)


def legend_below(
    figure: Figure, entries: Iterable[tuple], columns: int, *, size: float = 9.5
) -> None:
    """The entries as they are, in so many columns below the panels."""
    handles, labels = zip(*entries, strict=True)
    labels = [_plain(label) for label in labels]
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=size
    )


def _wrap(text: str, width: int = 40) -> str:
    """Text in lines of about equal length, words (model names above all) whole where they fit."""
    lines = wrap(text, width, break_on_hyphens=False)
    longest = max((min(len(word), width) for word in text.split()), default=width)
    for narrower in range(max(longest, len(text) // max(len(lines), 1)), width):
        balanced = wrap(text, narrower, break_on_hyphens=False)
        if len(balanced) <= len(lines):
            return "\n".join(balanced)
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that matplotlib sets as it is: no mathematics between dollars, no hidden label."""
    return " " * text.startswith("_") + text.replace("$", r"\$")
