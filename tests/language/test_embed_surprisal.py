"""Surprisal out of the pass that makes the vectors, against `surprisal`'s own pass, a text a row."""

import csv
import subprocess
import sys
import textwrap
from pathlib import Path

import commands
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from safetensors.numpy import load_file, save_file
from small_models import add_letter_tokenizer, save_checkpoint

from brainalign_jax.embedding import EmbedOptions
from brainalign_jax.language import Embeddings, embed, surprisal
from brainalign_jax.language import cache as caching
from brainalign_jax.language.hidden_states import contextual, extraction, pooled_states, streaming
from brainalign_jax.language.models import checkpoint
from brainalign_jax.language.models.heads import load_head
from brainalign_jax.language.text import predicted_tokens
from brainalign_jax.language.text.contexts import Sequences
from brainalign_jax.language.text.packing import Packing
from brainalign_jax.language.text.tokens import load_tokenizer
from brainalign_jax.stimulus import Stimulus

HERE = Path(__file__).resolve()
# The style's head where it is not the word table.
UNTIED = {"pythia": "embed_out.weight", "llama": "lm_head.weight"}


def story(n_sentences=60, seed=0):
    """Sentences of one to four short words in two runs, some of them twice, with lone points."""
    rng = np.random.default_rng(seed)
    sentences = []
    for number in range(n_sentences):
        if number % 5 == 4:
            sentences.append(sentences[number - 3])
            continue
        words = ["".join(rng.choice(list("abcdefgh"), n)) for n in rng.integers(1, 3, 4)]
        words = words[: int(rng.integers(1, 5))]
        sentences.append([*words, "."] if number % 2 else [*words[:-1], words[-1] + "."])
    words = [word for sentence in sentences for word in sentence]
    sentence = np.repeat(np.arange(n_sentences), [len(text) for text in sentences])
    return Stimulus(
        words=words, sentence=sentence, run=sentence // 40, onsets=np.arange(len(words))
    )


STORY = story()
PLAIN = STORY.types()[1] >= 0  # words with a vector at level "type"


def make_folder(style, place):
    """A checkpoint with a tokenizer of letters and a head."""
    folder = Path(save_checkpoint(style, place))
    add_letter_tokenizer(folder)
    # transformers converts the vocabulary files of GPT-2 and OPT alone.
    load_tokenizer(folder, family="gpt2").backend.save(str(folder / "tokenizer.json"))
    if style in UNTIED:
        file = folder / "model.safetensors"
        head = np.random.default_rng(1).standard_normal((60, 16)).astype(np.float32)
        save_file(load_file(file) | {UNTIED[style]: head}, file, metadata={"format": "pt"})
    return str(folder)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    made = {}

    def get(style):
        if style not in made:
            made[style] = make_folder(style, tmp_path_factory.mktemp("models") / style)
        return made[style]

    return get


@pytest.fixture
def packings(monkeypatch):
    """The packings made since."""
    made = []

    def keep(*args, **options):
        made.append(Packing(*args, **options))
        return made[-1]

    monkeypatch.setattr(contextual, "Packing", keep)
    return made


CONTEXTS = {
    "sentence": {"context": "sentence"},
    "window": {"context": "window", "window": 3},
    "stride": {"context": "window", "window": 3, "stride": 4},
    # 60 of a run's 250 sub-tokens: cut into windows.
    "growing": {"context": "growing", "max_tokens": 60},
    "word": {"context": "word"},
}
CASES = [("gpt2", name) for name in CONTEXTS]
CASES += [(style, "sentence") for style in ("opt", "opt-350m", "llama", "pythia")]
CASES += [("opt", "growing"), ("opt", "word"), ("pythia", "stride")]


@pytest.mark.parametrize(("style", "context"), CASES)
def test_one_pass_equals_two(style, context, folder_of, packings):
    options = CONTEXTS[context]
    folder = folder_of(style)
    embedded = embed(STORY, folder, level="token", surprisal=True, batch_tokens=64, **options)
    (packing,) = packings
    assert len(packing) > 1 and (packing.plans[0].shared or context != "sentence")
    expected = surprisal(STORY, folder, **options)
    assert np.isfinite(expected).sum() > 20 or (style, context) == ("gpt2", "word")
    np.testing.assert_allclose(embedded.surprisal, expected, atol=1e-4)
    assert embedded.surprisal.dtype == np.float32 and embedded.meta["surprisal"] == "nats"
    assert not embedded.surprisal.flags.writeable


