"""What the report says of the models' vectors: first tokens, and whether few words or dimensions rule."""

from collections.abc import Sequence

from brainalign_jax.language.geometry import complaint
from brainalign_jax.study.report import page
from brainalign_jax.study.report.wording import number, short_names
from brainalign_jax.study.results import ResultTable


def complaints(table: ResultTable) -> list[str]:
    """A sentence for each model whose vectors few words or dimensions rule."""
    facts = _facts(table)
    names = short_names([str(model["name"]) for model in facts])
    texts = []
    for model in facts:
        text = complaint(model["geometry"], table.manifest.get("n_types") or 1)
        if text is None:
            continue
        before = ""
        if "first_token" in model and model["first_token"] is None:
            before = " Nothing stands before the first word of a text (see bos)."
        texts.append(f"{names[model['name']]}: {text}.{before}")
    return texts


def vectors_table(table: ResultTable) -> page.Table | None:
    """A line for each model; None where nothing is known."""
    facts = _facts(table)
    if not facts:
        return None
    names = short_names([str(model["name"]) for model in facts])
    lines = [[names[model["name"]], *_cells(model)] for model in facts]
    header = [
        "model", "before the texts", "sub-tokens a word", "first words",
        "longest 1 % of words", "three dimensions", "cosine",
    ]  # fmt: skip
    return page.Table(header, lines, 2)


def _facts(table: ResultTable) -> list[dict]:
    models = table.manifest.get("models") or []
    return [model for model in models if isinstance(model, dict) and model.get("geometry")]


def _cells(model: dict) -> Sequence[str]:
    about = model["geometry"]
    return [
        str(model.get("first_token") or "–"),
        number(model.get("fertility")),
        _largest(about["first_ratio"], "{:.2f} ×"),
        _largest(about["top_share"], "{:.1%}"),
        _largest(about["dimension_share"], "{:.1%}"),
        _largest(about["mean_cosine"], "{:.2f}"),
    ]


def _largest(values: Sequence[float | None], form: str) -> str:
    known = {layer: value for layer, value in enumerate(values) if value is not None}
    if not known:
        return "–"
    layer = max(known, key=known.__getitem__)
    return f"{form.format(known[layer])} ({layer})"
