"""Docstrings of the house as Sphinx reads them: plain text, which is no reStructuredText, made into some.

The house writes `Args:` with indented items, `Returns:` and `Raises:` in a line, code between single
backticks, and formulas such as |y - X b|^2 as they are. Napoleon reads the items; the rest is done here.
"""

import re

_ITEMS = re.compile(r"^(Args|Attributes|Returns|Raises|References|Reference):$")
_INLINE = re.compile(r"^(Returns|Raises|References|Reference|Source): +(?=\S)")
_SPECIAL = re.compile(r"([\\*|]|(?<=\w)_(?!\w))")


def markup(lines: list[str]) -> list[str]:
    """The lines of a docstring (dedented) as reStructuredText, Napoleon's sections left as they are."""
    made: list[str] = []
    doctest = items = False
    code = False  # text between backticks may go on in the next line
    before = 0
    for line in lines:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if not text:
            doctest = code = False
            made.append("")
            before = 0
            continue
        if text.startswith(">>>") and not doctest:
            doctest = True
            if made and made[-1]:
                made.append("")
        if doctest:
            made.append(line)
            continue
        if not indent:
            items = bool(_ITEMS.match(text))
            if items:
                if made and made[-1]:
                    made.append("")
                made.append(line)
                before = 0
                continue
        inline = "" if items else _INLINE.match(text)
        # Outside of sections a new indentation is a paragraph of its own.
        if not items and made and made[-1] and (indent != before or inline):
            made.append("")
        before = indent
        if inline:
            # What follows may be indented: it stays in the paragraph.
            text, code = _text(text[inline.end() :], code)
            made.append(f"{line[:indent]}**{inline[1]}:** {text}")
            before = indent
            continue
        text, code = _text(text, code)
        made.append(line[:indent] + text)
    return made


def _text(text: str, code: bool) -> tuple[str, bool]:
    """Text with its code in double backticks and what would be markup escaped; whether code goes on."""
    parts = re.split(r"`+", text)
    made = []
    for number, part in enumerate(parts):
        if number:
            code = not code
            made.append("``")
            # Code ends at a sign or a blank: the plural's s of `name`s is set off.
            if not code and part[:1].isalnum():
                made.append("\\ ")
        made.append(part if code else _SPECIAL.sub(r"\\\1", part))
    return "".join(made), code


def process(app, what, name, obj, options, lines: list[str]) -> None:
    """Before Napoleon reads them."""
    lines[:] = markup(lines)


def setup(app) -> dict[str, bool]:
    """Sphinx's."""
    app.connect("autodoc-process-docstring", process, priority=100)
    return {"parallel_read_safe": True}
