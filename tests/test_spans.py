"""Items of several words: one vector from the words' own, errors with rows, tables, and a study of them."""

import numpy as np
import pandas as pd
import pytest
from small_models import add_letter_tokenizer, save_checkpoint

from brainalign_jax import cli
from brainalign_jax.embedding import Embedding
from brainalign_jax.language import embed, embed_spans
from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.spans import Spans
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.generalisation import run_generalisation
from brainalign_jax.studies.options import Generalisation
from brainalign_jax.study.options import Scoring

SENTENCES = ["she let the cat out of the bag .", "he spilled beans .", "so be it !"]
START, END = [1, 1, 0], [8, 2, 3]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = save_checkpoint("gpt2", tmp_path_factory.mktemp("models") / "gpt2")
    add_letter_tokenizer(folder)
    return folder


@pytest.mark.parametrize("pooling", ["mean", "last", "head"])
def test_a_span_is_pooled_from_its_words_in_their_sentence(model, pooling):
    spans = Spans.of_sentences(
        [s.replace("!", "").strip() for s in SENTENCES], START, END, pooling=pooling
    )
    vectors = embed_spans(spans, model)
    words = embed(spans.stimulus, model, level="token").values
    assert vectors.types == ("let the cat out of the bag", "spilled", "so be it")
    rows = {"mean": slice(1, 8), "last": 7, "head": 7}[pooling]
    wanted = words[:, rows] if pooling != "mean" else words[:, rows].mean(axis=1)
    np.testing.assert_allclose(vectors.values[:, 0], wanted, rtol=1e-6)
    # A span of one word is that word, to the bit.
    np.testing.assert_array_equal(vectors.values[:, 1], words[:, 10])
    assert vectors.meta["spans"]["pooling"] == pooling and "geometry" in vectors.meta


def test_a_head_is_given_or_the_last_content_word():
    words = SENTENCES[0].split()
    assert Spans.of_sentences(SENTENCES, START, END).head.tolist() == [7, 10, 15]
    assert Spans.of_sentences(SENTENCES, [1, 1, 0], [7, 2, 3]).head.tolist() == [3, 10, 15]
    given = Spans.of_sentences(SENTENCES, START, END, head=[1, -1, 0], pooling="head")
    assert given.head.tolist() == [1, 10, 13] and words[1] == "let"
    values = np.random.default_rng(0).standard_normal((2, 17, 3))
    np.testing.assert_array_equal(given.pooled(values), values[:, [1, 10, 13]])


def test_equal_spans_are_one_type_with_the_mean_vector(model):
    spans = Spans.of_sentences(["he let go .", "let go now ."], [1, 0], [3, 2])
    vectors = embed_spans(spans, model)
    words = embed(spans.stimulus, model, level="token").values
    assert vectors.types == ("let go",)
    wanted = np.stack([words[:, 1:3].mean(axis=1), words[:, 4:6].mean(axis=1)]).mean(axis=0)
    np.testing.assert_allclose(vectors.values[:, 0], wanted, rtol=1e-5, atol=1e-7)


def test_equal_spans_are_items_of_their_own_where_they_are_to_be(model):
    sentences = ["he let go .", "Let go now .", "he ran ."]
    spans = Spans.of_sentences(sentences, [1, 0, 1], [3, 2, 2], apart=True)
    vectors = embed_spans(spans, model, lower=True)
    words = embed(spans.stimulus, model, level="token", lower=True).values
    assert spans.items().words == ("let go", "Let go #2", "ran")
    assert vectors.types == ("let go", "let go #2", "ran")
    np.testing.assert_allclose(
        vectors.values[:, 1], words[:, 4:6].mean(axis=1), rtol=1e-5, atol=1e-7
    )


