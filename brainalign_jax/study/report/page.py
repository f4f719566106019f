"""One HTML page that stands alone: tables, figures, style; nothing from outside. Its script sorts tables.

The HTML is in templates/, one a kind of report. What they are given is plain values, escaped as it is put in.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from brainalign_jax.files import new_file
from brainalign_jax.study.report import figure_parts
from brainalign_jax.study.report.wording import recorded

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("brainalign_jax.study.report"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,  # a value that is missing is an error, not a gap in a report
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals["level_colours"] = figure_parts.LEVEL_COLOURS


class Table(NamedTuple):
    """A table of text; columns from `numbers_from` on are set as numbers. note: small print below it."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers_from: int = 99
    note: str = ""


def facts(known: Iterable[tuple[str, object]]) -> Table:
    """A table of names and values but for those that are missing; counts (n_...) with thousands apart."""
    lines = []
    for name, value in known:
        if not (pd.api.types.is_scalar(value) and pd.isna(value)):
            whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            counts = whole and name.startswith("n_")
            lines.append([name, f"{int(value):,}" if counts else recorded(value)])
    return Table(["fact", "value"], lines)


def facts_of(
    manifest: Mapping[str, Any],
    groups: Mapping[str, str],
    names: Sequence[str],
    *,
    empty: Sequence[object] = (None, ""),
) -> Table:
    """What a manifest says: the values of its `groups`, by what each group is called, its models, `names`.

    empty: values that are left out.
    """
    known = [
        (f"{called}: {key}", value)
        for group, called in groups.items()
        for key, value in manifest[group].items()
    ]
    if "models" in manifest:
        known.append(("models", ", ".join(model["name"] for model in manifest["models"])))
    known += [(name, manifest[name]) for name in names]
    known.append(("working_folder", manifest.get("working_folder")))
    return facts((key, value) for key, value in known if value not in empty)


class Number(NamedTuple):
    """A number that a page shows large: its name above, a note below."""

    name: str
    value: str
    note: str


class Picture(NamedTuple):
    """A figure inside of a page. least, most: its width in rem; png: base64."""

    alt: str
    caption: str
    least: int
    most: int
    png: str


class Figures(list[Picture]):
    """The figures of a report, each of them a PNG in `folder`/figures, too."""

    def __init__(self, folder: str | Path):
        super().__init__()
        self._folder = Path(folder) / "figures"

    def add(self, file: str, name: str, drawn: Figure, caption: str) -> None:
        """Take a figure in. file: of the PNG, without its ending; name: what the picture is called."""
        self._folder.mkdir(exist_ok=True)
        figure_parts.save(drawn, self._folder / f"{file}.png")
        self.append(picture(name, drawn, caption))


def opening(answered: tuple[str, str], text: str) -> dict[str, str]:
    """What a page opens with: (level, answer), and the text, without the answer where it begins with it."""
    level, answer = answered
    for end in (".", ":"):
        text = text.removeprefix(f"{answer}{end}").strip()
    return {"level": level, "answer": answer, "text": text}


def write(folder: str | Path, template: str, **values) -> Path:
    """Write the page that a template makes of the values to `folder`/report.html, whole or not at all."""
    path = Path(folder) / "report.html"
    content = render(template, **values)
    with new_file(path) as file:
        file.write(content.encode())
    return path


def render(template: str, **values) -> str:
    """The HTML of templates/`template`.html.jinja with the values."""
    return _TEMPLATES.get_template(f"{template}.html.jinja").render(values)


def picture(name: str, drawn: Figure, caption: str) -> Picture:
    """A matplotlib figure with its caption."""
    # Letters stay legible on a narrow screen, which up to 5.6 inches fit, and no larger than the text's.
    width = drawn.get_figwidth()
    least = 5 * width if width > 5.6 else min(5 * width, 22)
    png = base64.b64encode(figure_parts.png_bytes(drawn)).decode()
    return Picture(name.replace("_", " "), caption, round(least), round(6.4 * width), png)