def test_the_vectors_are_the_same_and_words_without_one_have_no_surprisal(folder_of):
    folder = folder_of("gpt2")
    plain = embed(STORY, folder, batch_tokens=256)
    embedded = embed(STORY, folder, batch_tokens=256, surprisal=True)
    np.testing.assert_array_equal(embedded.values, plain.values)
    assert plain.surprisal is None and "surprisal" not in plain.meta
    expected = np.where(PLAIN, surprisal(STORY, folder), np.nan)
    assert len(PLAIN) > PLAIN.sum() > len(embedded.types)
    np.testing.assert_allclose(embedded.surprisal, expected, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [{"last": "raw"}, {"interventions": "ffn:0,positions"}, {"sublayers": "attention"}],
)
def test_what_the_head_reads_is_the_last_state_whatever_is_pooled(options, folder_of):
    folder = folder_of("gpt2")
    embedded = embed(STORY, folder, level="token", surprisal=True, **options)
    expected = surprisal(STORY, folder, interventions=options.get("interventions"))
    np.testing.assert_allclose(embedded.surprisal, expected, atol=1e-4)


@pytest.mark.parametrize("style", ["gpt2", "pythia"])
def test_half_precision_is_of_the_states_alone(style, folder_of):
    """Logits, their sum over the vocabulary and the sums over words stay in float32."""
    model = checkpoint.load_model(folder_of(style), dtype="bfloat16")
    head = load_head(folder_of(style), model)
    table = np.asarray((model.words.table if head.weight is None else head.weight)[...], float)
    states = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 16)), jnp.bfloat16)
    finished = np.asarray(model.finish(states), float).reshape(10, 16)
    # Row 3 lies beyond the last, as what pads a batch does.
    place, target, row = np.array([[7, 0, 7, 3], [5, 59, 0, 1], [1, 0, 1, 3]], np.int32)
    expected = scipy.special.log_softmax(finished @ table.T, axis=1)[place, target]
    sums = jnp.asarray([0, 100, 7], jnp.float32)
    scored = predicted_tokens.Scored(place, target, row)
    added = pooled_states.add_surprisal(sums, model, head, states, scored)
    wanted = [-expected[1], 100 - expected[0] - expected[2], 7]
    np.testing.assert_allclose(added, wanted, atol=2e-5)


def test_other_layouts(folder_of, monkeypatch):
    for style in ("opt-350m", "pythia"):
        options = dict(level="token", surprisal=True, batch_tokens=256)
        whole = embed(STORY, folder_of(style), layout="whole", **options)
        streamed = embed(STORY, folder_of(style), layout="streamed", **options)
        np.testing.assert_allclose(streamed.surprisal, whole.surprisal, atol=1e-5)
        with monkeypatch.context() as patch:  # the vectors' sums lie on the host
            patch.setattr(extraction, "device_bytes", lambda: 0)
            outside = embed(STORY, folder_of(style), layout="whole", **options)
        np.testing.assert_allclose(outside.surprisal, whole.surprisal, atol=1e-5)
        np.testing.assert_allclose(outside.values, whole.values, atol=1e-5)


SHARDED = """
    import sys
    sys.path[:0] = {path!r}
    import numpy as np, jax
    from test_embed_surprisal import STORY, make_folder
    from brainalign_jax.language import embed

    assert jax.local_device_count() == 4
    for style in ("gpt2", "pythia"):
        folder = make_folder(style, sys.argv[1] + "/" + style)
        whole, sharded = (
            embed(STORY, folder, level="token", surprisal=True, batch_tokens=512, layout=layout)
            for layout in ("whole", "sharded")
        )
        np.testing.assert_allclose(sharded.surprisal, whole.surprisal, atol=1e-4)
        print(style, "same")
"""


def test_a_model_divided_among_four_devices(tmp_path):
    path = [str(HERE.parent), str(HERE.parents[1]), str(HERE.parents[2])]
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            textwrap.dedent(SHARDED).format(path=path),
            tmp_path,
        ],
        env=commands.with_devices(4),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:-1] == ["gpt2 same", "pythia same"]


