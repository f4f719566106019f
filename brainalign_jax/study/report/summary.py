"""What a study says in words and numbers: warnings, headline and summary table, without HTML."""

from brainalign_jax.names import nearest
from brainalign_jax.study.names import UNTRAINED
from brainalign_jax.study.report import page, plots
from brainalign_jax.study.report.vectors import complaints
from brainalign_jax.study.report.verdict import overall
from brainalign_jax.study.report.wording import mean_of_subjects, number, short_names, span
from brainalign_jax.study.results import GROUP, ResultTable

PAPER_WARNING = (
    "These scores come from the paper's protocol, which is here to compare with the literature. "
    "Under it, smooth noise scores far above chance on continuous text: neighbouring words share "
    "scans and sentence context, and shuffled folds put them on both sides of the split. "
    "A score above chance is therefore no evidence of shared structure; use the audited protocol."
)
SIMULATED_WARNING = (
    "The subjects are SIMULATED. These scores check the software and say nothing about brains."
)
_SELECTION_NOTES = {
    "test": (
        "The best layer is picked on the very scores shown, and CSLS-MAX picks the best subject too: "
        "both are optimistic. The mean over layers involves no such choice."
    ),
    "inner folds": (
        "Each subject's layer is chosen in inner folds, without the words it is scored on; the layer shown "
        "is the one chosen most often. CSLS-MAX picks the best subject on these scores: it is optimistic."
    ),
}

_TEXT_FOLDS = ("contiguous", "leave_run_out")  # folds that follow the order of a text
_COLUMNS = {
    "model": "model",
    "method": "method",
    "layer": "layer",
    "csls_avg": "CSLS-AVG",
    "csls_max": "CSLS-MAX",
    "mean_over_layers": "mean over layers",
    "chance": "chance",
    "rank_accuracy": "rank accuracy",
    "rsa": "RSA",
}


def text_summary(table: ResultTable, *, k: int = 10) -> str:
    """The report's warnings, headline and summary table as aligned plain text.

    Raises: ValueError as `check`.
    """
    check(table, k)
    header, rows = summary_cells(table, k)
    verdict = overall(table)
    opening = headline(table, k=k)
    if verdict is not None:
        opening = f"Is the alignment real? {verdict.answer}. {verdict.text}"
    dataset = table.manifest.get("dataset")
    features = dataset.get("features") if isinstance(dataset, dict) else None
    parts = [
        *warnings(table),
        opening,
        *map(str, table.manifest.get("notes") or []),
        *([f"Language of the words: {language(table)}."] if language(table) else []),
        *([f"Features of the table: {features}"] if features else []),
    ]
    if rows:
        parts += [_aligned(header, rows), selection_note(table, k)]
    header, rows = measure_cells(table)
    if rows:
        parts.append(_aligned(header, rows))
    return "\n\n".join(parts) + "\n"


def _aligned(header: list[str], rows: list[list[str]]) -> str:
    """A table as text, its first two columns to the left."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    aligned = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    aligned.insert(1, "-" * max(map(len, aligned)))
    return "\n".join(aligned)


def language(table: ResultTable) -> str:
    """The language of the words and by what it is known, "" where it is not."""
    known = table.manifest.get("language")
    return f"{known['code']} (known by {known['known_by']})" if isinstance(known, dict) else ""


def selection_note(table: ResultTable, k: int) -> str:
    """How the layers of the summary were chosen."""
    kinds = table.summary(k=k)["selection"]
    return _SELECTION_NOTES["inner folds" if (kinds == "inner folds").all() else "test"]


def check(table: ResultTable, k: int) -> None:
    """Raise ValueError where the table is empty, mixed, or has precision but not at k."""
    if table.rows.empty:
        raise ValueError("the result table has no rows: there is nothing to report")
    plots.check_one_study(table)
    known = sorted(table.rows.loc[table.rows["metric"] == "precision_csls", "k"].unique())
    if known and k not in known:
        raise ValueError(f"k={k} was not scored; {nearest(k, known)}")


def warnings(table: ResultTable) -> list[str]:
    """What a reader must know before any score: simulated subjects, the paper's protocol, odd vectors."""
    texts = []
    if table.manifest.get("simulated"):
        texts.append(SIMULATED_WARNING)
    paper = "paper" in (protocol_fields(table).get("name"), table.rows["protocol"].iloc[0])
    if paper and (table.rows["metric"] != table.rows["method"]).any():  # measures have no folds
        texts.append(PAPER_WARNING)
    return texts + complaints(table)


