"""The report of a study of performance: the verdict first, then figures and tables."""

from __future__ import annotations

from pathlib import Path

from brainalign_jax.studies.performance import figures, verdict
from brainalign_jax.studies.performance.table import ALL, PerformanceTable
from brainalign_jax.studies.performance.tasks import label_of
from brainalign_jax.study.outputs import rows_with
from brainalign_jax.study.report import page
from brainalign_jax.study.report.wording import (
    counted,
    fraction,
    interval,
    known,
    number,
    p_value,
    percent,
    signed,
)

_HEADER = (
    "data set", "task", "models", "r", "given size", "interval", "p", "adjusted p", "within families",
    "families' share", "without error", "models needed",
)  # fmt: skip
_TRAINING = ("data set", "task", "model", "half of score", "half of task", "lag", "interval")
_ABLATIONS = (
    "model",
    "method",
    "how",
    "read-out",
    "parts",
    "n",
    "r",
    "interval",
    "p",
    "given norm",
)
_MODELS = ("model", "family", "parameters", "score", "task", "value", "step")
_FACTS = (  # of the manifest
    {"plan": "choice"},
    ("scores", "tasks", "ablation", "command", "created", "versions"),
)
_MOST_LINES = 60


def write_report(table: PerformanceTable, folder: str | Path) -> Path:
    """Write `folder`/figures and `folder`/report.html, one file that needs nothing else."""
    pictures = page.Figures(folder)
    for name, figure, caption in figures.draw_figures(table):
        pictures.add(name, name, figure, caption)
    return page.write(
        folder,
        "performance",
        title="Alignment and what models can do",
        lead=_scope(table),
        answer=page.opening(verdict.answer(table), verdict.headline(table)),
        verdicts=[judged.text for judged in verdict.verdicts(table)],
        how=_how(table),
        notes=table.manifest["notes"],
        relations=page.Table(_HEADER, _relation_lines(table), 2, _cut(len(table.rows))),
        models=page.Table(_MODELS, _model_lines(table), 2),
        training=page.Table(_TRAINING, _training_lines(table), 3),
        ablations=page.Table(_ABLATIONS, _ablation_lines(table), 5),
        figures=pictures,
        facts=page.facts_of(table.manifest, *_FACTS, empty=(None, "", (), [])),
    )


def _scope(table: PerformanceTable) -> str:
    rows = table.rows
    sets = counted(rows["dataset"].nunique(), "data set")
    tasks = counted(len(rows[["task", "metric"]].drop_duplicates()), "task")
    models = table.extras["models"]["model"].nunique()
    return f"{counted(models, 'model')}, {tasks}, {sets}."


def _how(table: PerformanceTable) -> str:
    plan = table.manifest["plan"]
    return (
        "r: Spearman correlation, over models, of their brain score and what they can do; of perplexities "
        "and bits with the sign turned, so that more is better. Given size: of what a linear fit to the "
        "ranks of parameters (and width) leaves of the ranks. Intervals "
        f"({percent(plan['confidence'])}): {plan['n_bootstraps']} resamples of models and people. p, "
        f"two-sided: {plan['n_permutations']} permutations of models, within their families where these are "
        "large enough; adjusted: over the tasks of a data set (false discovery rate). A model counts once, "
        "at the last step that both sides have: its other checkpoints are not models of their own. "
        "Families' share: of the scores' variance that size leaves. Without error: divided by the root of "
        "the scores' reliability. Models needed: for a power of .8 at .05; the correlation of the task that "
        "came out first is too large, and the number too small."
    )


def _relation_lines(table: PerformanceTable) -> list[list[str]]:
    rows = table.rows.sort_values(["dataset", "p", "p_spearman"], kind="stable")[:_MOST_LINES]
    return [
        [
            line["dataset"],
            label,
            str(line["n_models"]),
            signed(line["spearman"]),
            signed(line["partial_spearman"]),
            interval(line["lower"], line["upper"]),
            p_value(line["p"]),
            p_value(line["p_adjusted"]),
            signed(line["within_families"]),
            number(line["family_effect"]),
            signed(line["partial_corrected"]),
            f"{line['needed_models']:,.0f}" if known(line["needed_models"]) else "–",
        ]
        for label, (_, line) in zip(label_of(rows), rows.iterrows(), strict=True)
    ]


def _model_lines(table: PerformanceTable) -> list[list[str]]:
    """The models with their score, and their values of the task that the verdict speaks of."""
    lines = []
    points = table.extras["models"]
    for dataset, rows in table.rows.groupby("dataset", sort=False):
        best = verdict.strongest(rows)
        part = points[(points["dataset"] == dataset) & points["last"]]
        part = rows_with(part, task=best["task"], metric=best["metric"])
        part = part.sort_values(["family", "n_params", "model"])[:_MOST_LINES]
        lines += [
            [
                line["model"],
                line["family"],
                f"{line['n_params']:,.0f}" if known(line["n_params"]) else "–",
                number(line["score"]),
                label,
                fraction(line["value"]) if abs(line["value"]) < 1 else f"{line['value']:.3f}",
                f"{line['step']:.0f}" if known(line["step"]) else "last",
            ]
            for label, (_, line) in zip(label_of(part), part.iterrows(), strict=True)
        ]
    return lines


def _training_lines(table: PerformanceTable) -> list[list[str]]:
    rows = table.extras["trajectories"]
    rows = rows.assign(one_model=rows["model"] != ALL)
    rows = rows.sort_values("one_model", kind="stable")[:_MOST_LINES]
    return [
        [
            line["dataset"],
            label,
            f"all {line['n_models']}" if line["model"] == ALL else line["model"],
            f"{line['score_step']:.3g}" if known(line["score_step"]) else "–",
            f"{line['task_step']:.3g}" if known(line["task_step"]) else "–",
            signed(line["lag"]),
            interval(line["lower"], line["upper"]),
        ]
        for label, (_, line) in zip(label_of(rows), rows.iterrows(), strict=True)
    ]


def _ablation_lines(table: PerformanceTable) -> list[list[str]]:
    return [
        [
            line["model"],
            line["method"],
            line["how"],
            line["readout"],
            line["component"],
            str(line["n_components"]),
            signed(line["spearman"]),
            interval(line["lower"], line["upper"]),
            p_value(line["p"]),
            signed(line["partial_spearman"]),
        ]
        for _, line in table.extras["ablations"].iterrows()
    ]


def _cut(count: int) -> str:
    return f"The {_MOST_LINES} with the smallest p, of {count}." * (count > _MOST_LINES)
