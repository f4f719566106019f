"""One result, whatever the way: batches, packing, layouts, devices, caches and interruptions."""

import subprocess
import sys
import textwrap
from pathlib import Path

import commands
import jax
import numpy as np
import pytest
from flax import nnx
from small_models import BLOCK_STYLES, small_model, small_sequences

from brainalign_jax.language.hidden_states import extraction, pooled_states, streaming
from brainalign_jax.language.models.blocks.transformer import hidden_states
from brainalign_jax.language.text.packing import Packing

HERE = Path(__file__).resolve()


def oracle(model, sequences, token_to_row, *, last="hf"):
    """Text by text, pooled in a loop: [layers] lists of [rows, D]."""
    counts = np.bincount(token_to_row)
    sums = None
    for ids, targets in zip(sequences.ids, sequences.targets, strict=True):
        padded = np.pad(ids[None], ((0, 0), (0, 32 - len(ids))))
        mask = (np.arange(32) < len(ids)).astype(np.int32)[None]
        out = hidden_states(model, padded, mask, last=last)
        layers = [np.asarray(state)[0] for state in out.states]
        layers += [] if out.final is None else [np.asarray(out.final)[0]]
        if sums is None:
            sums = [np.zeros((len(counts), layer.shape[-1])) for layer in layers]
        for rows, tokens in targets:
            for row in rows:
                for total, layer in zip(sums, layers, strict=True):
                    total[token_to_row[row]] += layer[list(tokens)].mean(0)
    return [total / counts[:, None] for total in sums]


def layers_of(sums):
    return [*sums.states, *([] if sums.final is None else [sums.final])]


def assert_same(extracted, expected, atol=1e-5):
    layers = layers_of(extracted)
    assert len(layers) == len(expected)
    for layer, expected_layer in zip(layers, expected, strict=True):
        np.testing.assert_allclose(layer, expected_layer, atol=atol)


@pytest.mark.parametrize("style", BLOCK_STYLES)
def test_every_way_gives_the_same_vectors(style):
    model = small_model(style)
    sequences, row = small_sequences()
    n_rows = int(row.max()) + 1
    for last in ("hf", "raw") if style == "gpt2" else ("hf",):
        expected = oracle(model, sequences, row, last=last)
        for pack, budget in ((False, 40), (True, 64)):
            packing = Packing(sequences, row, pooling="mean", batch_tokens=budget, pack=pack)
            assert_same(extraction.extract(model, packing, n_rows, last=last), expected)
        layers = streaming.LoadedLayers(model)
        for keep_bytes in (0, None):
            streamed = streaming.extract(layers, packing, n_rows, last=last, keep_bytes=keep_bytes)
            assert_same(streamed, expected)


def test_sums_larger_than_the_device_are_added_on_the_host(monkeypatch):
    sequences, row = small_sequences()
    for style in ("bert", "opt-350m"):
        model = small_model(style)
        packing = Packing(sequences, row, pooling="mean", batch_tokens=64)
        inside = extraction.extract(model, packing, int(row.max()) + 1)
        with monkeypatch.context() as patch:
            patch.setattr(extraction, "device_bytes", lambda: 0)
            outside = extraction.extract(model, packing, int(row.max()) + 1)
        assert_same(outside, layers_of(inside), atol=1e-6)


def test_half_types_are_pooled_in_float32():
    sequences, row = small_sequences()
    exact = extraction.extract(
        small_model("gpt2"), Packing(sequences, row, pooling="mean", batch_tokens=64), row.max() + 1
    )
    for dtype, atol in (("bfloat16", 0.05), ("float16", 0.01)):
        model = small_model("gpt2", dtype=dtype)
        packing = Packing(sequences, row, pooling="mean", batch_tokens=64)
        pooled = extraction.extract(model, packing, int(row.max()) + 1)
        assert pooled.states.dtype == np.float32
        np.testing.assert_allclose(pooled.states, exact.states, atol=atol)
        # Layer 0, a sum of two tables in the half type, averaged exactly.
        streamed = streaming.extract(streaming.LoadedLayers(model), packing, int(row.max()) + 1)
        np.testing.assert_allclose(streamed.states, pooled.states, atol=atol)


