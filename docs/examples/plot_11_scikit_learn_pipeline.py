"""
Estimators in a scikit-learn pipeline
=====================================

The solvers are estimators with ``fit``, ``predict`` and ``score``: they stand in pipelines and
cross-validation, and choose one penalty for each target from a single factorisation.
"""

# %%
# **Data.** 150 words, 60 voxels, 20 dimensions, each with as much noise as its place says: the first
# dimensions are easy, the last are hopeless, so that one penalty for all would be wrong for some.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import brainalign_jax as ba

rng = np.random.default_rng(0)
x = rng.standard_normal((150, 60))
noise = np.geomspace(0.3, 30.0, 20)
y = x @ rng.standard_normal((60, 20)) / np.sqrt(60) + noise * rng.standard_normal((150, 20))
alphas = tuple(np.logspace(-1, 4, 11))

# %%
# **A pipeline.** The scaler is fitted on each fold's training words, as it must be.

pipeline = make_pipeline(StandardScaler(), ba.RidgeAligner(alphas=alphas))
r2 = cross_val_score(pipeline, x, y, cv=KFold(5))
print("r2 of five folds:", r2.round(3))

# %%
# **The same choice as scikit-learn's.** ``RidgeCV(alpha_per_target=True)`` finds penalties by the same
# leave-one-out error.

ours = ba.RidgeAligner(alphas=alphas).fit(x, y)
theirs = RidgeCV(alphas=alphas, alpha_per_target=True).fit(x, y)
apart = np.abs(ours.predict(x) - theirs.predict(x)).max() / np.abs(theirs.predict(x)).max()
same = np.mean(np.isclose(ours.alpha_, theirs.alpha_))
print(f"same penalty for {same:.0%} of targets; predictions apart by {apart:.1e}")

# %%
# **Three estimators on held-out words.** Procrustes may only rotate, so that it is given as many dimensions
# as there are; banded ridge has a penalty for each of two groups of voxels.

train, test = np.arange(100), np.arange(100, 150)
estimators = {
    "ridge": ba.RidgeAligner(alphas=alphas),
    "Procrustes": ba.ProcrustesAligner(),
    "banded ridge": ba.BandedRidgeAligner(groups=[0] * 30 + [1] * 30),
}
scores = {}
for name, estimator in estimators.items():
    predicted = np.asarray(estimator.fit(x[train], y[train]).predict(x[test]))
    scores[name] = [np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, y[test].T, strict=True)]

figure, axes = plt.subplots(1, 2, figsize=(8, 3.3), layout="constrained")
axes[0].loglog(noise, ours.alpha_, "o", label="RidgeAligner")
axes[0].loglog(noise, theirs.alpha_, "x", color="black", label="RidgeCV")
axes[0].set(
    xlabel="noise of the target", ylabel="chosen penalty", title="A penalty for each target"
)
axes[0].legend()
for name, values in scores.items():
    axes[1].semilogx(noise, values, "o-", markersize=3, label=name)
axes[1].axhline(0, color="gray", linewidth=1)
axes[1].set(xlabel="noise of the target", ylabel="correlation, held out", title="Held-out words")
axes[1].legend()

# %%
# **The conclusion**, from the numbers that were computed:

order = np.corrcoef(np.log(noise), np.log(ours.alpha_))[0, 1]
print(f"noisier targets have larger penalties: correlation of the logarithms {order:.2f}")
for name, values in scores.items():
    print(
        f"{name}: mean held-out correlation {np.mean(values):.3f}, of the cleanest target {values[0]:.3f}"
    )

# %%
# **What would make it wrong.** ``KFold`` without regard to time: of a story take blocks with a gap, as a
# study does. A scaler that was fitted on all words before the split. And a mean over targets of which half
# are hopeless: it says little of either half.
#
# Next: :doc:`the solvers by themselves <../solvers>`, :doc:`their time and error beside other libraries
# <../speed>`.
