"""What a causal model's first token, and the space before a word, do to scores of words read alone.

    python -m benchmarks.first_token --model=FOLDER --data_dir=../shared/data/pereira180 \
        --output=out/first_token.json

Some minutes on 2 cores (SmolLM2-135M, 5 subjects, every third layer). Prints a Markdown table: with and
without the first token and the space, P@10 by ridge and Procrustes and RSA decoding on pereira180 under the
audited protocol, means over layers and subjects, and what the vectors' geometry says. Expect scores near
chance without the first token and the highest with token and space.
"""

import json
import warnings
from pathlib import Path

from absl import app, flags, logging

import brainalign_jax as ba
from benchmarks.measure import machine
from brainalign_jax.study.options import Embedding

_MODEL = flags.DEFINE_string("model", None, "Name, Hugging Face id or folder.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of pereira180.", required=True)
_SUBJECTS = flags.DEFINE_integer("n_subjects", 5, "How many of the subjects.", lower_bound=1)
_STEP = flags.DEFINE_integer("layer_step", 3, "Every so many layers.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
# Isolated items read as sentences are words alone without a space before them.
_READINGS = {"with a space": "word", "without": "sentence"}


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends it did not find
    warnings.simplefilter("ignore")
    dataset = ba.open_dataset("pereira180", _DATA_DIR.value)
    subjects = dataset.subjects[: _SUBJECTS.value]
    dataset = ba.open_dataset("pereira180", _DATA_DIR.value, subjects=subjects)
    n_layers = ba.embed(dataset.stimulus.select([0]), _MODEL.value, context="word").n_states
    scoring = ba.Scoring(ks=(10,), layers=tuple(range(0, n_layers, _STEP.value)))
    rows = []
    for space, context in _READINGS.items():
        for bos in ("auto", "never"):
            table = ba.run_study(
                dataset,
                [_MODEL.value],
                scoring,
                embedding=Embedding(context=context, bos=bos),
                evidence=None,
                progress=False,
            )
            about = table.manifest["models"][0]
            scores = table.summary().set_index("method").mean_over_layers.round(3).to_dict()
            geometry = about["geometry"]
            rows.append(
                {
                    "first token": about["first_token"] or "none",
                    "space": space,
                    **scores,
                    "longest 1 %": max(geometry["top_share"]),
                    "three dimensions": max(geometry["dimension_share"]),
                    "cosine": max(geometry["mean_cosine"]),
                }
            )
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
