"""
Your own recordings
===================

Images of a scanner and a table of words are enough: ``nifti`` reads NIfTI with a mask or an atlas, GIFTI
and CIFTI-2. Here the images are simulated, as your files would lie in a folder.
"""

# %%
# **The files.** For each person a folder, in it an image a run. ``words.tsv`` says when each word began, on
# the clock of its run; ``mask.nii.gz`` which voxels are read. Words keep their punctuation: ``quoting=3``
# tells pandas that quotation marks belong to the text, where it else swallows the rows between two of them.
# The simulated voxels follow twelve features of each word type, drawn at random as a file of word vectors
# could hold them.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import brainalign_jax as ba
from brainalign_jax.neural.simulate import simulate_nifti, story_words
from brainalign_jax.stimulus import clean_word

folder = Path(tempfile.mkdtemp())
words = story_words()[:160]
rng = np.random.default_rng(0)
vocabulary = sorted({clean_word(word) for word in words if clean_word(word)})
features = dict(zip(vocabulary, rng.standard_normal((len(vocabulary), 12)), strict=True))
of_words = np.array([features.get(clean_word(word), np.zeros(12)) for word in words])
simulate_nifti(
    folder, words=words, vectors=of_words, n_subjects=2, n_runs=2, n_voxels=40, word_duration=2.0,
    snr=2.0,
)  # fmt: skip
print(*sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")), sep="\n")
print(pd.read_csv(folder / "words.tsv", sep="\t", quoting=3).head())

# %%
# **Opening them.** ``{subject}`` stands for what people are called in the names of the files, ``*`` for the
# run. Whatever does not fit is refused in one line: a run without words, another grid, onsets in
# milliseconds. What the reader takes beside this (filters, confounds, an atlas, the delay of the response)
# is listed by ``brainalign datasets nifti``.

people = ba.open_dataset("nifti", folder, image="sub-{subject}/run-*_bold.nii.gz", high_pass=0.01)
responses = people.load("1")
print(people.subjects, responses.values.shape, "words x voxels")

try:
    ba.open_dataset("nifti", folder, image="sub-{subject}/run-*_bold.nii")
except (ValueError, FileNotFoundError) as error:
    print("refused:", str(error).replace(str(folder), "FOLDER"))

# %%
# **What was read.** A word's response is a weighted mean of the volumes that follow it. Words that are
# close in time share volumes, so that their responses are alike whatever they mean: that is why folds need
# a gap.

centred = responses.values - responses.values.mean(axis=0)
unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
similarity = unit[:80] @ unit[:80].T
lags = [np.diag(similarity, lag).mean() for lag in range(1, 16)]

figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
axes[0].imshow(similarity, cmap="RdBu_r", vmin=-1, vmax=1)
axes[0].set(title="Similarity of responses", xlabel="word of run 1", ylabel="word of run 1")
axes[1].plot(range(1, 16), lags, "o-")
axes[1].axhline(0, color="gray", linewidth=1)
axes[1].set(
    title="Similarity by distance in the text", xlabel="words apart", ylabel="mean similarity"
)

# %%
# **The study.** Vectors from anywhere can stand for the model: a file as ``static:FILE``, or
# :class:`Embeddings <brainalign_jax.Embeddings>` of the data set's words in memory, as here.

types = people.stimulus.types()[0]
planted = np.array([[features[word] for word in types]], np.float32)
model = ba.Embeddings("my vectors", types, planted, None, {"family": "static"})
table = ba.run_study(
    people,
    model,
    ba.Scoring(("ridge",), ba.protocol("audited", n_folds=4, n_inner_folds=3), ks=(1, 10)),
    evidence=ba.EvidencePlan(n_nulls=29, hold_alpha=True, n_bootstraps=200, controls=()),
    progress=False,
)

# %%
# **The conclusion**, from the numbers that were computed:

scores = table.pooled("precision_csls", k=10).set_index("subject")
print(scores[["value", "chance", "n_items"]].round(3))
print(f"one word apart, responses are alike by {lags[0]:.2f}; ten apart by {lags[9]:.2f}")
print(table.verdict())

# %%
# **What would make it wrong.** A table of words whose clock is another than the images', by a few seconds
# only: nothing crashes, and scores fall to the null. ``slice_time_ref`` and ``first_volume`` say where in
# its TR a volume was taken and when the first one was. Motion belongs to ``confounds``.
#
# Next: :doc:`data sets <../datasets>`; a table of words x features needs no images at all.
