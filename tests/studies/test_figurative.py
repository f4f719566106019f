"""Which rewording is nearer: planted truth, noise, words in common, bad files, and plain NumPy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recordings import write_vectors
from small_models import add_letter_tokenizer, save_checkpoint

from brainalign_jax import cli
from brainalign_jax.language import Embeddings
from brainalign_jax.studies.figurative import (
    FigurativeTable,
    headline,
    read_pairs,
    run_figurative,
    verdicts,
)
from brainalign_jax.studies.figurative import scores as statistics
from brainalign_jax.studies.figurative.pairs import balanced_on_overlap, literal_pairs, overlap
from brainalign_jax.studies.figurative.scores import nearer
from brainalign_jax.studies.options import Figurative

IMPLI = Path(__file__).resolve().parents[3] / "shared" / "data" / "impli"
PLAN = Figurative(n_folds=5, n_flips=199, n_bootstraps=200)
LETTERS = list("abcdefghijklmnopqrstuvwxyz")


def write_data(folder, *, n=60, shared=(2, 2), several=0, seed=0):
    """Sentences of six made-up words, a rewording that follows and one that does not, in two groups.

    shared: how many words each of the two has in common with the sentence, one more or less by chance;
    several: how many of the sentences have two rewordings that follow.
    """
    rng = np.random.default_rng(seed)

    def words(count):
        return ["".join(rng.choice(LETTERS, 7)) for _ in range(count)]

    def reworded(sentence, count):
        count = int(np.clip(count + rng.integers(-1, 2), 0, 6))
        return " ".join([*sentence[:count], *words(6 - count)])

    for group in ("idioms", "metaphors"):
        (folder / group).mkdir(parents=True)
        rows = {"manual_e": [], "manual_ne": []}
        for number in range(n // 2):
            sentence = words(6)
            for kind, count in zip(rows, shared, strict=True):
                rows[kind].append((sentence, reworded(sentence, count)))
            if number < several // 2:
                rows["manual_e"].append((sentence, reworded(sentence, shared[0])))
        for name, kept in rows.items():
            text = "".join(f"{' '.join(sentence)}\t{other}\n" for sentence, other in kept)
            (folder / group / f"{name}.tsv").write_text(text, "utf-8")
    return folder


def planted(pairs, *, lean=0.0, name="planted", seed=0):
    """Random vectors of all texts, three layers; in layer 1 what follows leans to its sentence by so much."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((3, len(pairs.texts), 16)) + 3.0
    for sentence, follows in set(zip(pairs.sentence, pairs.follows, strict=True)):
        values[1, follows] += lean * (values[1, sentence] - 3.0)
    meta = {"family": "static", "level": "token"}
    return Embeddings(name, pairs.texts, values.astype(np.float32), None, meta)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return read_pairs(write_data(tmp_path_factory.mktemp("data") / "made", several=44))


@pytest.fixture(scope="module")
def table(pairs):
    models = [planted(pairs, lean=1.0), planted(pairs, name="untrained:planted", seed=1)]
    return run_figurative(pairs, models, plan=PLAN, progress=False)


def share(table, model="planted", **wanted):
    chosen = {
        "kind": "figurative",
        "condition": "all",
        "pairs": "all",
        "centring": "mean",
        "layer": -1,
    }
    return table.line(model=model, metric="share", **{**chosen, **wanted})


def test_planted_truth_is_found_at_its_layer(table):
    line = share(table)
    assert line["value"] > 0.9 and line["lower"] > 0.8 and line["p"] == 1 / 200
    assert line["chosen"] == "1,1,1,1,1" and line["n_items"] == 60
    for layer in (0, 2):
        assert share(table, layer=layer)["p_adjusted"] > 0.05
    for against in ("untrained", "overlap", "length"):
        line = table.line(
            model="planted", against=against, layer=-1, condition="all", pairs="all", kind="figurative",
            centring="mean",
        )  # fmt: skip
        assert line["lower"] > 0.1 and line["p"] == 1 / 200 and line["chance"] == 0
    assert share(table, pairs="balanced")["lower"] > 0.5
    assert share(table, condition="idioms")["n_items"] == 30
    # Rewordings of one sentence are alike to one another as well: the reference of literal sentences.
    assert share(table, kind="reference")["lower"] > 0.5
    (judged,) = verdicts(table)
    assert judged.answer == "beyond" and "Less the untrained twin: +." in judged.text
    assert headline(table).startswith("Yes") and "words in common alone give 0." in table.verdict()
    few = {**table.manifest, "plan": {**table.manifest["plan"], "n_flips": 19}}
    assert verdicts(replace(table, manifest=few))[0].answer == "untested"  # no p is below .05


