"""What stands in a part's place, of four families, against NumPy; who stands in for whom."""

import functools
from pathlib import Path

import numpy as np
import pytest
from language.models.test_interventions import FAMILIES as TORCH_FAMILIES
from numpy_models import FAMILIES, NumpyModel
from small_models import add_letter_tokenizer, save_checkpoint, tensors_of

from brainalign_jax.language.models.interventions import untrained_twin
from brainalign_jax.language.parts.ablated_parts import drawn_donors, drawn_positions
from brainalign_jax.language.parts.ablation import Ablation
from brainalign_jax.language.parts.components import Component, Setting
from brainalign_jax.language.text.packing import Batch
from brainalign_jax.language.text.tokens import load_tokenizer
from brainalign_jax.stimulus import Stimulus

COMPONENTS = [
    Component("heads", 0, 1), Component("heads", 1, 3), Component("attention", 0), Component("ffn", 1),
    Component("ffn", 0), Component("layers", 0), Component("positions"),
]  # fmt: skip
WORDS = Stimulus(
    [
        "abc",
        "de",
        "fghij",
        "kl",
        "abcd",
        "pq",
        "mno",
        "ghi",
        "jk",
        "lmn",
        "abe",
        "cdf",
        "gh",
        "ijkl",
        "opq",
    ],
    sentence=[0] * 4 + [1] * 6 + [2] * 3 + [3] * 2,
)
SEED = 3


@pytest.fixture(scope="module", params=FAMILIES)
def ablated(request, tmp_path_factory):
    """(family, folder, a model of the family ready to be ablated)."""
    folder = save_checkpoint(request.param, tmp_path_factory.mktemp(request.param))
    with_letters(folder)
    return request.param, folder, Ablation(WORDS, folder, last="raw")


def with_letters(folder):
    """A checkpoint's folder with a tokenizer of letters for any family."""
    add_letter_tokenizer(folder)
    tokenizer = load_tokenizer(Path(folder), family="gpt2")
    tokenizer.backend.add_special_tokens(["[CLS]", "[SEP]"])
    tokenizer.backend.save(str(Path(folder) / "tokenizer.json"))


def pooled(ablation, states):
    """Word vectors [T, D] of the states of all texts, the mean of their sub-tokens."""
    row_of, vectors = WORDS.types()[1], np.zeros((ablation.n_types, ablation.config.width))
    for x, targets in zip(states, ablation._packing.sequences.targets, strict=True):
        for (owner,), tokens in targets:
            vectors[row_of[owner]] = x[list(tokens)].mean(axis=0)
    return vectors


def places(ablation):
    """Place in all batches -> (text, position), by the text's ids, which differ."""
    texts = {tuple(ids): number for number, ids in enumerate(ablation._packing.sequences.ids)}
    by_place, first = {}, 0
    for batch in ablation._packing.batches():
        for line, row in enumerate(batch.text):
            for number in range(1, row.max() + 1):
                inside = np.flatnonzero(row == number)
                text = texts[tuple(batch.ids[line, inside])]
                for position, column in enumerate(inside):
                    by_place[first + line * len(row) + column] = text, position
        first += batch.text.size
    return by_place


def stand_in(component, how, ablation):
    """A hook that replaces the component's output as `how` says; with donors as they are drawn."""

    def hook(part, block, values):
        if part != component.kind or block != component.block:
            return values
        every = np.concatenate(values)
        replaced = {
            "zero": np.zeros_like(every),
            "mean": np.broadcast_to(every.mean(0), every.shape),
        }
        if how in replaced:
            new = replaced[how]
        else:
            place = places(ablation)
            starts = np.cumsum([0, *map(len, values)])
            new = np.zeros_like(every)
            batches = list(ablation._packing.batches())
            kind = ("heads", "attention", "ffn", "layers", "positions").index(part)
            seed = (SEED, kind, max(block, 0), component.head + 1, 1)
            if part == "positions":
                longest = max(values, key=len)
                drawn = np.concatenate([x.ravel() for x in drawn_positions(batches, seed)])
                for own, (text, position) in place.items():
                    new[starts[text] + position] = longest[drawn[own]]
            else:
                donors = drawn_donors(batches, seed)
                for own, (text, position) in place.items():
                    other, there = place[donors[own]]
                    assert other != text
                    new[starts[text] + position] = every[starts[other] + there]
        if part == "heads":
            new, only = every.copy(), new
            new[:, component.head] = only[:, component.head]
        return np.split(new, np.cumsum([len(x) for x in values])[:-1])

    return hook


