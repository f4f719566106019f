"""Which part carries it? Vectors against embed and by hand, a planted head, noise, and what is refused."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from recordings import make_embeddings, make_responses
from safetensors.numpy import load_file
from small_models import add_letter_tokenizer, save_checkpoint

from brainalign_jax import cli
from brainalign_jax.embedding import Embedding
from brainalign_jax.language import embed
from brainalign_jax.language.parts.ablation import Ablation as Ablated
from brainalign_jax.language.parts.ablation import BlockFacts, random_removal
from brainalign_jax.language.parts.components import Component, Setting, components_of
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.spans import Spans
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.ablation import AblationTable, headline, run_ablation, verdicts
from brainalign_jax.studies.ablation.table import fall_p
from brainalign_jax.studies.options import Ablation
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.run import run_study

N, PEOPLE = 60, 7
QUICK = Ablation(
    components=("heads",), how=("zero",), controls=False, n_flips=199, n_bootstraps=100
)
SCORING = Scoring(methods=("ridge",), ks=(1, 10))


@pytest.fixture(scope="module")
def sentences():
    """Sentences of five words of letters, each word once."""
    rng = np.random.default_rng(0)
    words = list(
        dict.fromkeys("".join(rng.choice(list("abcdefghijklmnop"), 3)) for _ in range(200))
    )[:N]
    return Stimulus(tuple(words), sentence=np.arange(N) // 5)


def recorded(words, signal, noise, seed=0, n_people=PEOPLE):
    """A data set of people whose responses are the signal [N, D] through a map of their own, and noise."""
    rng = np.random.default_rng(seed)
    signal = (signal - signal.mean(axis=0)) / signal.std()
    people = {}
    for person in range(n_people):
        own = signal @ rng.standard_normal((signal.shape[1], 16)) / np.sqrt(signal.shape[1])
        values = own + noise * rng.standard_normal((len(signal), 16))
        people[f"S{person}"] = make_responses(words, values, subject=f"S{person}")
    return Dataset("made", tuple(people), words, people.__getitem__)


def written(words, model, block, head):
    """What a head of the first block adds to the residual [N, D]."""
    whole, without = (
        embed(words, model, sublayers="attention", interventions=off).values[block + 1]
        for off in (None, f"head:{block}.{head}")
    )
    return whole - without


@pytest.mark.parametrize("style", ["gpt2", "llama", "pythia"])
def test_what_is_zero_equals_the_whole_model_with_its_factors(style, folder_of, sentences):
    """`embed` with interventions runs every block; it is compared with PyTorch in test_interventions.py."""
    model = folder_of(style)
    texts = {
        "head:0.1": Component("heads", 0, 1), "attention:1": Component("attention", 1),
        "ffn:0": Component("ffn", 0), "layer:0": Component("layers", 0), "positions": Component("positions"),
    }  # fmt: skip
    settings = [Setting(component, "zero") for component in texts.values()]
    made = Ablated(sentences, model).vectors(settings, (1, 2), bits=False)
    by_component = {each.setting.component: each.layers for each in made}
    for text, component in texts.items():
        expected = embed(sentences, model, interventions=text).values
        assert sorted(by_component[component]) == ([2] if component.block == 1 else [1, 2])
        for layer, values in by_component[component].items():
            np.testing.assert_allclose(values, expected[layer], atol=2e-5)


def by_hand(folder, sequences, sentences):
    """Vectors of layer 1 where attention 0 of GPT-2 gives its mean over all sub-tokens, with NumPy alone."""
    tensors = load_file(Path(folder) / "model.safetensors")
    tensors = {name.removeprefix("transformer."): x.astype(float) for name, x in tensors.items()}

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * tensors[f"h.0.{name}.weight"] + tensors[f"h.0.{name}.bias"]

    def dense(x, name):
        return x @ tensors[f"h.0.{name}.weight"] + tensors[f"h.0.{name}.bias"]

    def attention(x):
        query, key, value = np.split(dense(norm(x, "ln_1"), "attn.c_attn"), 3, axis=-1)
        outputs = []
        for head in np.split(np.arange(16), 4):
            scores = query[:, head] @ key[:, head].T / 2
            weights = np.exp(np.where(np.tril(np.ones_like(scores)) > 0, scores, -np.inf))
            outputs.append(weights / weights.sum(axis=1, keepdims=True) @ value[:, head])
        return dense(np.concatenate(outputs, axis=1), "attn.c_proj")

    entering = [
        tensors["wte.weight"][ids] + tensors["wpe.weight"][: len(ids)] for ids in sequences.ids
    ]
    mean = np.concatenate([attention(x) for x in entering]).mean(axis=0)
    row_of, vectors = sentences.types()[1], np.zeros((N, 16))
    for x, targets in zip(entering, sequences.targets, strict=True):
        inner = dense(norm(x + mean, "ln_2"), "mlp.c_fc")
        inner = inner / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
        y = x + mean + dense(inner, "mlp.c_proj")
        for (owner,), tokens in targets:
            vectors[row_of[owner]] = y[list(tokens)].mean(axis=0)
    return vectors


def test_what_is_replaced_by_its_mean_equals_numpy(folder_of, sentences):
    model = folder_of("gpt2")
    ablated = Ablated(sentences, model)
    (made,) = ablated.vectors([Setting(Component("attention", 0), "mean")], (), bits=False)
    expected = by_hand(model, ablated._packing.sequences, sentences)
    np.testing.assert_allclose(made.layers[1], expected, atol=2e-5)
    (random,) = ablated.vectors([Setting(Component("heads", 0, 0), "random")], (), bits=False)
    assert np.abs(random.layers[1] - embed(sentences, model).values[1]).max() > 0.001


def test_a_random_share_has_the_norm_that_is_asked_for():
    x = np.random.default_rng(0).standard_normal((500, 16)) * np.geomspace(0.1, 10, 16)
    moments = x.T @ x / len(x)
    for part in (0.01, 0.3, 0.5):
        facts = BlockFacts(None, None, moments)
        removal = np.asarray(random_removal(facts, part * np.trace(moments), (0,)))
        removed = np.square(x @ removal).sum(axis=1).mean()
        np.testing.assert_allclose(removed, part * np.trace(moments), rtol=1e-4)


def check_intact(table, dataset, model, scoring):
    """The intact rows are the scores of a study of the same."""
    study = run_study(dataset, [model], scoring, evidence=None, progress=False)
    expected = study.rows[
        (study.rows["fold"] == -1) & study.rows["metric"].isin(set(table.rows["metric"]))
    ]
    key = ["subject", "method", "layer", "metric", "k"]
    ours = table.rows[table.rows["component"] == "intact"].set_index(key)["value"]
    for place, value in expected.set_index(key)["value"].items():
        np.testing.assert_allclose(ours.loc[place], value, atol=1e-6)


@pytest.mark.parametrize("planted", [(0, 2), (1, 1)])
def test_a_planted_head_comes_first(planted, folder_of, sentences):
    block, head = planted
    model = folder_of("gpt2", sharpness=4.0)
    dataset = recorded(sentences, written(sentences, model, block, head), noise=0.5)
    table = run_ablation(dataset, [model], plan=QUICK, scoring=SCORING, progress=False)
    if block == 0:
        check_intact(table, dataset, model, SCORING)
    for readout in ("refit", "frozen"):
        rows = table.group(
            metric="rank_accuracy", readout=readout, layer=block + 1, component="heads"
        )
        rows = rows[rows["block"] == block].sort_values("change")
        first = rows.iloc[0]
        people = table.rows[(table.rows["subject"] != "group") & table.rows["change"].notna()]
        assert (people["lower"] <= people["change"]).all()
        assert (people["upper"] >= people["change"]).all()
        assert first["head"] == head and first["p_max"] < 0.05 and first["upper"] < 0
        assert first["change"] < 2 * rows.iloc[1]["change"] - 0.02
    assert f"head {block}.{head}" in headline(table) and verdicts(table)[0].answer == "rests"


def test_noise_rests_on_nothing(folder_of, sentences):
    model = folder_of("gpt2", sharpness=4.0)
    noise = np.random.default_rng(5).standard_normal((N, 16))
    plan = dataclasses.replace(QUICK, bits=False)
    table = run_ablation(
        recorded(sentences, noise, noise=1.0), [model], plan=plan, scoring=SCORING, progress=False
    )
    assert table.rows["bits_change"].isna().all()
    assert verdicts(table)[0].answer == "nothing"
    assert table.group(metric="rank_accuracy")["p_max"].min() > 0.01


def test_what_is_written_is_what_was_found(folder_of, sentences, tmp_path):
    model = folder_of("gpt2", sharpness=4.0)
    dataset = recorded(sentences, written(sentences, model, 0, 2), noise=0.5, n_people=2)
    ways = ("zero", "mean", "resample", "reinit")
    parts = ("head:0.2", "ffn:1", "positions")
    plan = Ablation(components=parts, how=ways, draws=2, n_flips=19, n_bootstraps=100)
    scoring = Scoring(methods=("procrustes", "rsa"), ks=(1, 10))
    table = run_ablation(
        dataset, [model], tmp_path / "out", plan=plan, scoring=scoring, progress=False
    )
    check_intact(table, dataset, model, scoring)
    # What is written is what is read, with figures, and a report that opens with the verdict.
    again = AblationTable.load(tmp_path / "out")
    assert again.verdict() == table.verdict()
    html = (tmp_path / "out" / "report.html").read_text()
    assert html.index("Which parts of the model carry") < html.index("head 0.2")
    names = [f"change_{kind}_{number}.png" for kind in ("by_part", "and_bits") for number in (1, 2)]
    assert all((tmp_path / "out" / "figures" / name).is_file() for name in names)
    assert "no map" in html or "without a map" in html  # rsa has no frozen read-out
    methods = again.rows[again.rows["readout"] == "frozen"]["method"].unique()
    assert set(methods) == {"procrustes"}
    rows = again.group(method="procrustes", metric="rank_accuracy", layer=-1, readout="refit")
    assert set(rows["how"]) == {*ways, "random", "intact"}
    assert rows[["component", "how"]].duplicated().sum() == 0  # one row, however many draws
    known = rows.loc[rows["how"] != "intact"].set_index("how")["bits_change"].notna()
    assert known[["zero", "mean", "reinit"]].all() and not known[["resample", "random"]].any()
    # A part behind the chosen layer changes nothing there.
    chosen = json.loads((tmp_path / "out" / "manifest.json").read_text())["chosen_layers"][model]
    if chosen["procrustes"] == 1:
        assert (rows.loc[rows["component"] == "ffn", "change"].abs() < 0.05).all()


def test_p_of_the_largest_fall_is_right_for_noise_and_finds_what_is_planted():
    rng = np.random.default_rng(0)
    false = [fall_p(rng.standard_normal((8, 20, 12)), 199, seed)[1].min() for seed in range(100)]
    assert 0.0 <= np.mean(np.array(false) < 0.05) <= 0.12
    change = rng.standard_normal((8, 20, 12))
    change[:, 3] -= 1
    for people in (8, 2):  # signs are flipped over people, and over words
        p, p_max = fall_p(change[:people], 199, 0)
        assert p_max.argmin() == 3 and p_max[3] < 0.05 and (p_max >= p).all()
    exact = (
        256 * fall_p(change, 4999, 0)[1]
    )  # eight people have 256 flips, the observed one among them
    np.testing.assert_allclose(exact, np.round(exact), atol=1e-9)
    assert fall_p(np.zeros((8, 2, 20)), 19, 0)[1].tolist() == [1.0, 1.0]


def test_what_is_refused(folder_of, sentences, tmp_path):
    model = folder_of("gpt2")
    config = Ablated(sentences, model).config
    with pytest.raises(ValueError, match=r"unknown head '1.7' of M.*1\.3"):
        components_of(config, ["head:1.7"], model="M")
    with pytest.raises(ValueError, match="unknown block '5' of M; known: 0, 1"):
        components_of(config, ["heads"], blocks=[5], model="M")
    with pytest.raises(ValueError, match="unknown component 'tails'; known: heads, attention"):
        Ablation(components=("tails",))
    with pytest.raises(ValueError, match="how is empty"):
        Ablation(how=())
    dataset = recorded(sentences, np.eye(N), noise=1.0, n_people=2)
    single = save_checkpoint("gpt2", tmp_path / "single", n_layers=1)
    add_letter_tokenizer(single)
    with pytest.raises(ValueError, match="has one block: without it nothing is left"):
        run_ablation(dataset, [single], plan=Ablation(components=("layers",)), progress=False)
    with pytest.raises(ValueError, match="is given as vectors, of which nothing can be switched"):
        run_ablation(dataset, [make_embeddings(sentences, np.ones((1, N, 2)))])
    with pytest.raises(ValueError, match="cka gives a number and decodes no words"):
        run_ablation(dataset, [model], scoring=Scoring(methods=("cka",)))
    with pytest.raises(ValueError, match="sublayers=heads has no place in an ablation study"):
        run_ablation(dataset, [model], embedding=Embedding(sublayers="heads"))
    (tmp_path / "vectors.txt").write_text("a 1 2\n")
    with pytest.raises(ValueError, match="has no parts to switch off"):
        run_ablation(dataset, [f"static:{tmp_path / 'vectors.txt'}"], progress=False)
    arguments = [
        "--dataset=pereira180",
        "--data_dir=d",
        "--models=m",
        f"--output_dir={tmp_path / 'o'}",
    ]
    assert cli.main(["ablate", *arguments, "--components=tails"]) == 2


def test_items_that_are_spans_are_refused(folder_of):
    spans = Spans.of_sentences(["Spill the beans.", "Kick the bucket."], [0, 0], [3, 3])
    items = spans.items()
    dataset = Dataset("idioms", ("S1",), items, None, spans=spans)
    with pytest.raises(
        ValueError, match="items of idioms are spans of words.*leave the span columns"
    ):
        run_ablation(dataset, [folder_of("bert")], plan=QUICK, scoring=SCORING)


def test_components_come_in_the_order_of_the_blocks(folder_of, sentences):
    config = Ablated(sentences, folder_of("gpt2")).config
    parts = components_of(config, ["ffn", "head:1.2", "positions", "attention"], blocks=[1])
    assert list(map(str, parts)) == ["positions", "head 1.2", "attention 1", "ffn 1"]
    assert len(components_of(config, ["heads"])) == 8
