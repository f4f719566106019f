"""Stimulus and model to vectors, against PyTorch with naive pooling and against NumPy."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from brainalign_jax import cli
from brainalign_jax.embedding import Embedding, EmbedOptions
from brainalign_jax.language import Embeddings, embed
from brainalign_jax.language.models.blocks.transformer import hidden_states
from brainalign_jax.language.models.checkpoint import load_model
from brainalign_jax.stimulus import Stimulus

TEXT = (
    "Alice was beginning to get very tired of sitting by her sister. The dog isn't here; “it can't "
    "be!” said Alice -- tired. Dogs ran. The dog sat down on the well-known bank."
)
STIMULUS = Stimulus.from_words(TEXT.split())
SIZES = {
    "bert": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    | {"intermediate_size": 24, "max_position_embeddings": 64},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    | {"bos_token_id": 0, "eos_token_id": 0},
    "opt": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 24}
    | {"max_position_embeddings": 64, "word_embed_proj_dim": 16},
    "opt-350m": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    | {"ffn_dim": 24, "max_position_embeddings": 64, "word_embed_proj_dim": 8}
    | {"do_layer_norm_before": False},
}
FAMILIES = tuple(SIZES)


def checkpoint_folder(folder, name):
    """config.json and tokenizer files of a tiny model; no weights."""
    model_type = name.split("-")[0]
    size = {"vocab_size": 420, "model_type": model_type} | SIZES[name]
    (folder / "config.json").write_text(json.dumps(size))
    if model_type == "bert":
        chars = sorted({c for c in TEXT.lower() + "apple" if not c.isspace()})
        vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dog", "is", "##n", "alice"]
        vocab += chars + ["##" + c for c in chars]
        (folder / "vocab.txt").write_text("\n".join(vocab), encoding="utf-8")
        return folder
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 2, trainer)
    tokenizer.model.save(str(folder))
    if model_type == "opt":
        settings = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True}
        settings |= {f"{role}_token": "</s>" for role in ("bos", "eos", "unk")}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """Names of tiny models with random weights, by family."""
    folders = {name: tmp_path_factory.mktemp(name) for name in FAMILIES}
    return {
        name: f"untrained:{checkpoint_folder(folder, name)}" for name, folder in folders.items()
    }


def naive_ids(folder, name, words):
    """Ids of a text and of each word's core, without offsets: BERT word by word, since WordPiece
    never crosses a space; byte-level BPE by counting bytes of the vocabulary strings."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(" ".join(words))["input_ids"]
    groups, at = [], 0
    strip = "“”.;!-," if any(c.isalnum() for c in "".join(words)) else ""
    if name == "bert":
        at = 1
        for word in words:
            core = word.strip(strip) or word
            before = tokenizer(word[: word.index(core)], add_special_tokens=False)["input_ids"]
            inner = tokenizer(core, add_special_tokens=False)["input_ids"]
            whole = tokenizer(word, add_special_tokens=False)["input_ids"]
            start = at + len(before)
            assert ids[start : start + len(inner)] == inner
            groups.append(list(range(start, start + len(inner))))
            at += len(whole)
        assert at == len(ids) - 1
        return ids, groups
    if name == "gpt2":
        ids = [0, *ids]  # its first token, which its tokenizer does not put there
    first = 1
    # In byte-level BPE one character of a vocabulary string stands for one byte.
    lengths = [len(token) for token in tokenizer.convert_ids_to_tokens(ids[first:])]
    ends = np.cumsum(lengths)
    starts = ends - lengths
    for index, word in enumerate(words):
        core = word.strip(strip) or word
        lead = word[: word.index(core)]
        begin = at + len(((" " if index else "") + lead).encode()) - (index > 0 and not lead)
        end = at + len(((" " if index else "") + lead + core).encode())
        hit = (starts < end) & (ends > begin)
        groups.append([int(token) + first for token in np.flatnonzero(hit)])
        at += len(((" " if index else "") + word).encode())
    return ids, groups


def naive_embed(folder, name, run_model, stimulus, sentences, pooling):
    """[N, layers...] vectors of all tokens from `run_model(ids) → list of [T, D]`."""
    vectors = {}
    for sentence in sentences:
        ids, groups = naive_ids(folder, name, [stimulus.words[row] for row in sentence])
        layers = run_model(ids)
        for row, tokens in zip(sentence, groups, strict=True):
            tokens = {"mean": tokens, "first": tokens[:1], "last": tokens[-1:]}[pooling]
            vectors[row] = [
                np.mean([layer[t] for t in tokens], axis=0, dtype=np.float64) for layer in layers
            ]
    return [vectors[row] for row in range(len(stimulus))]


