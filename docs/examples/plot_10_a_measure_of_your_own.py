"""
A measure of your own in 20 lines
=================================

A function of responses and vectors becomes a measure of similarity that a study asks for by name, with
permutations of the words, controls, a ceiling and a verdict.
"""

# %%
# **The measure.** It is given the mean response to each word type and the layer's vectors, both less their
# means, and returns one number that is higher where the two are more alike. JAX calls it, so that it is
# written with ``jax.numpy``. This one compares where each word lies between its neighbours: the correlation
# of the words' distances from the centre.

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import brainalign_jax as ba


@ba.register_measure("eccentricity")
def eccentricity(responses, vectors):
    """Correlation over words of their distances from the mean, in both spaces."""
    sides = [jnp.linalg.norm(side, axis=1) for side in (responses, vectors)]
    return jnp.corrcoef(sides[0], sides[1])[0, 1]


# %%
# **What it should find, and what not.** The first model is in the recordings. The second has, for each
# word, the first one's distance from the centre in a direction of its own: nothing but eccentricity is
# shared. The third is unrelated.

rng = np.random.default_rng(1)
words = ba.Stimulus(tuple(f"word{number}" for number in range(80)))
planted = rng.standard_normal((80, 12)) * rng.gamma(4.0, 0.25, (80, 1))
directions = rng.standard_normal((80, 12))
directions /= np.linalg.norm(directions, axis=1, keepdims=True)
kinds = {
    "planted": planted,
    "same distances": directions * np.linalg.norm(planted, axis=1, keepdims=True),
    "unrelated": rng.standard_normal((80, 12)),
}
models = [
    ba.Embeddings(
        name, words.types()[0], values[None].astype(np.float32), None, {"family": "simulated"}
    )
    for name, values in kinds.items()
]
recorded = {}
for subject in "ABC":
    response = planted @ rng.standard_normal((12, 40))
    recorded[subject] = ba.WordResponses(subject, response + rng.standard_normal((80, 40)), words)
people = ba.Dataset("three people", tuple(recorded), words, recorded.__getitem__)

# %%
# **The study**, beside CKA, which is built in. ``calibrated`` is 0 at the mean of the permutations, 1 where
# the other people's responses are in the model's place (``ceiling``). With ``"ridge"`` among the methods the
# words are decoded as well, and the verdict's first line is of ridge.

table = ba.run_study(
    people,
    models,
    ba.Scoring(("eccentricity", "cka")),
    evidence=ba.EvidencePlan(n_permutations=199, n_nulls=1, n_bootstraps=200, controls=()),
    progress=False,
)
rows = table.extras["similarity"]
columns = ["model", "method", "score", "null_mean", "p", "ceiling", "calibrated"]
print(rows[columns].round(3).to_string(index=False))

# %%
# **The figure.** Each value against the mean of its permutations.

figure, axes = plt.subplots(figsize=(6.5, 3.3), layout="constrained")
for place, method in enumerate(("eccentricity", "cka")):
    values = rows[rows["method"] == method].set_index("model").loc[list(kinds)]
    axes.bar(np.arange(3) + 0.36 * place, values["score"], 0.34, label=method)
    axes.plot(np.arange(3) + 0.36 * place, values["null_mean"], "k_", markersize=18)
axes.set_xticks(np.arange(3) + 0.18, list(kinds))
axes.set(ylabel="similarity", title="Two measures, three models (dashes: mean of permutations)")
axes.legend()

# %%
# **The conclusion**, from the numbers that were computed:

p = rows.pivot(index="model", columns="method", values="p")
for name in kinds:
    said = ", ".join(f"{method} p = {p.loc[name, method]:.3f}" for method in p.columns)
    print(f"{name}: {said}")

# %%
# **What would make it wrong.** A measure that grows by itself with the width of the vectors or the spread
# of their variance: the permutations show it, the raw value does not. Of unrelated models one in twenty has
# p < .05 by any measure; the more are asked, the more need be corrected for. And this measure sees nothing
# of directions, so that by it two models may be "alike" which share no neighbour.
#
# Next: :doc:`the measures that are built in <../align>`; a decoder of your own is :func:`register_method
# <brainalign_jax.register_method>`.