@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
def test_what_stands_in_a_parts_place_equals_numpy(how, ablated):
    family, folder, ablation = ablated
    model, texts = NumpyModel(family, folder), ablation._packing.sequences.ids
    components = [
        part for part in COMPONENTS if part.kind != "positions" or ablation.has_position_table
    ]
    settings = [Setting(component, how, how == "resample") for component in components]
    made = {
        each.setting.component: each.layers
        for each in ablation.vectors(settings, (1, 2), bits=False, seed=SEED)
    }
    intact = model.states(texts)
    for component in components:
        states = model.states(texts, stand_in(component, how, ablation))
        for layer, values in made[component].items():
            expected = pooled(ablation, states[layer])
            np.testing.assert_allclose(values, expected, atol=2e-5)
            assert np.abs(expected - pooled(ablation, intact[layer])).max() > 1e-3


def through_pytorch(model, texts, component, hook):
    """States [T, D] behind each block of each text, with the component's outputs replaced by the hook."""
    import torch
    import torch_models

    seen, place = [], (component.kind, component.block)

    def record(output):
        seen.append(output[0].numpy().copy())
        return output

    def run(replace):
        every = []
        for number, ids in enumerate(texts):
            ids = np.array([ids], np.int32)
            with torch_models.replaced(model, *place, functools.partial(replace, number)):
                states = torch_models.states_of(model, ids, np.ones_like(ids))
            every.append([state[0] for state in states])
        return every

    run(lambda _, output: record(output))
    if component.kind == "heads":
        seen = [x.reshape(len(x), model.config.num_attention_heads, -1) for x in seen]
    stands_in = [np.array(x).reshape(len(x), -1) for x in hook(*place, seen)]
    by_text = run(lambda number, _: torch.tensor(stands_in[number])[None].float())
    return [[states[layer] for states in by_text] for layer in range(len(by_text[0]))]


@pytest.mark.parametrize("family, options", TORCH_FAMILIES, ids=str)
def test_what_stands_in_a_parts_place_equals_pytorch_with_hooks(family, options, tmp_path):
    """Zero, mean and resample of every kind of part, in all families; words are read alone."""
    pytest.importorskip("torch")
    import torch_models

    theirs = torch_models.random_model(family, options)
    theirs.save_pretrained(tmp_path)
    with_letters(tmp_path)
    ablation = Ablation(WORDS, str(tmp_path), context="word", last="raw")
    texts = ablation.packing.sequences.ids
    parts = [Component("heads", 0, 1), Component("attention", 1), Component("ffn", 0)]
    parts += [Component("layers", 1)] + [Component("positions")] * ablation.has_position_table
    settings = [
        Setting(component, how, how == "resample")
        for component in parts
        for how in ("zero", "mean", "resample")
    ]
    for setting, layers, _ in ablation.vectors(settings, (2,), bits=False, seed=SEED):
        hook = stand_in(setting.component, setting.how, ablation)
        states = through_pytorch(theirs, texts, setting.component, hook)
        for layer, values in layers.items():
            np.testing.assert_allclose(values, pooled(ablation, states[layer]), atol=5e-5)