# The sentences of TEXT, by hand.
SENTENCES = [range(12), range(12, 23), range(23, 25), range(25, 33)]


def by_type(vectors, stimulus, lower=False):
    types, token_to_type = stimulus.types(lower=lower)
    layers = range(len(vectors[0]))
    return [
        np.stack(
            [
                np.mean([vectors[row][layer] for row in np.flatnonzero(token_to_type == t)], axis=0)
                for t in range(len(types))
            ]
        )
        for layer in layers
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_sentences_agree_with_pytorch_and_naive_pooling(name, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = checkpoint_folder(tmp_path, name)
    config = transformers.AutoConfig.from_pretrained(folder)
    torch.manual_seed(0)
    reference = transformers.AutoModel.from_config(config).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    reference.save_pretrained(folder)

    def run_model(ids):
        with torch.no_grad():
            out = reference(torch.tensor([ids]), output_hidden_states=True)
        return [state[0].numpy() for state in out.hidden_states]

    for pooling in ("mean", "first", "last"):
        expected = naive_embed(folder, name, run_model, STIMULUS, SENTENCES, pooling)
        result = embed(STIMULUS, str(folder), pooling=pooling, lower=True)
        assert result.types == STIMULUS.types(lower=True)[0]
        got = [layer for _, block in result.blocks() for layer in block]
        wanted = by_type(expected, STIMULUS, lower=True)
        assert len(got) == len(wanted) == 3
        for ours, theirs in zip(got, wanted, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5)
    tokens = embed(STIMULUS, str(folder), level="token", pooling="last")
    assert tokens.types == STIMULUS.words
    for index, block in tokens.blocks():
        for layer, values in zip(index, block, strict=True):
            np.testing.assert_allclose(values, [vectors[layer] for vectors in expected], atol=2e-5)


@pytest.mark.parametrize("name", ["bert", "gpt2", "opt"])
def test_sentences_agree_with_a_numpy_loop(name, untrained):
    """Without PyTorch: the model on one text at a time, padded to one length, the rest in NumPy."""
    model = load_model(untrained[name], seed=3)
    folder = untrained[name].removeprefix("untrained:")

    def run_model(ids):
        padded = np.pad(np.array([ids], np.int32), ((0, 0), (0, 64 - len(ids))))
        mask = (np.arange(64)[None] < len(ids)).astype(np.int32)
        return np.asarray(hidden_states(model, padded, mask).states)[:, 0]

    expected = by_type(naive_embed(folder, name, run_model, STIMULUS, SENTENCES, "mean"), STIMULUS)
    result = embed(STIMULUS, untrained[name], seed=3)
    np.testing.assert_allclose(result.values, np.stack(expected), atol=1e-5)
    assert not np.allclose(embed(STIMULUS, untrained[name], seed=4).values, result.values)


def test_windows_agree_with_the_text_of_each_window(untrained):
    stimulus = Stimulus(STIMULUS.words, run=[0] * 14 + [1] * 19)
    result = embed(stimulus, untrained["gpt2"], context="window", window=3, level="token")
    for row in (0, 9, 14, 15, 32):
        start = max(0 if row < 14 else 14, row - 3)
        words = stimulus.words[start : row + 1]
        alone = embed(
            Stimulus.from_words(words, sentence=[0] * len(words)), untrained["gpt2"], level="token"
        )
        np.testing.assert_allclose(result.values[:, row], alone.values[:, -1], atol=1e-5)
    assert result.meta["window"] == 3


def test_words_alone_at_type_and_token_level(untrained):
    stimulus = Stimulus.from_words(["Dog", "dog.", "--", "isn't", "Dog"])
    types = embed(stimulus, untrained["bert"], context="word")
    tokens = embed(stimulus, untrained["bert"], context="word", level="token")
    assert types.types == ("Dog", "dog", "isn't")
    assert tokens.values.shape == (3, 5, 16)
    np.testing.assert_allclose(types.values, tokens.values[:, [0, 1, 3]], atol=1e-6)
    single = embed(Stimulus.from_words(["isn't"]), untrained["bert"], context="word")
    np.testing.assert_allclose(types.values[:, 2], single.values[:, 0], atol=1e-6)
    # An uncased tokenizer makes "Dog" and "dog" one vector, `lower` makes them one type.
    np.testing.assert_allclose(types.values[:, 0], types.values[:, 1], atol=1e-6)
    assert embed(stimulus, untrained["bert"], context="word", lower=True).types == ("dog", "isn't")


@pytest.mark.parametrize(
    ("name", "context"), [("bert", "window"), ("bert", "sentence"), ("opt", "sentence")]
)
def test_vectors_do_not_depend_on_the_batch(name, context, untrained):
    options = {"context": context, "window": 4}
    unbatched = embed(STIMULUS, untrained[name], batch_tokens=1, **options)
    batched = embed(STIMULUS, untrained[name], batch_tokens=4096, **options)
    np.testing.assert_allclose(batched.values, unbatched.values, atol=1e-5)


def test_a_causal_model_does_not_see_what_follows_the_cut(untrained):
    words = ("dog", "sat") * 40
    stimulus = Stimulus.from_words(words, sentence=[0] * 80)
    with pytest.warns(UserWarning, match="cut into windows"):
        long = embed(stimulus, untrained["gpt2"], level="token")
    short = embed(stimulus.select(range(6)), untrained["gpt2"], level="token")
    np.testing.assert_allclose(long.values[:, :6], short.values, atol=1e-5)
    assert long.values.shape[1] == 80


def test_another_width_of_the_last_layer(untrained):
    stimulus = STIMULUS.select(range(12))
    result = embed(stimulus, untrained["opt-350m"])
    n_types = len(result.types)
    assert result.values.shape == (2, n_types, 16)
    assert result.final.shape == (n_types, 8)
    assert [index for index, _ in result.blocks()] == [(0, 1), (2,)]
    assert result.n_states == 3
    raw = embed(stimulus, untrained["opt-350m"], last="raw")
    assert raw.values.shape == (3, n_types, 16)
    assert raw.final is None
    np.testing.assert_allclose(raw.values[:2], result.values, atol=1e-6)


def test_meta_says_how_the_vectors_were_made(untrained):
    stimulus = STIMULUS.select(range(12))
    meta = embed(stimulus, untrained["gpt2"], seed=5, last="raw", lower=True).meta
    model = load_model(untrained["gpt2"])
    wanted = {
        "family": "gpt2",
        "kind": "untrained",
        "n_params": model.n_params,
        "n_layers": 2,
        "revision": None,
        "weights": "untrained, seed 5",
        "seed": 5,
        "tokenizer": "GPT2Tokenizer",
        "pooling": "mean",
        "context": "sentence",
        "window": None,
        "last": "raw",
        "lower": True,
        "level": "type",
        "unknown_words": 0,
        "stimulus": stimulus.fingerprint(),
    }
    assert {key: meta[key] for key in wanted} == wanted
    json.dumps(meta)


def test_unknown_words_are_counted(untrained):
    stimulus = Stimulus.from_words(["dog", "ЖЖ", "Q" * 2000, "dog"], sentence=[0, 0, 1, 1])
    with pytest.warns(UserWarning, match="2 word tokens .'ЖЖ', 'Q+'. are not in the tokenizer"):
        result = embed(stimulus, untrained["bert"])
    assert result.meta["unknown_words"] == 2
    with pytest.warns(UserWarning, match=r"word 2, 'Q+', 2000 characters\): each is split"):
        assert embed(stimulus, untrained["gpt2"]).meta["unknown_words"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"context": "story"},
            "unknown context='story'; known: sentence, window, growing, word",
        ),
        ({"pooling": "max"}, "pooling='max'"),
        ({"level": "word"}, "level='word'"),
        ({"last": "final"}, "last='final'"),
        ({"window": -1}, "window=-1"),
        ({"window": 2.5}, "window=2.5"),
        ({"batch_tokens": 0}, "batch_tokens=0"),
        ({"stride": 0}, "stride=0"),
        ({"dtype": "int8"}, "dtype='int8'"),
        ({"missing": "drop"}, "missing='drop'"),
    ],
)
def test_unknown_options(options, message, untrained):
    with pytest.raises(ValueError, match=message):
        embed(STIMULUS, untrained["gpt2"], **options)


