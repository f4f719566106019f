"""Batches: every word once, little padding, few shapes."""

import numpy as np
import pytest

from brainalign_jax.language.text.contexts import Sequences
from brainalign_jax.language.text.packing import Packing


def sequences_of(lengths, seed=0):
    """Every sub-token is a word of its own."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(1, 1000, length).astype(np.int32) for length in lengths]
    starts = np.cumsum([0, *lengths])
    targets = [
        [((int(start + place),), (place,)) for place in range(length)]
        for start, length in zip(starts, lengths, strict=False)
    ]
    return Sequences(ids, targets, [])


def story_lengths(n_words=5000, seed=0):
    """Sub-tokens of sentences, as long-tailed as a story's."""
    rng = np.random.default_rng(seed)
    lengths = []
    while sum(lengths) < n_words * 1.3:
        lengths.append(int(np.clip(rng.gamma(2.2, 10), 3, 90)))
    return lengths


def packing_of(lengths, **options):
    sequences = sequences_of(lengths)
    options = dict(pooling="mean", batch_tokens=2048) | options
    return Packing(sequences, np.arange(sum(lengths)), **options), sequences


CASES = {
    "story": story_lengths(),
    "windows": list(np.random.default_rng(0).integers(20, 36, 3000)),
    "equal": [26] * 500,
    "words": list(np.random.default_rng(0).integers(1, 6, 1500)),
    "chunks": [1024] * 7,
}


@pytest.mark.parametrize("name", CASES)
def test_little_is_padding(name):
    packing, _ = packing_of(CASES[name])
    assert packing.padding < 0.05
    assert len(packing.shapes) == 1
    rows, time = next(iter(packing.shapes))
    assert rows * time <= 2048


def test_shapes_do_not_grow_with_the_text():
    counts = []
    for n_words in (2_000, 20_000):
        lengths = [*story_lengths(n_words), 150, 200, 400, 900, 1000]
        packing, _ = packing_of(lengths)
        counts.append(len(packing.shapes))
    # One of texts up to 128 sub-tokens, and one for each doubling.
    assert counts == [4, 4]


@pytest.mark.parametrize("pack", [True, False])
def test_every_sub_token_is_read_once(pack):
    lengths = [5, 90, 3, 3, 40, 41, 200, 1, 7]
    packing, sequences = packing_of(lengths, batch_tokens=100, pack=pack)
    seen = {}
    for batch in packing.batches():
        for line in range(len(batch.ids)):
            numbers = batch.text[line]
            assert (numbers > 0).any() or not numbers.any()
            for number in range(1, numbers.max() + 1):
                place = np.flatnonzero(numbers == number)
                assert (np.diff(place) == 1).all()
                assert (batch.position[line, place] == np.arange(len(place))).all()
                seen.setdefault(tuple(batch.ids[line, place]), 0)
                seen[tuple(batch.ids[line, place])] += 1
            if not pack:
                assert numbers.max() <= 1
    assert seen == {tuple(ids): 1 for ids in sequences.ids}


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_pooling_is_the_mean_over_sub_tokens_and_occurrences(pooling):
    rng = np.random.default_rng(1)
    ids = [np.arange(1, 8, dtype=np.int32), np.arange(10, 14, dtype=np.int32)]
    ids += [np.array([20, 21], np.int32), np.array([22, 23], np.int32)]
    targets = [
        # Words 0 and 4 are equal texts' (read once); a sub-token may be two words'.
        [((0, 4), (0, 1)), ((1,), (2,)), ((2,), (2, 3, 4))],
        [((3,), (1, 2))],
        [],
        [],
    ]
    split = [((5,), ((2, (0, 1)), (3, (0,))))]
    row = np.array([0, 1, 2, 1, 0, 0, -1])
    packing = Packing(Sequences(ids, targets, split), row, pooling=pooling, batch_tokens=8)
    states = rng.standard_normal((30, 3))
    chosen = {"mean": slice(None), "first": slice(0, 1), "last": slice(-1, None)}[pooling]
    of_word = {
        word: states[np.array(tokens)[chosen]].mean(0)
        for word, tokens in {
            0: [1, 2], 4: [1, 2], 1: [3], 2: [3, 4, 5], 3: [11, 12], 5: [20, 21, 22],
        }.items()
    }  # fmt: skip
    expected = [
        np.mean([of_word[0], of_word[4], of_word[5]], 0),
        np.mean([of_word[1], of_word[3]], 0),
        of_word[2],
    ]
    pooled = np.zeros((3, 3))
    for batch in packing.batches():
        assert len(batch.token) == batch.ids.size
        assert (np.diff(batch.row) >= 0).all()
        np.add.at(pooled, batch.row, batch.weight[:, None] * states[batch.ids.ravel()[batch.token]])
    np.testing.assert_allclose(pooled, expected, rtol=1e-6)
    assert packing.n_words == 6
    assert sum(batch.n_words for batch in packing.batches()) == 6


def test_batches_go_on_where_they_stopped():
    packing, _ = packing_of(story_lengths(800), batch_tokens=512)
    whole = list(packing.batches())
    assert len(whole) == len(packing) > 1
    for batch, again in zip(whole[1:], packing.batches(1), strict=True):
        for left, right in zip(batch, again, strict=True):
            np.testing.assert_array_equal(left, right)
    assert packing.digest() == packing_of(story_lengths(800), batch_tokens=512)[0].digest()
    assert packing.digest() != packing_of(story_lengths(800), batch_tokens=256)[0].digest()
