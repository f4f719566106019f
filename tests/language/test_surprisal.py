"""Surprisal against slow loops: one text, one word, one masked sub-token at a time."""

import json
import shutil
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from brainalign_jax.language import surprisal
from brainalign_jax.language import surprisal as surprisal_function
from brainalign_jax.language.models import hidden_states, load_model
from brainalign_jax.language.models.heads import _token_scores, load_head
from brainalign_jax.language.models.interventions import gates
from brainalign_jax.stimulus import Stimulus

MODELS = Path(__file__).parents[1] / "fixtures" / "models"
WORDS = ["a", "dog.", "cab", "bad", "dad,", "bac", "ab-c", "the", "Dab", "abacad", "b.", "cad", "a"]
STIMULUS = Stimulus(
    words=WORDS,
    sentence=[0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3],
    run=[0] * 9 + [1] * 4,
    onsets=[float(i) for i in range(9)] + [float(i) for i in range(4)],
)
CHARACTERS = list("abcdeghot.,-")
# The head's tensors: weight, bias, dense, norm.
HEADS = {
    "gpt2-lm": ("transformer.wte.weight",),
    "gpt-neo-lm": ("transformer.wte.weight",),
    "opt-lm": ("model.decoder.embed_tokens.weight",),
    "pythia-lm": ("embed_out.weight",),
    "llama-lm": ("lm_head.weight",),
    "qwen3-lm": ("model.embed_tokens.weight",),
    "bert-mlm": (
        "bert.embeddings.word_embeddings.weight",
        "cls.predictions.bias",
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
    ),
    "roberta-mlm": (
        "roberta.embeddings.word_embeddings.weight",
        "lm_head.bias",
        "lm_head.dense",
        "lm_head.layer_norm",
    ),
    "distilbert-mlm": (
        "distilbert.embeddings.word_embeddings.weight",
        "vocab_projector.bias",
        "vocab_transform",
        "vocab_layer_norm",
    ),
}
MASKED = [name for name in HEADS if name.endswith("mlm")]
CAUSAL = [name for name in HEADS if name.endswith("-lm")]


def byte_level(prefix, suffix):
    """A vocabulary of single letters and a few merges, the space before a word its own letter."""
    letters = [*CHARACTERS, "Ġ", "D"]
    merges = [("Ġ", "a"), ("a", "b"), ("Ġ", "d"), ("a", "d")]
    vocabulary = ["<s>", "<pad>", "</s>", "<mask>", *letters, *("".join(m) for m in merges)]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(vocabulary)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(vocabulary[:4])
    if prefix or suffix:
        template = [*(["<s>"] if prefix else []), "$A", *(["</s>"] if suffix else [])]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join(template), special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    return tokenizer


