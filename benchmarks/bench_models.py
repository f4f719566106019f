"""Words a second through language models, all layers pooled to words, beside transformers' PyTorch models.

    python -m benchmarks.bench_models --output=out/bench_models.json

Shapes of BERT-base, GPT-2 and OPT-125m with random weights, the same on both sides; a generated text of
5,000 words in sentences, tokenised by a tokenizer trained on it. Both sides get the sub-tokens (which are
told apart: seconds to tokenise) and give the mean over sub-tokens and occurrences in every layer,
[13, types, 768] float32. PyTorch (scaled dot-product attention, `output_hidden_states` under
`inference_mode`, sums over words with `index_add_`) runs the model in two ways: as a careful user would,
batches of an equal budget of sub-tokens sorted by length, at two budgets; and as most scripts do,
32 sentences at a time in the text's order, padded to the longest.
Sides take turns; seconds are medians; our first call, which compiles, is told apart. Errors: the
largest difference, in standard deviations of the layer, from PyTorch's model in float64 on the first 100
words, and between the two sides on all. Peak memory is of a process of its own that does nothing else:
VmHWM, imports included (each imports the other's library as well, ours PyTorch through transformers), or on
a GPU what was allocated there. --dtype=bfloat16 computes both sides so. About 9 minutes on 2 cores.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import app, flags, logging

from benchmarks import measure
from brainalign_jax.language.hidden_states import extraction
from brainalign_jax.language.models import checkpoint
from brainalign_jax.language.text import contexts
from brainalign_jax.language.text.packing import Packing, sub_tokens_of
from brainalign_jax.language.text.tokens import load_tokenizer
from brainalign_jax.stimulus import Stimulus

_SHAPES = flags.DEFINE_list("shapes", ["bert-base", "gpt2", "opt-125m"], "Of these three.")
_WORDS = flags.DEFINE_integer("words", 5000, "Words of the text.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of both sides.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "Rounds; medians are reported.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
_SIDE = flags.DEFINE_enum("side", None, ["ours", "torch"], "Internal: one side alone, for memory.")
_FOLDER = flags.DEFINE_string("folder", None, "Internal: the checkpoint of --side.")
_BUDGETS = {"cpu": (1024, 4096), "gpu": (8192, 32768)}  # sub-tokens of a batch, for PyTorch
_SENTENCES = 32  # of a batch in the text's order
_TARGET = {"cpu": 2.0, "gpu": 1.2}


def text(n_words: int, seed: int = 0) -> Stimulus:
    """Words of Zipf's frequencies in sentences of a story's lengths."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    vocabulary = ["".join(rng.choice(letters, rng.integers(1, 10))) for _ in range(4000)]
    chance = 1 / np.arange(10, 4010)
    words = rng.choice(vocabulary, n_words, p=chance / chance.sum()).tolist()
    sentence = np.zeros(n_words, int)
    at = number = 0
    while at < n_words:
        end = min(n_words, at + int(np.clip(rng.gamma(2.2, 8), 2, 70)))
        sentence[at:end] = number
        words[end - 1] += "."
        at, number = end, number + 1
    return Stimulus.from_words(words, sentence=sentence)


