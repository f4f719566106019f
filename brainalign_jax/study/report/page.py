"""One HTML page that stands alone: tables, figures, style; no scripts, nothing from outside."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from brainalign_jax.files import new_file
from brainalign_jax.study.report import figure_parts


def write(path: Path, title: str, body: Iterable[str]) -> Path:
    """Write a page of HTML parts, whole or not at all."""
    content = _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(body))
    with new_file(path) as file:
        file.write(content.encode())
    return path


def fragment(body: Iterable[str]) -> str:
    """HTML parts with their style in a box of their own, for a page that is not ours."""
    style = _STYLE.replace("body {", ".brainalign {").replace(":root {", ".brainalign {")
    return f'<style>{style}</style><div class="brainalign">{"".join(body)}</div>'


def verdict(question: str, answer: str, text: str, level: str, legend: str = "") -> str:
    """The box that a page opens with. level: of `LEVEL_COLOURS`; legend: of the numbers in the text."""
    return (
        f'<section class="verdict" style="border-color:{figure_parts.LEVEL_COLOURS[level]}">'
        f'<p class="question">{escape(question)}</p>'
        f'<p class="answer">{escape(answer)}</p>'
        f"<p>{escape(text)}</p>"
        + f'<p class="small">{escape(legend)}</p>' * bool(legend)
        + "</section>"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers_from: int = 99) -> str:
    """A table of text; columns from `numbers_from` on are set as numbers."""

    def cells(tag: str, line: Sequence[str]) -> str:
        kinds = [' class="number"' if i >= numbers_from else "" for i in range(len(line))]
        return "".join(
            f"<{tag}{kind}>{escape(text)}</{tag}>" for kind, text in zip(kinds, line, strict=True)
        )

    head = f"<thead><tr>{cells('th', header)}</tr></thead>"
    body = "\n".join(f"<tr>{cells('td', line)}</tr>" for line in rows)
    kind = "scores" if numbers_from < len(header) else "facts"
    return (
        f'<div class="scroll"><table class="{kind}">{head}<tbody>\n{body}\n</tbody></table></div>'
    )


def figure(name: str, drawn, caption: str) -> str:
    """A matplotlib figure with its caption, as PNG inside of the page."""
    data = base64.b64encode(figure_parts.png_bytes(drawn)).decode()
    alt = name.replace("_", " ")
    # Letters stay legible on a narrow screen, which up to 5.6 inches fit, and no larger than the text's.
    width = drawn.get_figwidth()
    least = 5 * width if width > 5.6 else min(5 * width, 22)
    size = f"min-width:{least:.0f}rem;max-width:{6.4 * width:.0f}rem"
    return (
        f'<figure><div class="scroll"><img alt="{alt}" style="{size}" '
        f'src="data:image/png;base64,{data}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --faint: #5a5a5a;
  --rule: #d6d6d6; --warn: #fff1d6; --warn-edge: #d98200; --head: #eef4f9; --head-edge: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #17191c; --faint: #a8a8a8;
  --rule: #3a3d42; --warn: #3d2f12; --warn-edge: #e69f00; --head: #1b2a36; --head-edge: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem; max-width: 70rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin-top: 2rem; }
h3 { font-size: 1rem; margin-bottom: .3rem; }
.lead, .small, figcaption { color: var(--faint); } .small, figcaption { font-size: .9rem; }
.headline, .warning { padding: .8rem 1rem; border-left: 5px solid var(--head-edge);
  background: var(--head); }
.headline { font-size: 1.08rem; }
.verdict { padding: .6rem 1.2rem; border: 3px solid; border-radius: 8px; background: var(--head); }
.verdict .question { margin: .2rem 0; color: var(--faint); }
.verdict .answer { margin: 0; font-size: 2rem; font-weight: 700; line-height: 1.2; }
.warning { border-color: var(--warn-edge); background: var(--warn); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: .3rem .5rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--rule); }
th { vertical-align: bottom; }
.scores td { white-space: nowrap; }
.scores td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 9rem; }
.facts td + td { overflow-wrap: anywhere; min-width: 5.5rem; }
@media (max-width: 40rem) { th, td { padding: .3rem .4rem; } table { font-size: .85rem; }
  .scores td:first-child { min-width: 6rem; } ul { padding-left: 1.2rem; }
  .verdict { padding: .4rem .8rem; } .verdict .answer { font-size: 1.6rem; } }
.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1.5rem 0; }
img { display: block; width: 100%; background: #ffffff; border-radius: 4px; }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
