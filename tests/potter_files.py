"""Small Harry Potter releases, and changes to their files."""

import numpy as np
import scipy.io
from simulate.matlab73 import in_matlab73

from brainalign_jax.neural.simulate.bold import story_words
from brainalign_jax.neural.simulate.harry_potter import simulate_harry_potter

LAYOUTS = ["mat", "mat73", "numpy"]


def written(folder, *, layout="mat", **settings):
    """A simulated release; layout "mat73" is the one of MATLAB 7.3."""
    simulation = simulate_harry_potter(
        folder, layout="mat" if layout == "mat73" else layout, **settings
    )
    for path in simulation.paths if layout == "mat73" else ():
        in_matlab73(path)
    return simulation


def release(folder, *, n_words=128, n_voxels=50, n_subjects=2, **settings):
    """Four runs of 15 volumes, 28.5 s without volumes between them; 60 volumes in all."""
    words = list(story_words()[:n_words])
    words[20] = "+"
    vectors = np.random.default_rng(0).standard_normal((n_words, 3))
    settings = {"rest": (4.0, 10.0), "n_subjects": n_subjects, "n_voxels": n_voxels} | settings
    return written(folder, words=words, vectors=vectors, **settings)


def rewrite(path, **changes):
    content = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    content.update(changes)
    scipy.io.savemat(path, {k: v for k, v in content.items() if v is not None})


def read_words(path):
    return scipy.io.loadmat(path)["words"]
