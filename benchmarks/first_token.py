"""What a causal model's first token, the space before a word, and scaled vectors do to scores of words alone.

    python -m benchmarks.first_token --model=FOLDER --data_dir=../shared/data/pereira180 \
        --output=out/first_token.json

Some minutes on 2 cores (SmolLM2-135M, 3 subjects, every fifth layer). Prints a Markdown table: with and
without the first token, the space, and a scaling of the vectors, P@10 on pereira180 under the audited
protocol, means over layers and subjects, by each method and (in brackets) by draws of its null that exchange
the words, and what the vectors' geometry says. Expect scores near chance without the first token, the highest
with token and space, and nulls at chance (.056) whatever the scaling.
"""

import json
import warnings
from pathlib import Path

from absl import app, flags, logging

import brainalign_jax as ba
from benchmarks.measure import machine
from brainalign_jax.embedding import Embedding

_MODEL = flags.DEFINE_string("model", None, "Name, Hugging Face id or folder.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of pereira180.", required=True)
_SUBJECTS = flags.DEFINE_integer("n_subjects", 3, "How many of the subjects.", lower_bound=1)
_STEP = flags.DEFINE_integer("layer_step", 5, "Every so many layers.", lower_bound=1)
_N_NULLS = flags.DEFINE_integer("n_nulls", 10, "Draws of each null.", lower_bound=1)
_METHODS = flags.DEFINE_list("methods", ["procrustes", "ridge", "rsa"], "Methods.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
# (first token, space, scaling). Isolated items read as sentences are words alone without a space before them.
_CASES = [
    ("auto", "word", "none"),
    ("auto", "word", "zscore"),
    ("auto", "word", "abtt"),
    ("never", "word", "none"),
    ("never", "word", "zscore"),
    ("never", "word", "abtt"),
    ("auto", "sentence", "none"),
    ("never", "sentence", "none"),
]


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends it did not find
    warnings.simplefilter("ignore")
    subjects = ba.open_dataset("pereira180", _DATA_DIR.value).subjects[: _SUBJECTS.value]
    dataset = ba.open_dataset("pereira180", _DATA_DIR.value, subjects=subjects)
    alone = ba.embed(dataset.stimulus.select([0]), _MODEL.value, context="word")
    layers = tuple(range(0, alone.n_states, _STEP.value))
    plan = ba.EvidencePlan(
        n_nulls=_N_NULLS.value, n_permutations=0, untrained_seeds=0, controls=(), ceilings=False
    )
    rows = []
    for bos, context, scaling in _CASES:
        chosen = ba.protocol("audited", timed=False, vector_scaling=scaling)
        table = ba.run_study(
            dataset,
            [_MODEL.value],
            ba.Scoring(tuple(_METHODS.value), chosen, (10,), layers),
            embedding=Embedding(context=context, bos=bos),
            evidence=plan,
            progress=False,
        )
        about = table.manifest["models"][0]
        scores = table.summary().set_index("method").mean_over_layers
        nulls = table.extras["nulls"]
        nulls = nulls[nulls["metric"] == "precision_csls"].groupby("method")["value"].mean()
        geometry = about["geometry"]
        row = {
            "first token": about["first_token"] or "none",
            "space": "yes" if context == "word" else "no",
            "scaling": scaling,
            **{name: f"{scores[name]:.3f} ({nulls[name]:.3f})" for name in _METHODS.value},
            "longest 1 %": max(geometry["top_share"]),
            "three dimensions": max(geometry["dimension_share"]),
        }
        rows.append(row)
        print(" ".join(str(value) for value in row.values()), flush=True)
    print()
    print(f"| {' | '.join(rows[0])} |\n|{' --- |' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(str(value) for value in row.values())} |")
    if _OUTPUT.value:
        path = Path(_OUTPUT.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"machine": machine(), "model": _MODEL.value, "subjects": list(subjects)}
        path.write_text(json.dumps(facts | {"rows": rows}, indent=2))


if __name__ == "__main__":
    app.run(main)
