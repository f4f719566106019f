"""Does an ablation study see what is not there, and does it find the head that is? Simulated studies.

    python -m benchmarks.ablation_false_positives --n_studies=200 --n_planted=20 \
        --output=out/ablation_false_positives.json

Studies of 60 words, 8 people and ridge, each with another random GPT-2 of two blocks and eight heads, all
of which are switched off. "nothing": responses of noise; the smallest p by the largest fall of all heads,
read behind their blocks and in the chosen layer, is below .05 in a share of the studies that must lie
between .02 and .09 (the middle 95 % of .05 for 200 studies are .02 to .08). "top": the same where only the
three heads of the largest estimated falls are switched off; their p is Bonferroni's, and the share is to be
below .09.
"planted": responses made of what one head writes, through a map of each person's own: is it the first of
all heads, each read behind its block? What a head writes is in part a linear function of what the vectors
behind its block are without it, of which the other heads and blocks are the cause: that part of the responses
is decoded without the head, and lost without another. "alone": responses made of what is left of it, which no
other part writes and which therefore identifies the head.

Over 200 studies of "nothing" the shares are .040 behind the blocks and .025 in the chosen layer, of "top"
.025 and .000. Of rises in place of falls, for comparison, they were .045 and .068 of 176 studies. So the
flips are right, and the chosen layer errs on the safe side: it seems that what inner folds of noise choose
does, if anything, worse with the words left out. With 199 flips drawn in place of all 255, the share was .015
of 200 studies in the chosen layer.

Prints a Markdown table of shares with exact intervals and writes JSON with all numbers. Half a second of
processor time a study.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from absl import app, flags
from safetensors.numpy import save_file

from benchmarks.false_positives import define_flags, finish, share_line, share_lines
from brainalign_jax.language import embed
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.ablation import AblationTable, run_ablation
from brainalign_jax.studies.options import Ablation
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.protocol import protocol

KINDS = ("nothing", "top", "planted", "alone")
PLANTED = KINDS[2:]
N_WORDS, N_PEOPLE, N_VOXELS = 60, 8, 16
N_BLOCKS, N_HEADS, WIDTH = 2, 4, 16
LETTERS = "Ġ.abcdefghijklmnop"


def write_model(folder: str | Path, seed: int) -> str:
    """A small GPT-2 of random weights and sharp attention, and a tokenizer of letters; its folder."""
    rng, folder = np.random.default_rng((seed, 1)), Path(folder)
    folder.mkdir(parents=True)
    vocabulary = {letter: number for number, letter in enumerate(LETTERS)}
    vocabulary["<|endoftext|>"] = len(vocabulary)
    shapes = {"wte": (len(vocabulary), WIDTH), "wpe": (64, WIDTH), "ln_f": (WIDTH,)}
    for block in range(N_BLOCKS):
        shapes |= {f"h.{block}.ln_1": (WIDTH,), f"h.{block}.ln_2": (WIDTH,)}
        shapes |= {
            f"h.{block}.attn.c_attn": (WIDTH, 3 * WIDTH),
            f"h.{block}.attn.c_proj": (WIDTH, WIDTH),
        }
        shapes |= {
            f"h.{block}.mlp.c_fc": (WIDTH, 4 * WIDTH),
            f"h.{block}.mlp.c_proj": (4 * WIDTH, WIDTH),
        }
    tensors = {}
    for name, shape in shapes.items():
        draw = rng.standard_normal(shape) * (0.4 if ".attn." in name else 0.1)
        tensors[f"{name}.weight"] = (draw if len(shape) == 2 else np.ones(shape)).astype(np.float32)
        if name not in ("wte", "wpe"):
            tensors[f"{name}.bias"] = np.zeros(shape[-1], np.float32)
    config = {
        "model_type": "gpt2", "n_embd": WIDTH, "n_head": N_HEADS, "n_layer": N_BLOCKS, "n_positions": 64,
        "vocab_size": len(vocabulary), "bos_token_id": len(vocabulary) - 1,
        "eos_token_id": len(vocabulary) - 1,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def written(stimulus: Stimulus, model: str, block: int, head: int) -> tuple[np.ndarray, np.ndarray]:
    """(what a head writes [N, D], what of it no linear map makes of the vectors without the head)."""
    off = f"head:{block}.{head}"
    whole, without = (
        embed(stimulus, model, sublayers="attention", interventions=each).values[block + 1]
        for each in (None, off)
    )
    signal = whole - without
    signal = signal - signal.mean(axis=0)
    rest = embed(stimulus, model, interventions=off).values[block + 1]
    alone = signal - _fit(rest - rest.mean(axis=0), signal)
    return signal, alone


def _fit(columns: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """The least-squares fit of a signal by columns."""
    return columns @ np.linalg.lstsq(columns, signal, rcond=None)[0]


def simulated(kind: str, model: str, seed: int) -> tuple[Dataset, tuple[int, int], float]:
    """(data set; block and head of which its responses are made, where one is; the share of what the head
    writes that is in the vectors without it, NaN where none is)."""
    rng = np.random.default_rng(seed)
    words = {"".join(rng.choice(list(LETTERS[2:]), 3)): None for _ in range(4 * N_WORDS)}
    stimulus = Stimulus(tuple(words)[:N_WORDS], sentence=np.arange(N_WORDS) // 5)
    block, head = int(rng.integers(N_BLOCKS)), int(rng.integers(N_HEADS))
    signal, shared, is_planted = np.zeros((N_WORDS, WIDTH)), float("nan"), kind in PLANTED
    if is_planted:
        signal, alone = written(stimulus, model, block, head)
        shared = 1 - float(np.square(alone).sum() / np.square(signal).sum())
        signal = alone if kind == "alone" else signal
        signal = signal / signal.std()
    responses = {}
    for person in (f"S{i}" for i in range(N_PEOPLE)):
        own = signal @ rng.standard_normal((WIDTH, N_VOXELS)) / np.sqrt(WIDTH)
        values = own + (0.3 if is_planted else 1.0) * rng.standard_normal(own.shape)
        responses[person] = WordResponses(person, values.astype(np.float32), stimulus)
    dataset = Dataset("simulated", tuple(responses), stimulus, responses.__getitem__)
    return dataset, (block, head), shared


def study_of(kind: str, dataset: Dataset, model: str, seed: int, n_flips: int) -> AblationTable:
    """The study of a kind."""
    plan = Ablation(
        components=("heads",), how=("zero",), readout=("refit",), controls=False, bits=False,
        n_flips=n_flips, n_bootstraps=100, estimate="exact" if kind == "nothing" else "gradient",
        exact="top3" if kind == "top" else "all",
    )  # fmt: skip
    folds = protocol("audited", timed=False, n_folds=4, n_inner_folds=2)
    scoring = Scoring(methods=("ridge",), ks=(1,), seed=seed, protocol=folds)
    return run_ablation(dataset, [model], plan=plan, scoring=scoring, progress=False)


def least_p(kind: str, folder: str | Path, seed: int, *, n_flips: int = 255) -> dict[str, float]:
    """The smallest p by the largest fall of all heads in a study of noise, by where they are read.

    folder: for the model. n_flips: 255 are all that eight people have.
    """
    model = write_model(Path(folder) / f"{kind}{seed}", seed)
    dataset, _, _ = simulated(kind, model, seed)
    lines = study_of(kind, dataset, model, seed, n_flips).group(metric="rank_accuracy")
    chosen = lines["layer"] == -1
    places = {"behind the block": lines[~chosen], "chosen layer": lines[chosen]}
    return {place: float(rows["p_max"].min()) for place, rows in places.items()}


def is_found(folder: str | Path, seed: int, kind: str = "planted") -> dict[str, float]:
    """Objective and column -> whether the planted head has the largest fall of all, behind its block.

    And "shared", how much of what it writes the vectors without it have.
    """
    model = write_model(Path(folder) / f"{kind}{seed}", seed)
    dataset, planted, shared = simulated(kind, model, seed)
    lines = study_of(kind, dataset, model, seed, 19).estimates
    lines = lines.rename(columns={"estimate": "gradient"})
    lines = lines[lines["layer"] == lines["block"] + 1]
    places = {"of all": lines, "of its block": lines[lines["block"] == planted[0]]}
    answers = {
        f"{place}, {objective}, {column}": first_of(rows, column) == planted
        for place, placed in places.items()
        for objective, rows in placed.groupby("objective", sort=False)
        for column in ("exact", "gradient")
    }
    return answers | {"shared": shared}


def first_of(rows: pd.DataFrame, column: str) -> tuple[int, int]:
    """(block, head) of the largest fall."""
    line = rows.loc[rows[column].idxmin()]
    return int(line["block"]), int(line["head"])


def main(argv: list[str]) -> None:
    del argv
    asked, results = flags.FLAGS, {}
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in asked.kinds:
            if kind in PLANTED:
                seeds = range(asked.seed, asked.seed + asked.n_planted)
                results[kind] = [is_found(folder, seed, kind) for seed in seeds]
                lines += ["", f"| {kind}: the head is first | studies | share | 95 % interval |"]
                lines.append("|---|---|---|---|")
                for name in results[kind][0]:
                    values = [each[name] for each in results[kind]]
                    if name != "shared":
                        lines.append(share_line(name, sum(values), len(seeds)))
                shared = np.median([each["shared"] for each in results[kind]])
                lines += [
                    "",
                    f"{kind}: share of it in the vectors without the head, median {shared:.2f}",
                ]
                continue
            seeds = range(asked.seed, asked.seed + asked.n_studies)
            results[kind] = [least_p(kind, folder, seed) for seed in seeds]
    least = {
        f"{kind}, {place}": [each[place] for each in results[kind]]
        for kind in results
        if kind not in PLANTED
        for place in results[kind][0]
    }
    finish([*share_lines(least), *lines], results=results)


if __name__ == "__main__":
    define_flags(KINDS)
    flags.DEFINE_integer("n_planted", 20, "With a planted head, each kind.", 1)
    app.run(main)
