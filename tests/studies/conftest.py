"""The fixtures of study_fixtures.py, and checkpoints that are made once."""

from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file
from small_models import add_letter_tokenizer, save_checkpoint
from study_fixtures import dataset, planted, words  # noqa: F401

from brainalign_jax.language.text.tokens import load_tokenizer


def make_folder(style, place, sharpness=1.0):
    """A checkpoint with a tokenizer of letters; sharpness: factor on GPT-2's queries, keys and values."""
    folder = Path(save_checkpoint(style, place))
    add_letter_tokenizer(folder)
    load_tokenizer(folder, family="gpt2").backend.save(str(folder / "tokenizer.json"))
    if sharpness != 1:
        file = folder / "model.safetensors"
        tensors = load_file(file)
        tensors = {
            name: x * sharpness if name.endswith(("c_attn.weight", "attn.c_proj.weight")) else x
            for name, x in tensors.items()
        }
        save_file(tensors, file, metadata={"format": "pt"})
    return str(folder)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """style -> a checkpoint of it, made once."""
    made = {}

    def get(style, **options):
        key = style, *options.items()
        if key not in made:
            made[key] = make_folder(style, tmp_path_factory.mktemp("model"), **options)
        return made[key]

    return get