def wordpiece():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS, "dog", "cab"]
    vocabulary += ["##" + c for c in CHARACTERS if c.isalpha()]
    tokenizer = Tokenizer(
        models.WordPiece({t: i for i, t in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(vocabulary[:5])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


@pytest.fixture
def folder(tmp_path):
    """folder(name) → a copy of a tiny checkpoint with a tokenizer for WORDS."""

    def copy(name):
        target = tmp_path / name
        shutil.copytree(MODELS / name, target)
        if name == "pythia-lm":  # the name in the checkpoints on the hub
            tensors = load_file(target / "model.safetensors")
            tensors["embed_out.weight"] = tensors.pop("lm_head.weight")
            save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
        if name in ("bert-mlm", "distilbert-mlm"):
            tokenizer = wordpiece()
        else:
            both = name == "roberta-mlm"
            tokenizer = byte_level(both or name in ("opt-lm", "llama-lm"), both)
        tokenizer.save(str(target / "tokenizer.json"))
        return target

    return copy


def numpy_head(folder, config):
    """logits(states [T, D]) in float64 from the file's own tensors."""
    tensors = load_file(folder / "model.safetensors")
    weight, *rest = (name for name in HEADS[folder.name])

    def tensor(name):
        return tensors[name].astype(np.float64)

    def logits(x):
        if rest:
            bias, dense, norm = rest
            x = x @ tensor(f"{dense}.weight").T + tensor(f"{dense}.bias")
            x = np.array([[gelu(v) for v in row] for row in x])
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(
                x.var(-1, keepdims=True) + config.norm_eps
            )
            x = x * tensor(f"{norm}.weight") + tensor(f"{norm}.bias")
            return x @ tensor(weight).T + tensor(bias)
        return x @ tensor(weight).T

    return logits


def gelu(value):
    from math import erf, sqrt

    return value * 0.5 * (1 + erf(value / sqrt(2)))


class Oracle:
    """Log-probabilities of one sequence at a time."""

    def __init__(self, folder, setting=""):
        self.model = load_model(str(folder))
        self.logits = numpy_head(folder, self.model.config)
        self.off = gates(setting, self.model.config)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def log_probabilities(self, ids):
        padded, mask = np.zeros((2, 1, 20), np.int32)  # one shape, one compilation
        padded[0, : len(ids)], mask[0, : len(ids)] = ids, 1
        hidden = hidden_states(self.model, padded, mask, interventions=self.off)
        x = self.logits(np.asarray(hidden.states[-1, 0, : len(ids)], np.float64))
        return (
            x
            - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))
            - x.max(-1, keepdims=True)
        )

    def ids_of(self, words):
        """The sub-tokens of each word, each encoded by itself with the space before it."""
        spaced = [(" " if i else "") + word for i, word in enumerate(words)]
        return [self.tokenizer.encode(w, add_special_tokens=False).ids for w in spaced]


def causal_oracle(oracle, texts, prefix):
    values = []
    for words in texts:
        ids, spans = list(prefix), []
        for own in oracle.ids_of(words):
            spans.append(range(len(ids), len(ids) + len(own)))
            ids += own
        scores = oracle.log_probabilities(ids)
        for span in spans:
            if 0 in span:
                values.append(np.nan)
            else:
                values.append(-sum(scores[t - 1, ids[t]] for t in span))
    return np.array(values)


def masked_oracle(oracle, texts, special, mask_id, metric):
    values = []
    for words in texts:
        ids, groups = [special[0]], [-1]
        spans = []
        for number, word in enumerate(words):
            start = len(ids)
            # In the tokenizer's eyes punctuation is a word of its own.
            for part_number, part in enumerate(split_punctuation(word)):
                spaced = " " + part if number and not part_number else part
                own = oracle.tokenizer.encode(spaced, add_special_tokens=False).ids
                ids += own
                groups += [(number, part_number)] * len(own)
            spans.append(range(start, len(ids)))
        ids.append(special[1])
        groups.append(-1)
        for span in spans:
            total = 0.0
            for t in span:
                masked = list(ids)
                masked[t] = mask_id
                if metric == "within_word_l2r":
                    for later in span:
                        if later > t and groups[later] == groups[t]:
                            masked[later] = mask_id
                total -= oracle.log_probabilities(masked)[t, ids[t]]
            values.append(total)
    return np.array(values)


def split_punctuation(word):
    parts = [word[0]]
    for before, character in zip(word, word[1:], strict=False):
        if before.isalpha() and character.isalpha():
            parts[-1] += character
        else:
            parts.append(character)
    return parts


def grouped(key):
    texts: dict = {}
    for word, k in zip(WORDS, key, strict=True):
        texts.setdefault(k, []).append(word)
    return list(texts.values())


SENTENCES = grouped(STIMULUS.sentence)


@pytest.mark.parametrize("name", CAUSAL)
def test_causal_models_equal_a_loop(name, folder):
    target = folder(name)
    oracle = Oracle(target)
    own = name in ("opt-lm", "llama-lm")  # their tokenizers put <s> there
    named = name != "qwen3-lm"  # whose files name no first token
    for bos, prefix in (("auto", [0] if named else []), ("never", [0] if own else [])):
        surprisals = surprisal(STIMULUS, str(target), context="sentence", bos=bos)
        expected = causal_oracle(oracle, SENTENCES, prefix)
        assert np.isnan(expected).sum() == (0 if prefix else 4)
        np.testing.assert_allclose(surprisals, expected, atol=2e-5)
        assert surprisals.shape == (len(WORDS),) and surprisals.dtype == np.float32


@pytest.mark.parametrize("metric", ["original", "within_word_l2r"])
@pytest.mark.parametrize("name", MASKED)
def test_masked_models_equal_a_loop(name, metric, folder):
    target = folder(name)
    surprisals = surprisal(STIMULUS, str(target), metric=metric)
    special, mask_id = ((0, 2), 3) if name == "roberta-mlm" else ((2, 3), 4)
    expected = masked_oracle(Oracle(target), SENTENCES, special, mask_id, metric)
    np.testing.assert_allclose(surprisals, expected, atol=2e-5)


def test_the_metrics_differ_where_a_word_has_several_sub_tokens(folder):
    target = str(folder("bert-mlm"))
    a, b = (surprisal(STIMULUS, target, metric=m) for m in ("original", "within_word_l2r"))
    single = [word in ("a", "cab") for word in WORDS]
    np.testing.assert_allclose(a[single], b[single], atol=1e-5)
    assert np.abs(a - b).max() > 1e-2


def test_bits_windows_and_parts_off(folder):
    target = folder("gpt2-lm")
    nats = surprisal(STIMULUS, str(target), context="sentence")
    bits = surprisal(STIMULUS, str(target), context="sentence", unit="bits", bos="always")
    np.testing.assert_allclose(bits, nats / np.log(2), rtol=1e-6)
    windows = [WORDS[max(0 if i < 9 else 9, i - 2) : i + 1] for i in range(len(WORDS))]
    expected = [causal_oracle(Oracle(target), [text], [0])[-1] for text in windows]
    surprisals = surprisal(STIMULUS, str(target), context="window", window=2)
    np.testing.assert_allclose(surprisals, expected, atol=2e-5)

    off = "head:0.1,ffn:1,positions"
    surprisals = surprisal(STIMULUS, str(target), context="sentence", interventions=off)
    np.testing.assert_allclose(
        surprisals, causal_oracle(Oracle(target, off), SENTENCES, [0]), atol=2e-5
    )
    assert np.nanmax(np.abs(surprisals - nats)) > 1e-2


def test_a_text_longer_than_the_model_is_read_in_stretches(folder):
    """Every word is scored once, with at least half of the model's length before it."""
    target = folder("gpt2-lm")  # 20 positions
    words = ["dog"] * 30
    text = Stimulus(words=words, sentence=[0] * 30)
    surprisals = surprisal(text, str(target), context="sentence", bos="never")
    assert np.isfinite(surprisals[1:]).all() and np.isnan(surprisals[0])
    oracle = Oracle(target)
    ids = oracle.ids_of(words)
    n = len(ids[1])
    # The first stretch: all that fits; the second: half of it as context.
    first = 20 // n
    begin = first - 10 // n
    stretch = [token for word in ids[begin : begin + 20 // n] for token in word]
    scores = oracle.log_probabilities(stretch)
    place = (first - begin) * n
    expected = -sum(scores[t - 1, stretch[t]] for t in range(place, place + n))
    np.testing.assert_allclose(surprisals[first], expected, atol=2e-5)


def test_words_without_a_value_are_nan_with_a_warning(folder):
    words = ["a", "dog", "名", "b" * 25, "cab"]
    text = Stimulus(words=words, sentence=[0] * 5)
    with pytest.warns(UserWarning) as caught:
        surprisals = surprisal(text, str(folder("bert-mlm")))
    np.testing.assert_array_equal(np.isnan(surprisals), [False, False, True, True, False])
    assert any("pieces that the vocabulary lacks" in str(w.message) for w in caught)
    assert any("more than the 20" in str(w.message) for w in caught)


def test_batches_change_nothing(folder):
    for name in ("llama-lm", "roberta-mlm"):
        target = str(folder(name))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            by_batch_size = [
                surprisal(STIMULUS, target, context="sentence", batch_tokens=size)
                for size in (16, 512)
            ]
        np.testing.assert_allclose(*by_batch_size, atol=1e-5)


def test_pieces_of_the_vocabulary_equal_the_whole(monkeypatch):
    from brainalign_jax.language.models import heads

    rng = np.random.default_rng(0)
    x, table, bias = (rng.standard_normal(shape) for shape in ((5, 7), (23, 7), 23))
    targets = rng.integers(0, 23, 5)
    targets[2:] = (x @ table.T + bias).argmax(axis=1)[2:]
    logits = x @ table.T + bias
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for at_once in (1, 5 * 4, 5 * 10, 5 * 23, 1 << 24):
        monkeypatch.setattr(heads, "_LOGITS_AT_ONCE", at_once)
        arrays = (jnp.asarray(a, jnp.float32) for a in (x, table, bias))
        scores = _token_scores(*arrays, jnp.asarray(targets))
        np.testing.assert_allclose(scores.log_probability, expected[range(5), targets], atol=1e-5)
        assert scores.likeliest.tolist() == (logits.argmax(axis=1) == targets).tolist()


def test_logits_of_the_whole_vocabulary_never_exist(folder, monkeypatch):
    import jax

    from brainalign_jax.language.models import heads

    monkeypatch.setattr(heads, "_LOGITS_AT_ONCE", 9 * 8)
    x, table = jnp.ones((9, 4)), jnp.ones((1000, 4))
    jaxpr = str(jax.make_jaxpr(_token_scores)(x, table, None, jnp.zeros(9, jnp.int32)))
    assert "f32[9,8]" in jaxpr and "[9,1000]" not in jaxpr


def test_a_checkpoint_without_a_head(folder):
    target = folder("bert-mlm")
    tensors = load_file(target / "model.safetensors")
    kept = {k: v for k, v in tensors.items() if not k.startswith("cls.")}
    save_file(kept, target / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="holds no language-model head"):
        surprisal(STIMULUS, str(target))


def test_an_untrained_model_has_a_head(folder):
    for name in ("pythia-lm", "distilbert-mlm"):
        target = folder(name)
        surprisals = surprisal(STIMULUS, f"untrained:{target}", context="sentence", seed=3)
        # Near a uniform guess: "a" is one sub-token, " dog." are four ("Ġd" is one).
        value, count = (surprisals[0], 1) if name in MASKED else (surprisals[1], 4)
        assert abs(value - count * np.log(60)) < 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"unit": "bans"}, "unit='bans'"),
        ({"metric": "l2r"}, "metric='l2r'"),
        ({"context": "story"}, "context='story'"),
        ({"interventions": "head:9.9"}, "blocks 0 to 1"),
    ],
)
def test_unknown_options(options, message, folder):
    with pytest.raises(ValueError, match=message):
        surprisal_function(STIMULUS, str(folder("gpt2-lm")), **options)