@pytest.mark.parametrize("layout", ["whole", "streamed"])
def test_the_cache_keeps_it_and_an_interrupted_pass_goes_on(
    layout, folder_of, tmp_path, monkeypatch
):
    folder, place = folder_of("gpt2"), tmp_path / "cache"
    options = dict(surprisal=True, batch_tokens=64, layout=layout)
    expected = embed(STORY, folder, **options)
    write, saved = caching.Partial.save, []
    stop_at = {"whole": 2, "streamed": 1}[layout]

    def save(self, plan, done, arrays):
        write(self, plan, done, arrays)
        saved.append(done)
        if done == stop_at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(caching.Partial, "due", lambda self: True)
        patch.setattr(caching.Partial, "save", save)
        with pytest.raises(KeyboardInterrupt):
            embed(STORY, folder, cache_dir=place, **options)
        resumed = embed(STORY, folder, cache_dir=place, **options)
    assert saved.count(stop_at) == 1, "a finished part was computed again"
    if layout == "whole":
        assert len(saved) > stop_at
    np.testing.assert_array_equal(resumed.surprisal, expected.surprisal)
    assert resumed.fingerprint() == expected.fingerprint()

    plain = embed(STORY, folder, cache_dir=place)
    assert plain.surprisal is None
    monkeypatch.setattr(checkpoint, "open_weights", None)
    again = embed(STORY, folder, surprisal=True, cache_dir=place)
    assert again.fingerprint() == expected.fingerprint()
    np.testing.assert_array_equal(again.surprisal, expected.surprisal)
    assert caching.EmbeddingCache(place).faults() == {}


def test_a_state_without_surprisal_is_not_gone_on_with(folder_of):
    """The plan of what was saved says whether the sums hold it."""
    plans = []

    class Plans:
        def load(self, plan):
            plans.append(plan)

        def due(self):
            return False

    tokenizer = load_tokenizer(folder_of("gpt2"), family="gpt2")
    model = checkpoint.load_model(folder_of("gpt2"))
    kept = dict(token_to_row=np.arange(len(STORY)), saver=Plans())
    read_head = lambda model: contextual.Head(model.config, tied=True, dtype=None, rngs=None)  # noqa: E731
    for more in ({}, {"read_head": read_head}):
        contextual.contextual_vectors(STORY, model, tokenizer, EmbedOptions(), **kept, **more)
    assert len(set(plans)) == 2


def test_the_head_is_not_run_where_nothing_is_scored(folder_of, packings):
    """One word in four is scored of a window of four, so the head reads about a quarter."""
    embed(STORY, folder_of("gpt2"), level="token", surprisal=True, context="window", window=3)
    (packing,) = packings
    for batch in packing.batches():
        assert batch.scored.place.size < 0.45 * batch.ids.size


def test_sub_tokens_are_predicted_within_their_text(folder_of, packings):
    embed(STORY, folder_of("gpt2"), level="token", surprisal=True, batch_tokens=256)
    (packing,) = packings
    scored = np.zeros(len(STORY), int)
    for batch in packing.batches():
        place, target, row = (field[batch.scored.row < len(STORY)] for field in batch.scored)
        ids, text = batch.ids.ravel(), batch.text.ravel()
        line = np.arange(ids.size) // batch.ids.shape[1]
        np.testing.assert_array_equal(ids[place + 1], target)
        np.testing.assert_array_equal(text[place + 1], text[place])
        np.testing.assert_array_equal(line[place + 1], line[place])
        np.add.at(scored, row, 1)
    # A sub-token a letter, and the space before a word but the first; equal sentences are scored once.
    sentence = STORY.sentence
    first = {}
    for row, word in enumerate(STORY.words):
        inside = tuple(STORY.words[i] for i in np.flatnonzero(sentence == sentence[row]))
        at = row - np.flatnonzero(sentence == sentence[row])[0]
        owner = first.setdefault((inside, at), row)
        assert scored[row] == (len(word) + (at > 0) if owner == row else 0)


def test_words_that_the_vocabulary_lacks_and_numbers_that_overflow():
    class Unknown:
        unknown_id = 7

    stimulus = Stimulus.from_words(["a", "b", "c", "a", "b", "c"])
    ids = [np.array([1, 2, 7, 3, 4])]
    targets = [[((0, 3), (0,)), ((1, 4), (1,)), ((2, 5), (3, 4))]]
    sequences = Sequences(ids, targets, [], [[(0, 1), (1, 3), (3, 5)]])
    (predicted,) = predicted_tokens.predicted_in(sequences)
    assert [field.tolist() for field in predicted] == [[0, 1, 2, 3], [2, 7, 3, 4], [1, 1, 2, 2]]
    sums = np.array([0, 5, 6, 0, 0, 0], np.float32)
    with pytest.warns(UserWarning, match="2 words .* pieces that the vocabulary lacks"):
        values = predicted_tokens.word_values(sums, sequences, Unknown, stimulus)
    np.testing.assert_array_equal(values, [np.nan, np.nan, 6, np.nan, np.nan, 6])
    sums[2] = np.inf
    with pytest.raises(ValueError, match=r"surprisal of word 2 \('c'\) is inf"):
        predicted_tokens.word_values(sums, sequences, Unknown, stimulus)