def make_checkpoint(shape: str, folder: Path) -> None:
    """A random-weight checkpoint of the shape, and a tokenizer of about 1.3 sub-tokens a word."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    torch.manual_seed(0)
    opt = dict(hidden_size=768, ffn_dim=3072, num_hidden_layers=12, num_attention_heads=12)
    configs = {
        "bert-base": transformers.BertConfig(),
        "gpt2": transformers.GPT2Config(),
        "opt-125m": transformers.OPTConfig(**opt, word_embed_proj_dim=768),
    }
    config = configs[shape]
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    bert = shape == "bert-base"
    kind = models.WordPiece if bert else models.BPE
    tokenizer = Tokenizer(kind(unk_token="[UNK]") if bert else kind())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer() if bert else byte_level
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] if bert else ["<s>", "<pad>", "</s>"]
    trainer = (trainers.WordPieceTrainer if bert else trainers.BpeTrainer)(
        vocab_size=1500, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(text(_WORDS.value).words)], trainer)
    if bert:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))


def encoded(folder: Path, stimulus: Stimulus) -> contexts.Sequences:
    """The sentences as the tokenizer gives them."""
    every = np.ones(len(stimulus), bool)
    texts = contexts.texts_of(stimulus, every, context="sentence")
    return contexts.encode_texts(load_tokenizer(folder), texts, max_length=512)


def ours(folder: Path, stimulus: Stimulus):
    """A function that gives [L, T, D] with our model."""
    model = checkpoint.load_model(str(folder), dtype=_DTYPE.value)
    pad_id = load_tokenizer(folder).pad_id
    sequences, row = encoded(folder, stimulus), stimulus.types()[1]

    def call() -> np.ndarray:
        packing = Packing(
            sequences,
            row,
            pooling="mean",
            batch_tokens=extraction.default_batch_tokens(),
            width=model.width,
            pad_id=pad_id,
        )
        return extraction.extract(model, packing, int(row.max()) + 1).states

    return call


def theirs(folder: Path, stimulus: Stimulus, budget: int | None, *, double: bool = False):
    """The same with transformers' PyTorch model. budget: sub-tokens of a batch; None: by sentences."""
    import torch
    import transformers

    on_gpu = torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    dtype = torch.float64 if double else getattr(torch, _DTYPE.value)
    summed = torch.float64 if double else torch.float32
    model = transformers.AutoModel.from_pretrained(folder, dtype=dtype).eval().to(device)
    pad_id, row = load_tokenizer(folder).pad_id, stimulus.types()[1]
    sequences, n_rows = encoded(folder, stimulus), int(row.max()) + 1

    @torch.inference_mode()
    def call() -> np.ndarray:
        pooled = sub_tokens_of(sequences, row, "mean")
        sums = None
        for members in _batches([len(ids) for ids in sequences.ids], budget):
            longest = max(len(sequences.ids[member]) for member in members)
            ids = np.full((len(members), longest), pad_id, np.int64)
            mask = np.zeros((len(members), longest), np.int64)
            for line, member in enumerate(members):
                ids[line, : len(sequences.ids[member])] = sequences.ids[member]
                mask[line, : len(sequences.ids[member])] = 1
            of_members = [pooled[member] for member in members]
            token = np.concatenate(
                [of_text[0] + line * longest for line, of_text in enumerate(of_members)]
            )
            rows, weight = (
                np.concatenate([of_text[at] for of_text in of_members]) for at in (1, 2)
            )
            token, rows, weight = (
                torch.from_numpy(x).to(device) for x in (token, rows, weight.astype(np.float32))
            )
            states = model(
                input_ids=torch.from_numpy(ids).to(device),
                attention_mask=torch.from_numpy(mask).to(device),
                output_hidden_states=True,
            ).hidden_states
            if sums is None:
                shape = len(states), n_rows, states[0].shape[-1]
                sums = torch.zeros(shape, dtype=summed, device=device)
            for total, state in zip(sums, states, strict=True):
                picked = state.reshape(-1, state.shape[-1])[token].to(summed)
                total.index_add_(0, rows, picked * weight[:, None].to(summed))
        return sums.cpu().numpy()

    return call


def _batches(lengths: list[int], budget: int | None) -> list[list[int]]:
    """The sequences of each of PyTorch's batches."""
    if budget is None:
        every = list(range(len(lengths)))
        return [every[start : start + _SENTENCES] for start in every[::_SENTENCES]]
    batches: list[list[int]] = [[]]
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches[-1] and (len(batches[-1]) + 1) * lengths[i] > budget:
            batches.append([])
        batches[-1].append(i)
    return batches


def flops(folder: Path, stimulus: Stimulus) -> float:
    """Operations of the dense products: two a weight of the blocks and sub-token, no padding."""
    config = checkpoint.read_architecture(folder)
    weights = config.width * (4 * config.width + 2 * config.ffn_width)
    return 2.0 * config.n_layers * weights * sum(map(len, encoded(folder, stimulus).ids))