WORDS = Stimulus.from_words(["a", "bb", ".", "cc", "dd", "."], sentence=[0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    ("start", "end", "options", "said"),
    [
        ([0, 2], [1, 2], {}, r"spans empty.*row 2 \(2 to 2\)"),
        ([0, 4], [1, 7], {}, r"outside of the 6 words: row 2 \(4 to 7\)"),
        ([-1], [2], {}, r"outside of the 6 words: row 1"),
        ([0, 1], [1, 4], {}, r"in two sentences: row 2 \(1 to 4\)"),
        ([2], [3], {}, "without a word.*row 1"),
        ([0], [1, 2], {}, "1 starts, 2 ends and 1 heads"),
        ([0], [2], {"head": [2]}, "without their head: row 1"),
        ([], [], {}, "no spans"),
        ([0.5], [2], {}, "start is 0.5 in row 1"),
        ([0], [2], {"pooling": "first"}, "unknown pooling='first'"),
        ([0], [2], {"attributes": {"kind": ["a", "b"]}}, "2 values for 1 words"),
        ([3] * 7, [3] * 7, {}, "row 5 .* and 2 more"),
    ],
)
def test_bad_spans_are_named_by_row(start, end, options, said):
    with pytest.raises(ValueError, match=said) as error:
        Spans(WORDS, start, end, **options)
    assert "\n" not in str(error.value)


def test_spans_of_sentences_keep_to_their_sentence(model):
    with pytest.raises(ValueError, match=r"outside of their sentence: row 2 \(1 to 5\)"):
        Spans.of_sentences(SENTENCES, [1, 1, 0], [8, 5, 3])
    with pytest.raises(ValueError, match="2 starts for 3 sentences"):
        Spans.of_sentences(SENTENCES, [1, 1], END)
    with pytest.raises(ValueError, match="level= is not for spans"):
        embed_spans(Spans(WORDS, [0], [2]), model, level="token")


def span_table(folder, *, n=48, own_maps=True, seed=0):
    """A table of two people's responses to spans, static vectors, and the table of their kinds.

    A span's vector, the mean of its two words', is in the brain: by a map a kind, or by one for both.
    """
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((2 * n + 1, 8))
    lines = [" ".join([f"w{i}", *(f"{x:.5f}" for x in row)]) for i, row in enumerate(vectors)]
    (folder / "vectors.txt").write_text("\n".join(lines) + "\n")
    idiom = np.arange(n) % 2 == 0
    spans = (vectors[0:-1:2] + vectors[1::2]) / 2
    tables = []
    for person in ("P1", "P2"):
        maps = rng.standard_normal((2, 8, 16))
        values = np.where(idiom[:, None], spans @ maps[0], spans @ maps[int(own_maps)])
        values += 0.3 * rng.standard_normal(values.shape)
        table = {
            "word": [f"w{2 * n} w{2 * i} w{2 * i + 1} w{2 * n}" for i in range(n)],
            "subject": person, "span_start": 1, "span_end": 3,
        }  # fmt: skip
        tables.append(pd.DataFrame(table | {f"v{v}": values[:, v] for v in range(16)}))
    pd.concat(tables).to_csv(folder / "spans.csv", index=False)
    kinds = pd.DataFrame({"row": np.arange(1, n + 1), "kind": np.where(idiom, "idiom", "literal")})
    kinds.to_csv(folder / "kinds.csv", index=False)
    return folder / "spans.csv", f"static:{folder / 'vectors.txt'}", folder / "kinds.csv"


@pytest.mark.parametrize("own_maps", [True, False])
def test_spans_of_a_table_are_conditions_of_a_generalisation_study(tmp_path, own_maps):
    table, model, kinds = span_table(tmp_path, own_maps=own_maps)
    dataset = open_dataset("table", table, attributes=kinds)
    assert dataset.stimulus.words[1] == "w2 w3" and len(dataset.spans) == 48
    generalised = run_generalisation(
        dataset,
        [model],
        "kind=idiom;kind=literal",
        plan=Generalisation(n_folds=3, n_splits=1, n_nulls=19, n_bootstraps=200),
        scoring=Scoring(methods=("ridge",), ks=(1,)),
        embedding=Embedding(context="word"),
        progress=False,
    )
    gap = generalised.line(subject="group", layer=-1, metric="gap_rank_accuracy", tested_on="all")
    within = generalised.line(
        subject="group",
        layer=-1,
        metric="rank_accuracy",
        trained_on="kind=idiom",
        tested_on="kind=idiom",
    )
    assert within["value"] > 0.75
    assert (gap["p"] == 0.05 and gap["lower"] > 0) if own_maps else gap["value"] < 0.1


def test_spans_of_a_table_are_read_strictly(tmp_path, capsys):
    path, model, _ = span_table(tmp_path, n=8)
    table = pd.read_csv(path)
    dataset = open_dataset("table", path, span_pooling="last", span_apart=True)
    assert dataset.spans.apart
    assert (
        dataset.spans.pooling == "last"
        and "span_start" not in dataset.load("P1").meta["feature_names"]
    )
    table.drop(columns="span_end").to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"spans.csv.*no 'span_end'"):
        open_dataset("table", path)
    table.assign(span_end=[9] + [3] * 15).to_csv(path, index=False)
    with pytest.raises(
        ValueError, match=r"subject P1: spans outside of their sentence: row 1 \(1 to 9\)"
    ):
        open_dataset("table", path)
    table.assign(span_head=[1] * 8 + [2] * 8).to_csv(path, index=False)
    with pytest.raises(ValueError, match="P2 has other sentences or spans than"):
        open_dataset("table", path)
    table.to_csv(path, index=False)
    arguments = [
        "--dataset=table",
        f"--data_dir={path}",
        f"--models={model}",
        f"--cache_dir={tmp_path / 'c'}",
    ]
    assert cli.main(["embed", *arguments]) == 2
    assert "spans of sentences" in capsys.readouterr().err