def test_options_come_in_an_object_or_by_name(untrained):
    options = EmbedOptions(context="word", pooling="last", lower=True)
    by_object = embed(STIMULUS, untrained["gpt2"], options)
    by_name = embed(STIMULUS, untrained["gpt2"], context="word", pooling="last", lower=True)
    np.testing.assert_array_equal(by_object.values, by_name.values)
    assert by_object.meta == by_name.meta
    changed = embed(STIMULUS, untrained["gpt2"], options, pooling="first").meta
    assert (changed["pooling"], changed["context"]) == ("first", "word")
    with pytest.raises(
        TypeError, match=r"embed\(\): unknown option 'contxt'; the nearest .* context"
    ):
        embed(STIMULUS, untrained["gpt2"], contxt="word")
    of_study = embed(STIMULUS, untrained["gpt2"], Embedding("word", pooling="last"), lower=True)
    assert of_study.meta == by_object.meta
    for wrong in ("word", {"context": "word"}, EmbedOptions):
        with pytest.raises(
            TypeError, match=r"embed\(\): .* stands for the options: give EmbedOptions"
        ):
            embed(STIMULUS, untrained["gpt2"], wrong)


def test_help_and_signature_name_every_option():
    parameters = inspect.signature(embed).parameters
    for field in dataclasses.fields(EmbedOptions):
        assert parameters[field.name].default == field.default
        assert f"      {field.name}: " in embed.__doc__
    assert "changes" not in parameters and "OPTIONS" not in embed.__doc__
    flags = {option.field for option in cli.command("embed").options if option.field}
    assert flags == {field.name for field in dataclasses.fields(EmbedOptions)} - {
        "revision",  # said in a model's name
        "surprisal",  # whose flag is the file that holds it
    }