def test_random_vectors_show_nothing(pairs):
    models = [planted(pairs, name="m"), planted(pairs, name="untrained:m", seed=1)]
    noise = run_figurative(pairs, models, plan=PLAN, progress=False)
    assert verdicts(noise)[0].answer == "chance" and share(noise, "m")["p"] > 0.05
    twin_alone = run_figurative(pairs, models[1:], plan=PLAN, progress=False)
    assert "No model was asked; words in common alone give" in twin_alone.verdict()
    alone = run_figurative(pairs, models[:1], plan=replace(PLAN, n_flips=0), progress=False)
    assert verdicts(alone)[0].answer == "untested" and np.isnan(share(alone, "m")["p"])


def test_the_statistic_is_silent_on_noise():
    plan = Figurative(n_folds=5, n_flips=99, n_bootstraps=100)
    hits = {"chosen": 0, "best": 0, "compared": 0}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scores = (rng.random((40, 6)) < 0.5).astype(float)
        own = replace(plan, seed=seed)
        folds = statistics.drawn_folds(40, 5, seed)
        lines = statistics.tested(scores, folds, own)
        hits["chosen"] += lines.p[0] <= 0.05
        hits["best"] += lines.p[1:].min() <= 0.05
        other = (rng.random((40, 1)) < 0.5).astype(float)
        several, _ = statistics.with_chosen(scores, folds)
        hits["compared"] += statistics.compared(several, other, own).p[0] <= 0.05
    # 10 of 200 are expected at .05; the p-value of the best of six layers is another matter.
    assert hits["chosen"] <= 18 and hits["compared"] <= 18 and hits["best"] > 30


@pytest.mark.parametrize("centring", ["mean", "none"])
def test_a_layer_s_share_is_that_of_plain_numpy(pairs, table, centring):
    vectors = planted(pairs, lean=1.0).values[1].astype(np.float64)
    if centring == "mean":
        vectors = vectors - sum(vectors) / len(vectors)

    def cosine(row, other):
        return (
            vectors[row]
            @ vectors[other]
            / np.sqrt((vectors[row] ** 2).sum() * (vectors[other] ** 2).sum())
        )

    of_sentence = {}
    columns = (pairs.unit, pairs.sentence, pairs.follows, pairs.does_not)
    for unit, sentence, follows, does_not in zip(*columns, strict=True):
        hit = float(cosine(sentence, follows) > cosine(sentence, does_not))
        of_sentence.setdefault(int(unit), []).append(hit)
    wanted = sum(sum(hits) / len(hits) for hits in of_sentence.values()) / len(of_sentence)
    assert share(table, layer=1, centring=centring)["value"] == pytest.approx(wanted, abs=1e-12)


def test_what_words_in_common_say_is_no_more_than_they_say(tmp_path):
    pairs = read_pairs(write_data(tmp_path / "made", shared=(4, 2)))
    words = sorted({word for text in pairs.texts for word in text.split()})
    counts = np.array([[float(word in text.split()) for word in words] for text in pairs.texts])
    bag = Embeddings("bag", pairs.texts, counts[None], None, {"family": "static", "level": "token"})
    twin = planted(pairs, name="untrained:bag")
    bags = run_figurative(pairs, [bag, twin], plan=PLAN, progress=False)
    words_alone = share(bags, "overlap", centring="none")["value"]
    assert share(bags, "bag", centring="none")["value"] == pytest.approx(words_alone)
    assert share(bags, "bag")["lower"] > 0.7 and verdicts(bags)[0].answer == "words"
    # The other way round, what does not follow is nearer.
    exchanged = pairs._replace(follows=pairs.does_not, does_not=pairs.follows)
    bags = run_figurative(exchanged, [bag, twin], plan=PLAN, progress=False)
    assert verdicts(bags)[0].answer == "misled"
    assert share(bags, "overlap", centring="none")["upper"] < 0.5