def _largest(vectors: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, in standard deviations of its layer."""
    spread = expected.std(axis=(1, 2), keepdims=True)
    return float((np.abs(vectors - expected) / spread).max())


def _job(shape: str, folder: Path, stimulus: Stimulus) -> measure.Job:
    some = stimulus.select(range(100))

    def errors(inputs: dict, result: np.ndarray, peers: dict) -> dict[str, float]:
        exact = theirs(folder, some, 1024, double=True)()
        return {
            "ours": _largest(ours(folder, some)(), exact),
            "torch": _largest(theirs(folder, some, 1024)(), exact),
            "between": max(_largest(result, other) for other in peers.values()),
        }

    peers = {f"PyTorch, {budget} sub-tokens": budget for budget in _BUDGETS[_backend()]}
    peers[f"PyTorch, {_SENTENCES} sentences in order"] = None
    return measure.Job(
        f"{shape}, {len(stimulus)} words, {_DTYPE.value}",
        dict,
        lambda inputs: ours(folder, stimulus),
        {
            peer: lambda inputs, budget=budget: theirs(folder, stimulus, budget)
            for peer, budget in peers.items()
        },
        errors,
        flops(folder, stimulus),
        dict.fromkeys(peers, _TARGET[_backend()]),
    )


def _backend() -> str:
    return "cpu" if jax.default_backend() == "cpu" else "gpu"


def _peak(side: str, folder: Path) -> float:
    """Peak memory in MB of a process that runs one side: resident set, or on a GPU what was allocated."""
    command = [sys.executable, "-m", "benchmarks.bench_models", f"--side={side}"]
    command += [f"--folder={folder}", f"--words={_WORDS.value}", f"--dtype={_DTYPE.value}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout)["peak_mb"]


def _run_side() -> None:
    folder, stimulus = Path(_FOLDER.value), text(_WORDS.value)
    make = ours if _SIDE.value == "ours" else lambda *a: theirs(*a, min(_BUDGETS[_backend()]))
    make(folder, stimulus)()
    status = Path("/proc/self/status").read_text().split("\n")
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024
    if _backend() == "gpu" and _SIDE.value == "ours":
        peak = jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    elif _backend() == "gpu":
        import torch

        peak = torch.cuda.max_memory_allocated()
    print(json.dumps({"peak_mb": peak / 2**20}))


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    if _SIDE.value:
        return _run_side()
    stimulus = text(_WORDS.value)
    rates = measure.matmul_rates(dtype=_DTYPE.value)
    print({name: f"{rate / 1e9:.0f} GFLOP/s" for name, rate in rates.items()})
    rows = []
    for shape in _SHAPES.value:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            make_checkpoint(shape, folder)
            peaks = {f"peak_mb_{side}": _peak(side, folder) for side in ("ours", "torch")}
            row = measure.measure_job(
                _job(shape, folder, stimulus), _REPEATS.value, rate=rates["jax"]
            )
            begin = time.perf_counter()
            encoded(folder, stimulus)
            row["tokenising_s"] = time.perf_counter() - begin
        row |= peaks
        row["words_per_s"] = {"ours": len(stimulus) / row["ours_s"]} | {
            peer: len(stimulus) / measured["seconds"] for peer, measured in row["peers"].items()
        }
        rows.append(row)
        print(measure.markdown([row]))
        print({name: round(value) for name, value in (peaks | row["words_per_s"]).items()})
    if _OUTPUT.value:
        Path(_OUTPUT.value).parent.mkdir(parents=True, exist_ok=True)
        record = {"machine": measure.machine(), "rates": rates, "jobs": rows}
        record["devices"] = [str(device) for device in jax.devices()]
        Path(_OUTPUT.value).write_text(json.dumps(record, indent=1))
    return None


if __name__ == "__main__":
    app.run(main)