def test_models_and_stimuli_that_cannot_be_embedded(untrained, tmp_path):
    with pytest.raises(ValueError, match="bert-base"):
        embed(STIMULUS, "brt-base")
    with pytest.raises(ValueError, match="level='token'"):
        embed(Stimulus.from_words(["--", "+"]), untrained["gpt2"])
    plus = embed(Stimulus.from_words(["+"]), untrained["gpt2"], level="token")
    assert plus.types == ("+",)
    (tmp_path / "config.json").write_text(json.dumps(SIZES["gpt2"] | {"model_type": "gpt2"}))
    with pytest.raises(FileNotFoundError, match="has no tokenizer"):
        embed(STIMULUS, str(tmp_path))


def test_a_tokenizer_of_another_model_is_refused(untrained, tmp_path):
    folder = checkpoint_folder(tmp_path, "gpt2")
    config = {"model_type": "gpt2", "vocab_size": 20} | SIZES["gpt2"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="outside the vocabulary of 20"):
        embed(STIMULUS, f"untrained:{folder}")


def test_static_vectors(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("dog 1 2\nthe 3 4\n-- 5 6\n")
    stimulus = Stimulus.from_words(["The", "dog.", "--", "dog"])
    types = embed(stimulus, f"static:{path}")
    assert types.types == ("The", "dog")
    np.testing.assert_array_equal(types.values, [[[3, 4], [1, 2]]])
    assert (types.meta["family"], types.meta["n_layers"]) == ("static", 0)
    tokens = embed(stimulus, f"static:{path}", level="token")
    np.testing.assert_array_equal(tokens.values, [[[3, 4], [1, 2], [5, 6], [1, 2]]])
    more = Stimulus.from_words(["dog", "zebra"])
    with pytest.raises(ValueError, match="lacks 1 of 2 words: 'zebra'"):
        embed(more, f"static:{path}")
    zero = embed(more, f"static:{path}", missing="zero")
    np.testing.assert_array_equal(zero.values, [[[1, 2], [0, 0]]])
    assert zero.meta["unknown_words"] == 1


def test_progress_counts_the_words_on_a_terminal_only(untrained, capsys, monkeypatch):
    n_words = int((STIMULUS.types()[1] >= 0).sum())
    embed(STIMULUS, untrained["gpt2"], progress=True)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    embed(STIMULUS, untrained["gpt2"], progress=True)
    shown = capsys.readouterr().err
    assert f"{n_words}/{n_words}" in shown
    assert "word/s" in shown


def test_a_function_is_told_the_shares_of_the_work(untrained):
    told = []
    embed(STIMULUS, untrained["gpt2"], progress=told.append)
    assert sum(told) == pytest.approx(1)


def small_embeddings(**changes):
    fields = {
        "model": "m",
        "types": ("a", "b\u0301", "c"),
        "values": np.arange(12).reshape(2, 3, 2),
        "final": np.ones((3, 5)),
        "meta": {"level": "type", "n_layers": 2},
    }
    return Embeddings(**fields | changes)


def test_save_and_load(tmp_path):
    for final in (np.ones((3, 5)), None):
        embeddings = small_embeddings(final=final)
        path = embeddings.save(tmp_path / "sub" / "m.npz")
        again = Embeddings.load(path)
        assert again.types == embeddings.types
        assert again.model == "m"
        assert again.meta == embeddings.meta
        assert again.values.dtype == np.float32
        np.testing.assert_array_equal(again.values, embeddings.values)
        assert (again.final is None) == (final is None)
        assert again.fingerprint() == embeddings.fingerprint()
    assert [file.name for file in (tmp_path / "sub").iterdir()] == ["m.npz"]


def test_files_that_are_not_embeddings(tmp_path):
    with pytest.raises(ValueError, match=r"does not end in \.npz"):
        small_embeddings().save(tmp_path / "m.dat")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Embeddings.load(tmp_path / "m.npz")
    path = tmp_path / "m.npz"
    np.savez(path, values=np.zeros(3))
    with pytest.raises(ValueError, match="not a file of Embeddings"):
        Embeddings.load(path)
    small_embeddings().save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a file of Embeddings"):
        Embeddings.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.zeros((2, 2, 2))}, r"values has shape \(2, 2, 2\); expected \[L, 3, D\]"),
        ({"values": np.zeros((3, 2))}, "values has shape"),
        ({"values": np.zeros((0, 3, 2))}, "not empty"),
        ({"values": np.full((1, 3, 2), np.nan)}, r"values\[0, 0, 0\] is nan"),
        ({"final": np.zeros((2, 5))}, "final has shape"),
        ({"types": ("a", "a", "c")}, "type 'a' is repeated"),
        ({"meta": {"x": object()}}, "JSON-serialisable"),
    ],
)
def test_embeddings_are_validated(changes, message):
    with pytest.raises(ValueError, match=message):
        small_embeddings(**changes)


