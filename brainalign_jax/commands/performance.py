"""`brainalign performance`: does alignment go with what models can do?"""

from typing import Any

from brainalign_jax.commands.align import DATA, OUTPUT_DIR, PROTOCOL
from brainalign_jax.commands.command import Command, say_finished
from brainalign_jax.commands.ending import misuse
from brainalign_jax.options import Option, filled, options_of
from brainalign_jax.studies.options import Performance

_PLAN = options_of(Performance, PROTOCOL)
PERFORMANCE_OPTIONS = (
    Option(
        "scores",
        "list",
        None,
        "Folders of finished studies, or CSV, JSON or parquet of model and score, and where known subject, "
        "dataset, layer, metric, n_params, width, family, step, reliability.",
        DATA,
        required=True,
    ),
    Option(
        "tasks",
        "list",
        None,
        "CSV, JSON or parquet of model, task, value, and where known metric, stderr, family, n_params, step; "
        "results_*.json of lm-evaluation-harness, or a folder of them.",
        DATA,
        required=True,
    ),
    Option(
        "ablation",
        "path",
        None,
        "Folder of `brainalign ablate`, to ask whether the same ablations cost alignment and bits.",
        DATA,
    ),
    OUTPUT_DIR,
    *_PLAN,
)


def _performance(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.studies.performance import run_performance

    with misuse():
        plan = filled(Performance, _PLAN, values)
    table = run_performance(
        values["scores"],
        values["tasks"],
        values["output_dir"],
        ablation=values["ablation"],
        plan=plan,
        command=text,
    )
    say_finished(table.verdict(), values["output_dir"])


PERFORMANCE = Command(
    "performance",
    "does alignment go with what models can do: beyond size, over training, with a verdict",
    (
        "performance --scores=out/pythia-70m,out/pythia-410m,out/gpt2,out/opt-125m --tasks=results "
        "--output_dir=out/performance",
        "performance --scores=scores.csv --tasks=tasks.csv --task_names='lambada*,piqa:acc' "
        "--output_dir=out/performance",
    ),
    PERFORMANCE_OPTIONS,
    _performance,
    "nothing is kept, and the same command begins anew",
)