def test_balanced_pairs_are_such_that_overlap_does_not_decide(tmp_path):
    pairs = read_pairs(write_data(tmp_path / "made", n=200, shared=(3, 2)))
    kept = balanced_on_overlap(pairs, caliper=0.02)
    near, far = overlap(pairs)
    assert nearer(near, far).mean() > 0.6 and 0.3 < kept.mean() < 1
    assert nearer(near, far)[kept].mean() == 0.5 and abs((near - far)[kept].mean()) < 0.01


def test_literal_pairs_put_a_rewording_in_the_sentence_s_place(pairs):
    literal = literal_pairs(pairs)
    assert len(literal.units) == 44 and literal.texts is pairs.texts
    assert not set(literal.sentence) & set(pairs.sentence)
    assert (literal.sentence != literal.follows).all()
    assert set(literal.sentence) == set(literal.follows)
    assert literal_pairs(pairs.of_units(np.array([29, 59]))) is None
    part = pairs.of_units(np.array([3, 40]))
    assert part.units == (pairs.units[3], pairs.units[40]) and part.unit.max() == 1
    assert part.texts[part.sentence[-1]] == pairs.units[40]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("more_e.tsv", b"a sentence\n", "more_e.tsv, row 1 has 1 columns"),
        ("more_e.tsv", b"a\tb\nc\td\te\n", "row 2 has 3 columns"),
        ("more_ne.tsv", b"a\tb\n\nc\t \n", "row 3: the rewording has no text"),
        (
            "more_ne.tsv",
            b"a\tb\n\xff\tc\n",
            "row 2: invalid start byte at byte 0; write the file as UTF-8",
        ),
        ("more_e.tsv", b"\n", "more_e.tsv has no rows"),
        ("more_e.tsv", b"a\t" + b"b" * 20_001, "row 1: the rewording has 20,001 characters"),
        ("other.tsv", b"a\tb\n", "other.tsv: its name ends neither in _e"),
    ],
)
def test_bad_rows_are_named(tmp_path, name, content, said):
    folder = write_data(tmp_path / "made", n=8)
    (folder / "idioms" / name).write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        read_pairs(folder)
    assert "\n" not in str(error.value)


def test_a_model_is_held_against_each_file_of_word_vectors(pairs, tmp_path):
    models = [planted(pairs, lean=1.0)]
    models += [planted(pairs, lean=lean, name=f"static:{lean}.txt", seed=1) for lean in (0.3, 0.0)]
    both = run_figurative(pairs, models, tmp_path, plan=PLAN, progress=False)
    values = []
    for model in models[1:]:
        alone = run_figurative(pairs, [models[0], model], plan=PLAN, progress=False)
        wanted = dict(model="planted", condition="all", pairs="all", centring="mean", layer=-1)
        line = both.line(kind="figurative", against=model.model, **wanted)
        single = alone.line(kind="figurative", against="static", **wanted)
        assert line["value"] == single["value"] and line["p"] == single["p"]
        values.append(line["value"])
    assert values[0] != values[1]
    for said in ("Less word vectors (static:0.3.txt)", "Less word vectors (static:0.0.txt)"):
        assert said in both.verdict()
    assert "word vectors (static:0.0.txt)" in (tmp_path / "report.html").read_text()