def test_fingerprint_of_embeddings():
    same = small_embeddings()
    others = [
        small_embeddings(model="n"),
        small_embeddings(types=("a", "b", "c")),
        small_embeddings(values=np.zeros((2, 3, 2))),
        small_embeddings(final=None),
        small_embeddings(meta={"level": "type"}),
    ]
    prints = {embeddings.fingerprint() for embeddings in [same, *others]}
    assert len(prints) == 6
    assert small_embeddings().fingerprint() == same.fingerprint()
    with pytest.raises(ValueError, match="read-only"):
        same.values[0] = 1


def test_the_trained_minilm(minilm):
    """Real weights and a real tokenizer: words near in meaning are near, "bank" follows context."""
    text = (
        "The dog barked. The puppy barked. The economy collapsed. He rowed to the bank of the "
        "river. She sat on the bank of the stream. They robbed the bank for its money."
    )
    stimulus = Stimulus.from_words(text.split())
    result = embed(stimulus, str(minilm), level="token")
    assert result.values.shape == (7, len(stimulus), 384)
    assert result.meta["weights"]

    def similarity(first, second):
        a, b = result.values[-1, first], result.values[-1, second]
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    assert similarity(1, 4) > similarity(1, 7) + 0.1
    banks = [row for row, word in enumerate(stimulus.words) if word == "bank"]
    assert similarity(banks[0], banks[1]) > similarity(banks[0], banks[2])


def test_minilm_agrees_with_pytorch(minilm):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoModel.from_pretrained(minilm).eval()

    def run_model(ids):
        with torch.no_grad():
            out = reference(torch.tensor([ids]), output_hidden_states=True)
        return [state[0].numpy() for state in out.hidden_states]

    stimulus = STIMULUS.select(range(23))
    expected = naive_embed(minilm, "bert", run_model, stimulus, SENTENCES[:2], "mean")
    result = embed(stimulus, str(minilm))
    np.testing.assert_allclose(result.values, by_type(expected, stimulus), atol=2e-5)