def headline(table: ResultTable, *, k: int) -> str:
    """The best score in plain words beside chance, and what it does not show."""
    summary = table.summary(k=k)
    if summary.empty:
        return "No word retrieval was scored: see the figures for what was."
    names = short_names(summary["model"])
    best = summary.loc[summary["csls_avg"].idxmax()]
    rows = table.pooled("precision_csls", k=k)
    low, high, _, n_items = plots.chance_interval(rows)
    group = rows[rows["subject"] == GROUP]
    count = rows.loc[rows["subject"] != GROUP, "subject"].nunique()
    place = "above" if best["csls_avg"] > high else "below" if best["csls_avg"] < low else "inside"
    sentences = [
        f"Best: {names[best['model']]} layer {best['layer']} by {best['method']}, "
        f"P@{k} {number(best['csls_avg'])} ({mean_of_subjects(count)}); chance {number(best['chance'])}.",
        f"Chance for one subject who guesses {n_items:,} independent words: 99 % interval "
        f"{span(low, high)}; the best score is {place} it.",
        f"It is the highest of {len(group)} scores (models × methods × layers), and "
        f"{dependence(table)}: this is no test of significance.",
    ]
    twin = summary[
        (summary["model"] == UNTRAINED + best["model"]) & (summary["method"] == best["method"])
    ]
    if best["model"].startswith(UNTRAINED):
        sentences.insert(1, "That model is untrained: its weights are random.")
    elif len(twin):
        line = twin.iloc[0]
        sentences.insert(
            1,
            f"The same architecture untrained reaches {number(line['csls_avg'])} "
            f"(layer {line['layer']}).",
        )
    return " ".join(sentences)


def best_numbers(table: ResultTable, k: int) -> list[page.Number]:
    """The best score of the headline, chance, and rank accuracy; empty where no word was retrieved."""
    summary = table.summary(k=k)
    if summary.empty:
        return []
    best = summary.loc[summary["csls_avg"].idxmax()]
    name = short_names(summary["model"])[best["model"]]
    return [
        page.Number(f"P@{k}", number(best["csls_avg"]), f"{name} by {best['method']}"),
        page.Number("Chance", number(best["chance"]), "uniform guesses"),
        page.Number("Rank accuracy", number(best["rank_accuracy"]), "0.5 by chance"),
    ]


def dependence(table: ResultTable) -> str:
    """Why the scores are not independent: words of a text, or isolated words that all share."""
    if protocol_fields(table).get("folds") in _TEXT_FOLDS:
        return "words of a text are not independent"
    return "layers and subjects share the same words"


def protocol_fields(table: ResultTable) -> dict:
    """The protocol's fields as far as the manifest has them."""
    fields = table.manifest.get("protocol")
    return fields if isinstance(fields, dict) else {}


def summary_cells(table: ResultTable, k: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the summary as text; scores that no row has are left out."""
    summary = table.summary(k=k)
    if summary.empty:
        return list(_COLUMNS.values()), []
    columns = [
        c for c in _COLUMNS if not (c in ("rank_accuracy", "rsa") and summary[c].isna().all())
    ]
    names = short_names(summary["model"])
    rows = [
        [
            names[value] if column == "model" else str(value) if i < 3 else number(value)
            for i, (column, value) in enumerate(zip(columns, line, strict=True))
        ]
        for line in summary[columns].itertuples(index=False)
    ]
    return [_COLUMNS[c] for c in columns], rows


def measure_cells(table: ResultTable) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one a model and measure, of measures that no column of the summary shows."""
    header = ["model", "measure", "best layer", "value", "unrelated vectors"]
    names, rows = short_names(table.rows["model"].unique()), []
    for measure in table.measures():
        values = table.pooled(measure, subject=GROUP)
        if measure == "rsa" and not table.summary().empty:
            continue
        for model, part in values.groupby("model", sort=False):
            judged = part[part["layer"] == table.judged_layer(model, measure)]
            if judged.empty:  # a measure may be NaN in all layers
                judged = part.sort_values("value", ascending=False, kind="stable")
            best = judged.iloc[0]
            numbers = number(best["value"]), number(best["chance"])
            rows.append([names[model], measure, str(int(best["layer"])), *numbers])
    return header, rows