def test_logits_equal_pytorchs():
    """The heads of all fixtures against transformers' own logits."""
    torch = pytest.importorskip("torch")
    import transformers

    rng = np.random.default_rng(0)
    ids = rng.integers(3, 60, (2, 9)).astype(np.int32)
    for name in HEADS:
        source = MODELS / name
        auto = (
            transformers.AutoModelForMaskedLM
            if name in MASKED
            else transformers.AutoModelForCausalLM
        )
        theirs = auto.from_pretrained(source).eval()
        with torch.no_grad():
            logits = theirs(torch.tensor(ids, dtype=torch.long)).logits
        expected = torch.log_softmax(logits.double(), -1).numpy()
        model = load_model(str(source))
        head = load_head(str(source), model)
        states = hidden_states(model, ids, np.ones_like(ids)).states[-1]
        flat = ids.ravel()
        scores = head.token_scores(model, states.reshape(len(flat), -1), jnp.asarray(flat))
        wanted = expected.reshape(len(flat), -1)[range(len(flat)), flat]
        np.testing.assert_allclose(scores.log_probability, wanted, atol=2e-5)


def test_settings_in_json(folder):
    target = str(folder("gpt2-lm"))
    as_text = surprisal(STIMULUS, target, context="sentence", interventions="layer:0")
    as_json = json.dumps({"off": {"layers": [0]}})
    same = surprisal(STIMULUS, target, context="sentence", interventions=as_json)
    np.testing.assert_array_equal(as_text, same)
