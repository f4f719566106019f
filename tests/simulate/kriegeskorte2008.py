"""The RDMs of 92 images of Kriegeskorte et al. 2008, simulated: four people, two sessions, one file."""

from pathlib import Path

import numpy as np
import scipy.io


def simulate_kriegeskorte2008(folder, *, seed=0, rename=None, change=None):
    """Write `92_brainRDMs.mat`; the RDMs [4, 2, 92, 92], float32. change: called with them before writing."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((92, 100))
    patterns = shared + rng.standard_normal((4, 2, 92, 100))
    rdms = np.stack([[1 - np.corrcoef(x) for x in person] for person in patterns])
    rdms = np.float32((rdms + rdms.swapaxes(2, 3)) / 2)
    rdms[..., np.arange(92), np.arange(92)] = 0
    if change is not None:
        change(rdms)
    structs = np.empty((1, 4, 2), [("RDM", "O"), ("name", "O"), ("color", "O")])
    for person, subject in enumerate(rename or ("BE", "KO", "SN", "TI")):
        for session in range(2):
            name = f"hIT | {subject} | Session: {session + 1}"
            structs[0, person, session] = (rdms[person, session], name, np.array([[0.0, 0.0, 1.0]]))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "92_brainRDMs.mat", {"RDMs": structs}, do_compression=True)
    return rdms