def test_what_takes_no_part_is_counted(tmp_path):
    folder = write_data(tmp_path / "made", n=8)
    with (folder / "idioms" / "manual_ne.tsv").open("a") as file:
        file.write("left alone\tnothing\nleft alone\tnothing\nas it is\tas it is\n")
        file.write((folder / "idioms" / "manual_e.tsv").read_text().split("\n")[0])
    pairs = read_pairs(folder)
    assert list(pairs.left_out.values()) == [2, 1, 1] and len(pairs.units) == 7
    with pytest.raises(ValueError, match="made has 7 sentences .*5 folds need 20"):
        run_figurative(folder, ["static:none"], plan=PLAN, progress=False)
    for group in ("idioms", "metaphors"):
        (folder / group / "manual_ne.tsv").unlink()
    with pytest.raises(ValueError, match="has 0 sentences with a rewording that follows"):
        read_pairs(folder)
    with pytest.raises(FileNotFoundError, match=r"holds 0 .tsv files; give files of a sentence"):
        read_pairs(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        read_pairs(tmp_path / "none")


def test_a_sentence_of_two_groups_is_one_unit(tmp_path):
    folder = write_data(tmp_path / "made", n=8)
    for path in (folder / "idioms").iterdir():
        (folder / "metaphors" / path.name).write_text(path.read_text())
    pairs = read_pairs(folder)
    assert len(pairs.units) == len(set(pairs.units)) == 4 and len(pairs.unit) == 8
    assert all(
        pairs.texts[text] == pairs.units[unit]
        for text, unit in zip(pairs.sentence, pairs.unit, strict=True)
    )


def test_vectors_of_other_texts_are_refused(pairs):
    few = planted(pairs.of_units(np.arange(30)), name="few")
    with pytest.raises(ValueError, match=r"few has no vector of \d+ of \d+ texts"):
        run_figurative(pairs, [few], plan=PLAN, progress=False)


@pytest.mark.skipif(not IMPLI.is_dir(), reason=f"the real sentences ({IMPLI}) are not here")
def test_the_real_sentences_are_read():
    pairs = read_pairs(IMPLI)
    assert len(pairs.units) == 702 and len(pairs.unit) == 1014 and len(pairs.texts) == 2401
    assert list(pairs.left_out.values()) == [112, 1, 0]
    idioms = (pairs.group == "idioms") & (pairs.source == "manual_ne")
    # A literal reading of an idiom keeps its words.
    assert nearer(*overlap(pairs))[idioms].mean() < 0.2
    assert len(literal_pairs(pairs).units) == 97


def test_the_command_writes_table_figures_and_report(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = write_data(Path("made"), n=24)
    folder = save_checkpoint("gpt2", "models/small", n_layers=1)
    add_letter_tokenizer(folder)
    rng = np.random.default_rng(0)
    words = sorted({word for text in read_pairs(data).texts for word in text.split()})[10:]
    write_vectors(Path("words.txt"), rng.standard_normal((len(words), 4)), words)
    arguments = [
        f"--data_dir={data}", f"--models={folder}", "--static=words.txt", "--output_dir=out", "--n_folds=2",
        "--n_flips=19", "--n_bootstraps=100", "--noprogress",
    ]  # fmt: skip
    assert cli.main(["figurative", *arguments]) == 0
    said = capsys.readouterr().out
    assert "words in common alone give" in said and "report: out/report.html" in said
    written = FigurativeTable.load("out")
    assert set(written.rows["role"]) == {"model", "untrained", "static", "text"}
    assert set(written.rows["against"]) == {"", "untrained", "static", "overlap", "length"}
    assert Path("out/figures/share_by_layer_1.png").stat().st_size > 1000
    page = Path("out/report.html").read_text()
    assert "Is what follows from a figurative sentence" in page
    assert "http" not in page and page.count("<script") == 1
    assert cli.main(["figurative", *arguments, "--n_folds=1"]) == 2
    assert "--n_folds=1 must be at least 2" in capsys.readouterr().err
    assert cli.main(["figurative", *arguments, "--static="]) == 2
    assert "--static is empty: File of word vectors" in capsys.readouterr().err
    Path("foreign.txt").write_text("nichts 1 2\n")
    assert cli.main(["figurative", *arguments, "--static=foreign.txt"]) == 1
    message = capsys.readouterr().err
    assert "or of the words' language" in message and "missing=" not in message
    (data / "idioms" / "more_e.tsv").write_text("no tab\n")
    assert cli.main(["figurative", *arguments]) == 1
    message = capsys.readouterr().err
    assert "more_e.tsv, row 1 has 1 columns" in message and message.count("\n") == 1
