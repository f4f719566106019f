"""How words are read out of cleaned scans: kernels, FIR delays or deconvolution, checked for timing."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
from scipy import sparse

from brainalign_jax.neural.readout import deconvolution
from brainalign_jax.neural.readout.kernels import check_timing, covered_words, word_kernel
from brainalign_jax.neural.readout.options import Processing
from brainalign_jax.stimulus import Stimulus


class Readout:
    """The matrix that turns cleaned columns [time, v] into word features [N, v * per voxel]."""

    def __init__(self, stimulus: Stimulus, times, run, processing: Processing):
        labels = np.unique(run)
        if stimulus.run is None and len(labels) > 1:
            raise ValueError(
                f"the recording has {len(labels)} runs, but the words have no run labels; give the "
                "stimulus run=, for example by assign_runs"
            )
        word_run = np.full(len(stimulus), run[0]) if stimulus.run is None else stimulus.run
        self._timing = {"run": word_run, "volume_run": run, "durations": stimulus.durations}
        self._stimulus, self._times, self._processing = stimulus, times, processing
        kind, onsets = processing.kind, stimulus.onsets
        self.features_per_voxel = len(processing.delays) if kind == "fir" else 1
        self.needs_gram = kind == "deconvolution" and processing.alpha is None
        self.settings: dict = {"kind": kind}
        self.error = 0.0
        if kind == "deconvolution":
            self._kernels = [self._deconvolution(processing.alpha or 1.0)]
            self.settings["alpha"] = processing.alpha
        else:
            delays = processing.delays if kind == "fir" else (processing.delay,)
            reading = {"kind": "delay" if kind == "fir" else kind, "window": processing.window}
            self._kernels = []
            for delay in delays:
                kernel = word_kernel(
                    onsets, times, delay=delay, sigma=processing.sigma, **self._timing, **reading
                )
                error = check_timing(kernel, onsets, times, delay=delay, **self._timing, **reading)
                self.error = max(self.error, error)
                self._kernels.append(kernel)
            used = {
                "gaussian": ("delay", "window", "sigma"),
                "paper": ("delay",),
                "delay": ("delay",),
                "hrf": (),
                "fir": ("delays",),
            }[kind]
            self.settings |= {name: asdict(processing)[name] for name in used}
        self.valid = np.logical_and.reduce([covered_words(kernel) for kernel in self._kernels])
        if not self.valid.any():
            raise ValueError(
                f"no word is covered at all of delays={list(processing.delays)}; give delays within the "
                "runs"
            )
        self._finish()

    def _deconvolution(self, alpha: float) -> sparse.csr_array:
        onsets, times = self._stimulus.onsets, self._times
        kernel = deconvolution.deconvolution_kernel(onsets, times, alpha=alpha, **self._timing)
        self.error = deconvolution.check_deconvolution(kernel, onsets, times, **self._timing)
        return kernel

    def _finish(self) -> None:
        # A word that one of the delays does not cover is no valid word: its row must be zero.
        keep = sparse.diags_array(self.valid.astype(np.float64))
        stacked = sparse.vstack([keep @ kernel for kernel in self._kernels], format="csr")
        # A few weights that sum to one are exact enough in single precision; the many weights of a
        # deconvolution, of both signs, are not.
        single = self._processing.kind != "deconvolution"
        self._stacked = stacked.astype(np.float32 if single else np.float64)

    def choose_alpha(self, gram: sparse.csr_array) -> float:
        """The penalty by generalised cross-validation, from the runs' Gram matrix of all voxels."""
        alpha = float(
            deconvolution.select_alpha(
                self._stimulus.onsets, self._times, gram=gram, **self._timing
            )
        )
        self._kernels = [self._deconvolution(alpha)]
        self._finish()
        return alpha

    def feature_names(self, voxels: list[str]) -> list[str]:
        if self.features_per_voxel == 1:
            return voxels
        return [f"{name} +{delay:g} s" for name in voxels for delay in self._processing.delays]

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """[N, v * features per voxel] from cleaned columns [time, v]; the delays of a voxel together."""
        values = self._stacked @ block.astype(self._stacked.dtype, copy=False)
        if self.features_per_voxel == 1:
            return values
        stacked = values.reshape(self.features_per_voxel, len(self.valid), block.shape[1])
        return stacked.transpose(1, 2, 0).reshape(len(self.valid), -1)