def test_as_many_programs_as_shapes():
    model = small_model("gpt2")
    sequences, row = small_sequences(n_texts=60, longest=300)
    packing = Packing(sequences, row, pooling="mean", batch_tokens=400)
    pooled_states.add_batch.clear_cache()
    extraction.extract(model, packing, int(row.max()) + 1)
    compiled = pooled_states.add_batch._cache_size()
    assert len(packing) > compiled
    assert compiled == len(packing.shapes) == 3
    extraction.extract(model, packing, int(row.max()) + 1)
    assert pooled_states.add_batch._cache_size() == compiled


def test_hidden_states_of_all_layers_never_lie_in_memory():
    sequences, row = small_sequences(n_texts=80)
    used = []
    for n_layers in (4, 24):
        model = small_model("gpt2", n_layers=n_layers)
        packing = Packing(sequences, row, pooling="mean", batch_tokens=2000)
        batch = next(packing.batches())
        graph, state = nnx.split(model)
        sums = pooled_states.empty_sums(model, int(row.max()) + 1, last="hf")
        arrays = pooled_states.device_batch(batch)
        lowered = pooled_states.add_batch.lower(
            graph, sums, state, arrays, None, last="hf", shared=batch.shared
        )
        memory = lowered.compile().memory_analysis()
        used.append(memory.temp_size_in_bytes)
        # The sums are changed in place.
        assert memory.alias_size_in_bytes >= sums.states.nbytes
    one_layer = 4 * batch.ids.size * model.width
    assert used[1] - used[0] < 2 * one_layer


class Memory:
    """A saver that keeps every state, and stops the extraction after a number of them."""

    def __init__(self, saved=None, stop_after=None):
        self.saved, self.stop_after, self.count = saved, stop_after, 0

    def load(self, plan):
        return self.saved

    def due(self):
        return True

    def save(self, plan, done, arrays):
        arrays = {name: np.array(array) for name, array in arrays.items()}
        self.saved = extraction.Saved(done, arrays)
        self.count += 1
        if self.count == self.stop_after:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("style", "streamed"), [("gpt2", False), ("gpt2", True), ("opt-350m", True)]
)
def test_an_interrupted_extraction_goes_on(style, streamed):
    model = small_model(style, n_layers=4)
    sequences, row = small_sequences()
    packing = Packing(sequences, row, pooling="mean", batch_tokens=64)
    run = streaming.extract if streamed else extraction.extract
    model = streaming.LoadedLayers(model) if streamed else model
    whole = run(model, packing, int(row.max()) + 1)
    steps = 4 if streamed else len(packing)
    for stop in range(1, steps):
        first = Memory(stop_after=stop)
        with pytest.raises(KeyboardInterrupt):
            run(model, packing, int(row.max()) + 1, saver=first)
        assert first.saved.done == stop
        words = []
        second = Memory(first.saved)
        resumed = run(model, packing, int(row.max()) + 1, saver=second, on_words=words.append)
        assert second.count == steps - 1 - stop, "finished batches are not computed again"
        for layer, whole_layer in zip(layers_of(resumed), layers_of(whole), strict=True):
            np.testing.assert_array_equal(layer, whole_layer)
        assert sum(words) == packing.n_words * (5 if streamed else 1)


SHARDED = """
    import sys
    sys.path[:0] = {path!r}
    import numpy as np, jax
    from small_models import save_checkpoint, small_sequences
    from brainalign_jax.language.hidden_states import extraction
    from brainalign_jax.language.models import checkpoint
    from brainalign_jax.language.models.weights import sharding
    from brainalign_jax.language.text.packing import Packing

    assert jax.local_device_count() == 4
    sequences, row = small_sequences()
    packing = Packing(sequences, row, pooling="mean", batch_tokens=64)
    for style in ("bert", "gpt2", "opt-350m", "llama"):
        folder = save_checkpoint(style, sys.argv[1] + "/" + style)
        whole = checkpoint.load_model(folder)
        divided = checkpoint.load_model(folder, placement=sharding.over_devices())
        kernel = divided.blocks.ffn_in.kernel[...]
        assert len(kernel.sharding.device_set) == 4
        assert kernel.addressable_shards[0].data.size * 4 == kernel.size, style
        states = (extraction.extract(m, packing, int(row.max()) + 1) for m in (whole, divided))
        for a, b in zip(*map(jax.tree.leaves, states), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
        print(style, "same")
"""


def test_a_model_divided_among_four_devices(tmp_path):
    code = textwrap.dedent(SHARDED).format(path=[str(HERE.parents[1]), str(HERE.parents[2])])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)],
        env=commands.with_devices(4) | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:-1] == ["bert same", "gpt2 same", "opt-350m same", "llama same"]
    assert jax.local_device_count() == 1