def test_a_part_drawn_anew_equals_numpy(ablated):
    family, folder, ablation = ablated
    names, place = FAMILIES[family], FAMILIES[family]["block"].format(0)
    for draw in (0, 2):
        fresh = tensors_of(untrained_twin(ablation.model, SEED + 1 + draw))
        kept = NumpyModel(family, folder).tensors
        ffn = {
            name: x for name, x in fresh.items()
            if name.startswith((place + names["inner"], place + names["outer"], place + "mlp.gate"))
        }  # fmt: skip
        own = {Component("ffn", 0): ffn}
        if (
            family == "gpt2"
        ):  # head 2 of width 4: its columns of query, key and value, its rows of the output
            inner, out = f"{place}attn.c_attn.", f"{place}attn.c_proj.weight"
            head = {name: kept[name].copy() for name in (inner + "weight", inner + "bias", out)}
            for start in (8, 24, 40):
                for name in (inner + "weight", inner + "bias"):
                    head[name][..., start : start + 4] = fresh[name][..., start : start + 4]
            head[out][8:12] = fresh[out][8:12]
            own |= {
                Component("heads", 0, 2): head,
                Component("positions"): {"wpe.weight": fresh["wpe.weight"]},
            }
        settings = [Setting(component, "reinit", draw) for component in own]
        for each in ablation.vectors(settings, (1, 2), bits=False, seed=SEED):
            model = NumpyModel(family, folder, changed=own[each.setting.component])
            states = model.states(ablation._packing.sequences.ids)
            for layer, values in each.layers.items():
                np.testing.assert_allclose(values, pooled(ablation, states[layer]), atol=2e-5)


@pytest.mark.parametrize("how", ["zero", "mean"])
def test_even_gains_equal_numpy(how, ablated):
    family, folder, ablation = ablated
    names, model = FAMILIES[family], NumpyModel(family, folder)
    place, changed = names["block"].format(1), {}
    for norm in (names["norm"], names["ffn_norm"]):
        gains = model.tensors[f"{place}{norm}.weight"]
        changed[f"{place}{norm}.weight"] = np.full_like(gains, gains.mean() if how == "mean" else 1)
    (made,) = ablation.vectors([Setting(Component("norms", 1), how)], (1, 2), bits=False)
    states = NumpyModel(family, folder, changed=changed).states(ablation._packing.sequences.ids)
    assert list(made.layers) == [2]
    np.testing.assert_allclose(made.layers[2], pooled(ablation, states[2]), atol=2e-5)


def one_batch(text, position):
    """A batch of which only the places matter."""
    text, position = np.array(text), np.array(position)
    return Batch(text, text, position, None, None, None, 0, True)


def test_who_stands_in_for_whom():
    # Three texts of 3, 2 and 1 sub-tokens in two rows, with padding.
    batches = [one_batch([[1, 1, 1, 2], [1, 1, 0, 0]], [[0, 1, 2, 0], [0, 1, 0, 0]])]
    text_of = np.array([0, 0, 0, 1, 2, 2, -1, -1])
    position_of = np.array([0, 1, 2, 0, 0, 1, -1, -1])
    donors = np.array([drawn_donors(batches, (seed,)) for seed in range(60)])
    read = np.arange(6)
    assert (text_of[donors[:, read]] != text_of[read]).all()
    same = position_of[donors[:, read]] == position_of[read]
    assert same[:, [0, 1, 3, 4, 5]].all()  # no other text has a third sub-token
    assert set(donors[:, 2]) == {3, 4, 5} and set(donors[:, 0]) == {3, 4}
    assert (donors[:, 6:] == [6, 7]).all()
    assert (drawn_donors(batches, (4,)) == donors[4]).all()
    # Of one text alone, another place of it.
    alone = [one_batch([[1, 1, 1, 0]], [[0, 1, 2, 0]])]
    donors = np.array([drawn_donors(alone, (seed,)) for seed in range(60)])
    assert (donors[:, :3] != np.arange(3)).all() and set(donors[:, 1]) == {0, 2}
    with pytest.raises(ValueError, match="a single sub-token.*leave resample out"):
        drawn_donors([one_batch([[1, 0]], [[0, 0]])], (0,))