def test_a_word_longer_than_the_model_has_none(folder_of):
    long = Stimulus.from_words(["ab", "b", "abc" * 20, "cab"], sentence=[0] * 4)
    options = {"max_tokens": 30, "bos": "never"}
    with pytest.warns(UserWarning, match="more sub-tokens than the 30"):
        embedded = embed(long, folder_of("gpt2"), level="token", surprisal=True, **options)
        expected = surprisal(long, folder_of("gpt2"), **options)
    np.testing.assert_allclose(embedded.surprisal, expected, atol=1e-4)
    np.testing.assert_array_equal(np.isnan(expected), [True, False, True, True])


def test_models_that_cannot(folder_of, tmp_path, monkeypatch):
    bert = make_folder("bert", tmp_path / "bert")
    with pytest.raises(ValueError, match=r"both directions.*language\.surprisal\(stimulus"):
        embed(STORY, bert, surprisal=True)
    headless = Path(save_checkpoint("pythia", tmp_path / "pythia"))
    tokenizer = Path(folder_of("pythia")) / "tokenizer.json"
    (headless / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    with pytest.raises(ValueError, match="holds no language-model head"):
        embed(STORY, str(headless), surprisal=True)
    with monkeypatch.context() as patch:  # known before the first layer is read
        patch.setattr(streaming, "_layers_from", None)
        with pytest.raises(ValueError, match="holds no language-model head"):
            embed(STORY, str(headless), surprisal=True, layout="streamed")
    path = tmp_path / "glove.txt"
    path.write_text("dog 1 2\n")
    with pytest.raises(ValueError, match="predicts no words"):
        embed(Stimulus.from_words(["dog"]), f"static:{path}", surprisal=True)
    with pytest.raises(ValueError, match=r"surprisal='bits' must be True or False"):
        embed(STORY, folder_of("gpt2"), surprisal="bits")


def test_embeddings_with_surprisal_as_a_file(tmp_path):
    def make(surprisal=(np.nan, 1.5, 2, 3), level="type", **more):
        values = np.arange(12).reshape(2, 3, 2)
        return Embeddings("m", ("a", "b", "c"), values, None, {"level": level}, surprisal, **more)

    vectors = make()
    again = Embeddings.load(vectors.save(tmp_path / "m.npz"))
    np.testing.assert_array_equal(again.surprisal, [np.nan, 1.5, 2, 3])
    assert again.fingerprint() == vectors.fingerprint()
    others = make(None), make((np.nan, 1.5, 2, 4)), make((1, 1.5, 2, 3))
    assert len({variant.fingerprint() for variant in (vectors, *others)}) == 4
    assert Embeddings.load(others[0].save(tmp_path / "n.npz")).surprisal is None
    with pytest.raises(ValueError, match=r"surprisal has shape \(4,\); expected \[3\]"):
        make(level="token")
    with pytest.raises(ValueError, match=r"surprisal\[1\] is inf"):
        make((0, np.inf, 1, 2))


def test_the_script_writes_a_table(folder_of, tmp_path):
    words = ["ab", "cab", "a", "bad.", "dad", '"', "b"]
    table = tmp_path / "words.csv"
    with table.open("w", newline="") as file:
        rows = [(word, 0, n, n * n) for n, word in enumerate(words)]
        csv.writer(file).writerows([("word", "sentence", "a", "b"), *rows])
    folder, out = folder_of("opt"), tmp_path / "out" / "surprisal.csv"
    command = [sys.executable, "-W", "ignore", "-m", "experiments.extract_embeddings"]
    command += [f"--models={folder},untrained:{folder}", "--dataset=table", f"--data_dir={table}"]
    command += [f"--cache_dir={tmp_path / 'cache'}", "--level=token", "--noprogress", "--list"]
    done = subprocess.run(
        [*command, f"--surprisal={out}"], cwd=HERE.parents[2], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with out.open(newline="") as file:
        written = list(csv.DictReader(file))
    stimulus = Stimulus(words=words, sentence=[0] * 7)
    for number, model in enumerate((folder, f"untrained:{folder}")):
        own = written[7 * number : 7 * (number + 1)]
        assert [(line["model"], line["row"], line["word"]) for line in own] == [
            (model, str(row), word) for row, word in enumerate(words)
        ]
        for unit in ("nats", "bits"):
            values = [float(line[unit]) for line in own]
            expected = surprisal(stimulus, model, unit=unit)
            np.testing.assert_allclose(values, expected, atol=1e-4)
    assert f"surprisal of 7 of 7 words in {out}" in done.stdout
    assert done.stdout.count(", surprisal") == 2
