"""A model larger than the memory one wants to give it: written, streamed layer by layer, deleted.

    python -m benchmarks.large_model --folder=/scratch/big --shape=opt-6.7b --words=300

Writes a random-weight checkpoint of the shape in bfloat16, in several safetensors shards (13.3 GB for
OPT-6.7B), and extracts the words of a generated text in a process of its own: layer by layer, or with
--layout=whole from a model that fits on the device, whose second run then tells its speed.
Prints the seconds, words a second, and two peaks of memory: VmHWM, which counts the pages of the mapped
files that the system may drop at any time, and the largest anonymous part (RssAnon), sampled every 20 ms.
On a CPU the "device" is the same memory: two layers at a time in the dtype of the computation.
"""

import itertools
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import ml_dtypes
import numpy as np
from absl import app, flags, logging

_FOLDER = flags.DEFINE_string("folder", None, "Where the checkpoint is written.", required=True)
_SHAPE = flags.DEFINE_enum("shape", "opt-6.7b", ["opt-125m", "opt-1.3b", "opt-6.7b"], "Its size.")
_WORDS = flags.DEFINE_integer("words", 300, "Words of the text.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the computation.")
_LAYOUT = flags.DEFINE_enum("layout", "streamed", ["streamed", "whole"], "How the model is held.")
_KEEP = flags.DEFINE_bool("keep", False, "Leave the checkpoint there.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
_INSIDE = flags.DEFINE_bool("inside", False, "Internal: the extraction alone.")
_SIZES = {"opt-125m": (768, 12, 12), "opt-1.3b": (2048, 24, 32), "opt-6.7b": (4096, 32, 32)}


def write(folder: Path, width: int, n_layers: int, n_heads: int) -> int:
    """A checkpoint of OPT's shapes, a shard for every four layers; its bytes."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = dict(model_type="opt", vocab_size=50272, hidden_size=width, ffn_dim=4 * width)
    config |= dict(num_hidden_layers=n_layers, num_attention_heads=n_heads, pad_token_id=1)
    config |= dict(word_embed_proj_dim=width, max_position_embeddings=2048, bos_token_id=2)
    (folder / "config.json").write_text(json.dumps(config))
    pool = (0.02 * np.random.default_rng(0).standard_normal(2**24 + 1, np.float32)).astype(
        ml_dtypes.bfloat16
    )
    begin = itertools.count(1, 7919)  # where the numbers of a tensor begin in the pool

    def draw(*shape: int) -> np.ndarray:
        """Random numbers, repeated after some 16 million: drawing billions takes minutes."""
        return np.resize(np.roll(pool, next(begin)), shape)

    def norm(name: str) -> dict[str, np.ndarray]:
        ones = np.ones(width, ml_dtypes.bfloat16)
        return {f"{name}.weight": ones, f"{name}.bias": np.zeros_like(ones)}

    def linear(name: str, n_out: int, n_in: int) -> dict[str, np.ndarray]:
        bias = np.zeros(n_out, ml_dtypes.bfloat16)
        return {f"{name}.weight": draw(n_out, n_in), f"{name}.bias": bias}

    top = "model.decoder."
    first = {f"{top}embed_tokens.weight": draw(50272, width)}
    first[f"{top}embed_positions.weight"] = draw(2050, width)
    first |= norm(f"{top}final_layer_norm")
    weight_map: dict[str, str] = {}
    n_bytes = 0
    for shard in range(-1, -(-n_layers // 4)):
        tensors = first if shard < 0 else {}
        for layer in range(max(0, 4 * shard), min(n_layers, 4 * shard + 4)):
            at = f"{top}layers.{layer}."
            for name in "qkv":
                tensors |= linear(f"{at}self_attn.{name}_proj", width, width)
            tensors |= linear(f"{at}self_attn.out_proj", width, width)
            tensors |= linear(f"{at}fc1", 4 * width, width) | linear(f"{at}fc2", width, 4 * width)
            tensors |= norm(f"{at}self_attn_layer_norm") | norm(f"{at}final_layer_norm")
        file = f"model-{shard + 2:05d}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
        n_bytes += sum(tensor.nbytes for tensor in tensors.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return n_bytes


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().split("\n")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def extract(folder: Path, n_words: int, dtype: str, layout: str) -> dict:
    """The model over a generated text in this process: seconds and bytes."""
    import jax
    from flax import nnx

    from brainalign_jax.language.hidden_states import extraction, streaming
    from brainalign_jax.language.models import checkpoint
    from brainalign_jax.language.text.contexts import Sequences
    from brainalign_jax.language.text.packing import Packing

    rng = np.random.default_rng(0)
    ids, targets, words = [], [], 0
    while words < n_words:
        length = min(n_words - words, int(rng.integers(8, 40)))
        ids.append(rng.integers(4, 50_000, length + 1).astype(np.int32))
        targets.append([((words + i,), (i + 1,)) for i in range(length)])
        words += length
    packing = Packing(
        Sequences(ids, targets, []), np.arange(words), pooling="mean", batch_tokens=2048, width=4096
    )
    idle, peak, stop = _status("RssAnon"), [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            peak[0] = max(peak[0], _status("RssAnon"))

    threading.Thread(target=watch, daemon=True).start()
    begin = time.perf_counter()
    weights = checkpoint.open_weights(str(folder), dtype=dtype)
    first = None
    if layout == "streamed":
        sums = streaming.extract(weights, packing, words)
    else:
        model = weights.model()
        jax.block_until_ready(jax.tree.leaves(nnx.state(model)))
        loaded = time.perf_counter() - begin
        extraction.extract(model, packing, words)
        first = {"loading_s": loaded, "first_pass_s": time.perf_counter() - begin - loaded}
        begin = time.perf_counter()
        sums = extraction.extract(model, packing, words)
    seconds = time.perf_counter() - begin
    stop.set()
    on_device = jax.devices()[0].memory_stats() or {}
    if not np.isfinite(sums.states).all() or not sums.states.any(axis=2).all():
        raise ValueError("vectors that are not finite, or empty")
    layer = sum(leaf.nbytes for leaf in jax.tree.leaves(weights.layer(0)))
    return {
        "seconds": seconds,
        "words": words,
        "words_per_s": words / seconds,
        "sub_tokens": packing.n_tokens,
        "sub_tokens_per_s": packing.n_tokens / seconds,
        **(first or {}),
        "parameters": weights.n_params,
        "result_bytes": sums.states.nbytes,
        "layer_bytes": layer,
        "idle_anonymous": idle,
        "peak_anonymous": peak[0],
        "peak_resident": _status("VmHWM"),
        "peak_device": on_device.get("peak_bytes_in_use", 0),
    }


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    folder = Path(_FOLDER.value)
    if _INSIDE.value:
        print(json.dumps(extract(folder, _WORDS.value, _DTYPE.value, _LAYOUT.value)))
        return
    try:
        begin = time.perf_counter()
        n_bytes = write(folder, *_SIZES[_SHAPE.value])
        print(f"wrote {n_bytes / 1e9:.1f} GB in {time.perf_counter() - begin:.0f} s", flush=True)
        command = [sys.executable, "-m", "benchmarks.large_model", f"--folder={folder}", "--inside"]
        command += [f"--words={_WORDS.value}", f"--dtype={_DTYPE.value}"]
        command += [f"--layout={_LAYOUT.value}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-2000:])
        measured = json.loads(done.stdout.strip().split("\n")[-1])
    finally:
        if not _KEEP.value:
            shutil.rmtree(folder, ignore_errors=True)
    for name, value in measured.items():
        size = "bytes" in name or name.startswith(("peak", "idle"))
        print(f"{name:>16}: {value / 1e9:.2f} GB" if size else f"{name:>16}: {value:,.1f}")
    if _OUTPUT.value:
        record = {"shape": _SHAPE.value, "dtype": _DTYPE.value, "layout": _LAYOUT.value}
        record |= {"bytes": n_bytes, **measured}
        Path(_OUTPUT.value).parent.mkdir(parents=True, exist_ok=True)
        Path(_OUTPUT.value).write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    app.run(main)
