"""
Many models, several devices
============================

On a GPU or a slice of TPUs the same call is used: JAX finds the devices, and layers are spread over them.
The script below is run twice here, on one device and on four that are simulated on the CPU, and must give
the same numbers.
"""

# %%
# **The script**, as it would be started on any machine. Four models of growing size share the people's
# factors, which are made once. The models are random vectors in which a part of the planted ones is mixed;
# put names such as ``gpt2`` in their place.

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

SCRIPT = """
import sys

import jax
import numpy as np

import brainalign_jax as ba

rng = np.random.default_rng(0)
words = ba.Stimulus(tuple(f"word{number}" for number in range(60)))
planted = rng.standard_normal((60, 8))
recorded = {
    subject: ba.WordResponses(
        subject, planted @ rng.standard_normal((8, 30)) + 2 * rng.standard_normal((60, 30)), words
    )
    for subject in ("A", "B")
}
people = ba.Dataset("two people", tuple(recorded), words, recorded.__getitem__)
models = []
for n_params in (1e7, 1e8, 1e9, 1e10):
    share = (np.log10(n_params) - 5) / 6  # of what was planted
    layers = [rng.standard_normal((60, 16)) for _ in range(4)]
    layers[2] = share * planted @ rng.standard_normal((8, 16)) / 3 + (1 - share) * layers[2]
    meta = {"family": "simulated", "n_params": int(n_params)}
    values = np.stack(layers).astype(np.float32)
    models.append(ba.Embeddings(f"{n_params:.0e}", words.types()[0], values, None, meta))
table = ba.run_study(
    people,
    models,
    ba.Scoring(("ridge",), ba.protocol("audited", n_folds=5, n_inner_folds=3), ks=(10,)),
    evidence=None,
    progress=False,
)
print(len(jax.devices()), "devices of kind", jax.devices()[0].platform)
table.rows.to_parquet(sys.argv[1])
"""

# %%
# **Twice.** ``XLA_FLAGS`` makes four devices of a CPU; on an accelerator nothing is set.

folder = Path(tempfile.mkdtemp())
(folder / "many_models.py").write_text(SCRIPT, "utf-8")
rows = {}
for n_devices in (1, 4):
    flags = f"--xla_force_host_platform_device_count={n_devices}"
    done = subprocess.run(
        [sys.executable, folder / "many_models.py", folder / f"{n_devices}.parquet"],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=True,
    )
    print(done.stdout.strip())
    rows[n_devices] = pd.read_parquet(folder / f"{n_devices}.parquet")

# %%
# **The figure.** Rank accuracy of the layer that inner folds choose, by the model's size.

chosen = {
    n_devices: table.query(
        "metric == 'rank_accuracy' and fold == -1 and layer == -1 and subject == 'group'"
    )
    for n_devices, table in rows.items()
}
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
for n_devices, style in ((1, "o-"), (4, "x")):
    axes.semilogx(
        chosen[n_devices]["n_params"], chosen[n_devices]["value"], style, markersize=9, fillstyle="none",
        label=f"devices: {n_devices}",
    )  # fmt: skip
axes.axhline(0.5, color="gray", linewidth=1)
axes.set(xlabel="parameters", ylabel="rank accuracy", title="Scores on one device and on four")
axes.legend()

# %%
# **The conclusion**, from the numbers that were computed:

apart = (rows[1]["value"] - rows[4]["value"]).abs().max()
largest = chosen[1].sort_values("n_params")["value"]
print(f"{len(rows[1])} rows, apart by at most {apart:.1e} between one device and four")
print(f"smallest model {largest.iloc[0]:.3f}, largest {largest.iloc[-1]:.3f}")

# %%
# **What would make it wrong.** Four devices of one CPU share its cores: this shows that the numbers agree,
# nothing about time. On several hosts every host runs the same command with ``distributed``, and subjects
# times models are divided.
#
# Next: :doc:`on a TPU VM <../tpu>`, :doc:`time and memory <../speed>`.
