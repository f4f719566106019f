"""
Reading the report
==================

A study writes ``report.html`` and the tables behind it. What the report says is computed from these tables
alone, so that you can follow each number: that is done here, for one study.
"""

# %%
# **A study with a folder.** Recordings of three people in memory, of 72 words that have no order in time; a
# model of three layers, of which the middle one is in the recordings.

import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import brainalign_jax as ba

folder = Path(tempfile.mkdtemp())
rng = np.random.default_rng(0)
words = ba.Stimulus(tuple(f"word{number}" for number in range(72)))
layers = rng.standard_normal((3, 72, 10)).astype(np.float32)


def responses(subject: str) -> ba.WordResponses:
    noise = np.random.default_rng(ord(subject))
    signal = layers[1] @ noise.standard_normal((10, 30))
    return ba.WordResponses(subject, signal + 4.0 * noise.standard_normal((72, 30)), words)


recorded = {subject: responses(subject) for subject in "ABC"}
people = ba.Dataset("three people", tuple(recorded), words, recorded.__getitem__)
model = ba.Embeddings("planted", words.types()[0], layers, None, {"family": "simulated"})
ba.run_study(
    people,
    model,
    ba.Scoring(("ridge",), ks=(1, 10)),
    folder,
    evidence=ba.EvidencePlan(n_nulls=99, hold_alpha=True, n_bootstraps=500, controls=()),
    simulated=True,
    progress=False,
)
print(*sorted(path.name for path in folder.iterdir() if path.is_file()), sep="\n")

# %%
# **The first line** is the verdict. It is one of *yes*, *yes, but no more than static word vectors*, *not
# clear*, *not shown* and *no*; the sentences after it give the reasons with their numbers.

table = ba.ResultTable.load(folder)
print(table.verdict())

# %%
# **The evidence** is a row a model and method. ``score`` is P@10 at the layer that inner folds choose,
# without the words that are tested; ``lower`` and ``upper`` its interval over people and words;
# ``null_mean`` and ``p`` are of the draws; ``ceiling`` is what the other people's responses reach in the
# model's place.

row = table.extras["evidence"].iloc[0]
columns = ["score", "lower", "upper", "chance", "null_mean", "p", "ceiling", "calibrated"]
print(row[columns].to_string())

# %%
# **The p-value by hand**: the best layer's score against the best layer of each draw, the study counted
# among them.

k10 = "metric == 'precision_csls' and k == 10"
null = table.extras["nulls"].query(k10).groupby(["draw", "layer"])["value"].mean()
null = null.groupby("draw").max()
best = table.pooled("precision_csls", k=10, subject="group")["value"].max()
by_hand = (1 + (null >= best).sum()) / (1 + len(null))
print(
    f"best layer {best:.3f}; {len(null)} draws, p by hand {by_hand:.3f}, in the table {row['p']:.3f}"
)

# %%
# **The figure**: where the score lies among the draws.

figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
axes.hist(null, bins=15, color="lightgray", label="null draws, best layer")
axes.axvline(best, color="C0", label="the study, best layer")
axes.axvline(row["ceiling"], color="C1", linestyle="--", label="other people's responses")
axes.set(xlabel="P@10, mean over people", ylabel="draws", title="The score among its null draws")
axes.legend()

# %%
# **The manifest** says how the numbers came about: versions, seed, every choice of the protocol,
# fingerprints of data.

manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
print(*sorted(manifest), sep=", ")

# %%
# **The conclusion**, from the numbers that were computed:

inside = row["lower"] <= row["score"] <= row["upper"]
print(
    f"{row['score']:.3f} [{row['lower']:.3f}, {row['upper']:.3f}] against chance {row['chance']:.3f}"
)
print(
    "above chance with its whole interval" if row["lower"] > row["chance"] else "not above chance"
)
assert inside and abs(by_hand - row["p"]) < 1e-9

# %%
# **What would make it wrong.** Reading the highest layer of the figure as the result: it is chosen on the
# test words, and the row above is not. Reading ``CSLS-MAX``, the best person's score, as what people have.
# And a ceiling is a lower bound: noisy people predict one another badly, and a model can lie above it.
#
# Next: :doc:`the columns of all tables <../columns>`, :doc:`what the evidence is <../evidence>`.
