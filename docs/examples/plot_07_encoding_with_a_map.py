"""
Encoding, with a map
====================

Where in the brain does a model predict what was recorded, beyond how often words come? Encoding goes from
the model to each voxel, where decoding goes from all voxels to the model.
"""

# %%
# **Scans with a planted place.** NIfTI images of one person are simulated in which two of five voxels
# respond to a model's vectors, and the others hold noise only. Which ones do is drawn at random and known
# here.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel
import numpy as np

import brainalign_jax as ba
from brainalign_jax.neural.simulate import simulate_nifti, story_words
from brainalign_jax.studies.options import VoxelEncoding

folder = Path(tempfile.mkdtemp())
words = story_words()[:240]
vectors = np.random.default_rng(0).standard_normal((len(words), 4))
simulation = simulate_nifti(
    folder / "scans", words=words, vectors=vectors, n_runs=3, n_voxels=80, word_duration=1.0, snr=1.5,
    responsive=0.4, shape=(9, 9, 3),
)  # fmt: skip
people = ba.open_dataset("nifti", folder / "scans", image="sub-{subject}/run-*_bold.nii.gz")
responds = (simulation.weights[0] != 0).any(axis=0)
print(responds.sum(), "of", len(responds), "voxels respond")

# %%
# **The study.** Ridge predicts each voxel from the vectors and, beside them, the word rate, which has no
# penalty. Whole runs are held out. ``unique_r`` is the correlation of both together less that of the rate
# alone; p-values are from 39 recordings that are turned in a circle within each run, the largest of all
# voxels against the largest of each.

model = ba.Embeddings(
    "planted",
    words,
    vectors[None].astype(np.float32),
    None,
    {"level": "token", "family": "simulated"},
)
table = ba.studies.encoding.run_encoding(
    people,
    [model],
    folder / "encoding",
    plan=VoxelEncoding(
        n_shifts=39, alphas=(1.0, 10.0, 100.0), nuisances=("rate",), n_bootstrap=200
    ),
    progress=False,
)
print(table.verdict())
print(*sorted(path.name for path in (folder / "encoding" / "maps").iterdir()))

# %%
# **The figure.** The maps are images on the grid of the scans; a slice of ``unique_r`` beside what was
# planted.

image = nibabel.load(next((folder / "encoding" / "maps").glob("*1_unique_r.nii.gz")))
indices = simulation.space.indices
values = image.get_fdata()[tuple(indices.T)]
truth = np.full(image.shape, np.nan)
truth[tuple(indices.T)] = responds
middle = image.shape[2] // 2
shown = np.where(np.isnan(truth), np.nan, image.get_fdata())[:, :, middle]

figure, panels = plt.subplots(1, 2, figsize=(7.5, 3.4), layout="constrained")
panels[0].imshow(truth[:, :, middle].T, origin="lower", cmap="Greys", vmin=-0.3, vmax=1.3)
panels[0].set_title("planted: black voxels respond")
drawn = panels[1].imshow(shown.T, origin="lower", cmap="viridis", vmin=0)
panels[1].set_title("unique r, found")
figure.colorbar(drawn, ax=panels[1])
for axes in panels:
    axes.set_axis_off()

# %%
# **The conclusion**, from the numbers that were computed:

higher = (values[responds][:, None] > values[~responds]).mean()
means = values[responds].mean(), values[~responds].mean()
print(f"unique r of voxels that respond: {means[0]:.3f}; of the others: {means[1]:.3f}")
print(f"of two voxels, one of each kind, the one that responds is higher in {higher:.1%} of pairs")

# %%
# **What would make it wrong.** A single voxel's value is noisy: read ``p_max`` or ``q``, not the colours.
# Nuisances that were left out (here there are none but the rate) would be counted as the model's. And where
# runs are few and short, so are the shifts, and p cannot be small.
#
# Next: :doc:`encoding, several feature spaces, groups of people <../encoding>`.
