"""Tiny checkpoints of tests/fixtures/models/, written by tests/fixtures/export_models.py."""

import shutil
from pathlib import Path

import numpy as np
import pytest

MODELS = Path(__file__).parents[2] / "fixtures" / "models"


@pytest.fixture
def models_dir() -> Path:
    return MODELS


@pytest.fixture
def checkpoint(tmp_path):
    """checkpoint(name, weights=True) → a copy of a tiny checkpoint that a test may change."""

    def copy(name: str, weights: bool = True) -> Path:
        folder = tmp_path / name
        shutil.copytree(MODELS / name, folder)
        if not weights:
            (folder / "model.safetensors").unlink()
        return folder

    return copy


@pytest.fixture
def assert_parity():
    """assert_parity(hidden, expected, mask, atol): every hidden state agrees at real tokens."""

    def check(hidden, expected, mask, atol=1e-5):
        states = [*hidden.states, *([] if hidden.final is None else [hidden.final])]
        assert len(states) == len(expected)
        for index, (ours, theirs) in enumerate(zip(states, expected, strict=True)):
            ours, theirs = np.asarray(ours)[mask > 0], np.asarray(theirs)[mask > 0]
            assert ours.shape == theirs.shape, index
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol, err_msg=f"state {index}")

    return check


@pytest.fixture
def expected_states():
    """expected_states(name) → (input_ids, attention_mask, the hidden states torch gave)."""

    def load(name: str):
        with np.load(MODELS / f"{name}.npz", allow_pickle=False) as saved:
            n_states = sum(key.startswith("state_") for key in saved)
            states = [saved[f"state_{i}"] for i in range(n_states)]
            return saved["input_ids"], saved["attention_mask"], states

    return load
