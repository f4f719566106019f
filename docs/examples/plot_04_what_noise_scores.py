"""
What noise scores
=================

Voxels that know nothing of the words can still "decode" them, where folds are drawn from all words of a
text. This is the reason for the ``audited`` protocol, which is the default.
"""

# %%
# **Noise.** A text of 320 words is shown; the recordings are smooth noise, as a scanner's is, with no
# response to any word. Word vectors are random, but share something with their sentence, as contextual
# vectors do. So nothing ties the two sides but time: neighbours in the text share volumes here and a
# sentence there.

import tempfile

import matplotlib.pyplot as plt
import numpy as np

import brainalign_jax as ba

check_noise = ba.studies.checks.noise.check_noise
story = ba.studies.checks.noise.make_story(320, 300, 140, seed=0)

# %%
# **Both protocols on the same noise**: ``paper`` draws the test words from the whole text, as Li et al.
# 2023 did; ``audited`` leaves out blocks with a gap of 10 s, and tests words that occur nowhere else. For
# the second, draws of the same pipeline on shifted noise stand beside the score.

scores = check_noise(
    tempfile.mkdtemp(),
    story=story,
    gaps=[True],
    widths=[64],
    methods=("procrustes", "rsa"),
    n_subjects=2,
    n_voxels=60,
    n_nulls=20,
    csls_k=10,
    n_folds=5,
)
shown = ["protocol", "method", "score_types", "chance", "null_low", "null_high"]
print(scores[shown].round(3).to_string(index=False))

# %%
# **The figure.** P@10 over chance; a decoder that finds nothing stands at one.

figure, axes = plt.subplots(figsize=(6, 3.3), layout="constrained")
methods = list(scores["method"].unique())
for place, (name, rows) in enumerate(scores.groupby("protocol", sort=False)):
    ratio = rows.set_index("method").loc[methods]
    axes.bar(
        np.arange(len(methods)) + 0.35 * place,
        ratio["score_types"] / ratio["chance"],
        0.33,
        label=name,
    )
axes.axhline(1, color="black", linewidth=1, linestyle=":")
axes.set_xticks(np.arange(len(methods)) + 0.17, methods)
axes.set(ylabel="P@10 / chance", title="What pure noise scores")
axes.legend(title="protocol")

# %%
# **The conclusion**, from the numbers that were computed:

for row in scores.itertuples():
    times = f"{row.protocol}, {row.method}: {row.score_types / row.chance:.1f} times chance"
    if np.isfinite(row.null_low):
        inside = row.null_low <= row.score <= row.null_high
        times += f"; {'inside' if inside else 'OUTSIDE'} the 99 % interval of its own null"
    print(times)

# %%
# **What would make it wrong.** A small text has few independent words, so that one run of noise says
# little; the check at the size of a chapter, ``python -m experiments.noise_check``, takes an hour and is on
# :doc:`the page of the evidence <../evidence>`. And a score near uniform chance is no proof of health:
# compare with the null of the same pipeline, as a study does.
#
# Next: :doc:`the two protocols <../protocols>`.
