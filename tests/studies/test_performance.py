"""Does alignment go with what models can do? Planted relations, real evaluations, and what is refused."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainalign_jax import cli
from brainalign_jax.studies.options import Performance
from brainalign_jax.studies.performance import PerformanceTable, headline, run_performance, verdicts
from brainalign_jax.studies.performance.tasks import direction_of
from brainalign_jax.study.results import ResultTable, tidy

QUICK = Performance(n_permutations=199, n_bootstraps=100)
PYTHIA = Path(__file__).resolve().parents[3] / "shared" / "data" / "pythia_evals"
SIZES = (7e7, 1.6e8, 4.1e8, 1e9, 1.4e9, 2.8e9, 6.9e9, 1.2e10)
LAMBADA = (0.185, 0.328, 0.516, 0.562, 0.616, 0.647, 0.673, 0.705)


def planted(kind, seed=0, n_families=4, n_people=5, noise=0.04):
    """(scores, tasks) of families of eight sizes: what depends on size only, or on a task beyond size."""
    rng = np.random.default_rng(seed)
    scores, tasks = [], []
    for family in range(n_families):
        for size in SIZES:
            name, large = f"org{family}/fam{family}-{size / 1e6:g}m", np.log10(size) / 4
            skill = rng.standard_normal() / 8
            tasks.append(dict(model=name, task="reading", value=large + skill))
            level = large + skill * (kind == "beyond")
            scores += [
                dict(model=name, subject=f"S{person}", score=level + noise * rng.standard_normal())
                for person in range(n_people)
            ]
    return pd.DataFrame(scores), pd.DataFrame(tasks)


def small(n=6, **columns):
    names = [f"m-{i + 1}b" for i in range(n)]
    scores = pd.DataFrame({"model": names, "score": np.arange(n) + 0.5})
    tasks = pd.DataFrame({"model": names, "task": "t", "value": [1, 3, 2, 5, 4, 6, 7, 8][:n]})
    return scores.assign(**columns), tasks


def test_a_score_of_size_only_goes_with_the_task_and_not_beyond_size():
    line = run_performance(*planted("size"), plan=QUICK).line(task="reading")
    assert line["spearman"] > 0.6 and line["p_spearman"] < 0.05
    assert abs(line["partial_spearman"]) < 0.35 and line["p"] > 0.05
    assert line["lower"] < 0 < line["upper"]


def test_a_score_of_the_task_beyond_size_gives_both():
    table = run_performance(*planted("beyond"), plan=QUICK)
    line = table.line(task="reading")
    assert line["spearman"] > 0.8 and line["partial_spearman"] > 0.8
    assert line["p"] < 0.05 and line["lower"] > 0.5 and line["permuted"] == "within families"
    assert line["within_families"] > 0.8 and line["random_intercept"] > 0.8
    assert line["family_effect"] < 0.3 and line["n_families"] == 4 and line["n_people"] == 5
    assert line["without_family_lower"] <= line["partial_spearman"] <= line["without_family_upper"]
    assert 0.9 < line["reliability"] < 1 and line["spearman_corrected"] > line["spearman"]
    assert verdicts(table)[0].answer == "beyond" and headline(table).startswith("Yes, beyond size")


def test_the_answer_of_size_only_says_so_and_how_many_models_it_needs():
    table = run_performance(*planted("size"), plan=QUICK)
    (judged,) = verdicts(table)
    needed = table.line(task="reading")["needed_models"]
    assert judged.answer == "size" and f"needs {needed:,.0f} models; there are 32" in judged.text
    assert headline(table).startswith("Only with size")


def test_families_that_differ_in_level_are_told_and_change_no_p():
    scores, tasks = planted("size")
    shifted = scores.assign(score=scores["score"] + 3 * scores["model"].str[3].astype(int))
    line = run_performance(shifted, tasks, plan=QUICK).line(task="reading")
    assert line["family_effect"] > 0.9 and line["p"] > 0.05
    assert abs(line["within_families"]) < 0.4


@pytest.mark.skipif(not PYTHIA.is_dir(), reason="shared/data/pythia_evals is not here")
def test_lambada_by_size_is_in_the_table_and_both_curves_over_training():
    rows = pd.read_csv(PYTHIA / "pythia_v1_zero_shot.csv.gz")
    lambada = rows[(rows["task"] == "lambada_openai") & (rows["metric"] == "acc")]
    rng = np.random.default_rng(0)
    # Ten times sooner than the task.
    sooner = lambada.assign(
        model="EleutherAI/" + lambada["model"] + "@step" + (lambada["step"] // 10 * 10).astype(str),
        score=lambada["value"] + 0.01 * rng.standard_normal(len(lambada)),
    )
    scores = sooner[lambada["step"] % 10 == 0][["model", "score"]]
    plan = Performance(task_names=("lambada_openai:acc",), n_permutations=99, n_bootstraps=100)
    table = run_performance(scores, PYTHIA, plan=plan)
    points = table.extras["models"]
    last = points[points["last"] & (points["step"] == 143_000)].set_index("model")["value"]
    sizes = ("70m", "160m", "410m", "1b-bf16", "1.4b", "2.8b", "6.9b", "12b")
    shown = [round(last[f"pythia-{size}"], 3) for size in sizes]
    assert shown == list(LAMBADA)
    line = table.line(task="lambada_openai")
    assert line["n_models"] == 16 and line["n_families"] == 1 and line["permuted"] == "over all"
    assert "one family only" in verdicts(table)[0].text
    lags = table.extras["trajectories"].set_index("model")["lag"]
    assert len(lags) == 17 and abs(lags["all"]) < 0.1
    assert any(
        text.startswith("The number of parameters is what the name tells")
        for text in table.manifest["notes"]
    )


def test_what_rises_ten_times_sooner_leads():
    steps = 10.0 ** np.arange(7)
    rise = 1 / (1 + np.exp(-4 * (np.arange(7) - 3)))
    sooner = 1 / (1 + np.exp(-4 * (np.arange(7) - 2)))
    rng = np.random.default_rng(0)
    models = [f"m{i}-{i + 1}b" for i in range(5)]
    scores = pd.DataFrame(
        [
            dict(model=f"{m}@{s:.0f}", subject=p, score=v + 0.02 * rng.standard_normal())
            for m in models for s, v in zip(steps, sooner, strict=True) for p in "ABC"
        ]
    )  # fmt: skip
    tasks = pd.DataFrame(
        [
            dict(model=m, step=s, task="t", value=v)
            for m in models for s, v in zip(steps, rise, strict=True)
        ]
    )  # fmt: skip
    table = run_performance(scores, tasks, plan=QUICK)
    mean = table.extras["trajectories"].set_index("model").loc["all"]
    assert (
        mean["lag"] == pytest.approx(1, abs=0.1) and mean["lower"] > 0.8 and mean["n_models"] == 5
    )
    assert "alignment leads: its half takes" in verdicts(table)[1].text
    score_means = scores.groupby("model", as_index=False)["score"].mean()
    other = run_performance(
        tasks.rename(columns={"value": "score"}).drop(columns="task"),
        score_means.rename(columns={"score": "value"}).assign(task="t"),
        plan=QUICK,
    )
    assert "alignment follows: the task's half" in verdicts(other)[1].text
    # Checkpoints are no models: five, not thirty-five.
    assert table.rows["n_models"].tolist() == [5]


def test_a_curve_that_does_not_rise_has_no_half():
    scores, tasks = small()
    steps = [1, 10, 100, 1000, 10000]
    flat = scores.merge(pd.DataFrame({"step": steps}), how="cross")
    curves = tasks.merge(pd.DataFrame({"step": steps}), how="cross")
    curves["value"] += np.tile([0, 0.1, -0.1, 0.1, 0], 6)
    table = run_performance(flat, curves, plan=QUICK)
    assert table.extras["trajectories"].empty
    assert any("they have no half" in note for note in table.manifest["notes"])


def test_less_is_better_of_perplexities_and_bits():
    scores, tasks = small()
    both = pd.concat([tasks, tasks.assign(task="bits_per_word", value=-tasks["value"])])
    both = pd.concat([both, tasks.assign(task="x", metric="perplexity", value=10 - tasks["value"])])
    rows = run_performance(scores, both, plan=QUICK).rows.set_index("task")
    assert rows["direction"].to_dict() == {"t": 1, "bits_per_word": -1, "x": -1}
    assert rows["spearman"].nunique() == 1 and rows.loc["t", "spearman"] > 0.8


def test_a_folder_of_one_table_and_directions_of_names_and_columns(tmp_path):
    scores, tasks = small()
    names = ("bits_per_word/text", "loss_words/acc", "cloze/last_word_bits", "reading")
    tables = [
        tasks.assign(task=name, direction=-1 if name == "reading" else None) for name in names
    ]
    pd.concat(tables).to_parquet(tmp_path / "abilities.parquet")
    (tmp_path / "manifest.json").write_text("{}")
    rows = run_performance(scores, tmp_path, plan=QUICK).rows.set_index("task")
    assert rows["direction"].to_dict() == dict(zip(names, (-1, 1, -1, -1), strict=True))
    with pytest.raises(ValueError, match=r"direction is 2 in row 1: give 1 where more is better"):
        run_performance(scores, tasks.assign(direction=2), plan=QUICK)
    many = pd.concat([tasks.assign(task=f"t{i}") for i in range(140)])
    with pytest.raises(ValueError, match="draws are more than can be held: lower n_permutations"):
        run_performance(scores, many, plan=Performance(n_permutations=1_000_000))


def test_reliability_of_a_column_is_shown_beside():
    scores, tasks = small(reliability=0.64)
    line = run_performance(scores, tasks, plan=QUICK).line(task="t")
    assert line["reliability"] == pytest.approx(0.64) and line["n_people"] == 0
    assert line["spearman_corrected"] == pytest.approx(min(line["spearman"] / 0.8, 1))


def test_sizes_and_families_of_columns_come_before_what_names_tell():
    scores, tasks = small(n_params=[6e9, 5e9, 4e9, 3e9, 2e9, 1e9], family=list("aaabbb"))
    table = run_performance(scores, tasks.assign(n_params=1.0), plan=QUICK)
    points = table.extras["models"]
    assert points["n_params"].max() == 6e9 and set(points["family"]) == {"a", "b"}
    assert not table.manifest["notes"]


def test_where_the_order_of_scores_is_that_of_size_nothing_is_left_to_relate():
    table = run_performance(*small(), plan=QUICK)
    line = table.line(task="t")
    assert line["spearman"] > 0.8 and np.isnan(line["partial_spearman"]) and np.isnan(line["p"])
    (judged,) = verdicts(table)
    assert judged.answer == "size" and "nothing is left to relate" in judged.text
    assert f"{line['spearman']:.3f}".removeprefix("0") + " needs" in judged.text


def test_without_sizes_nothing_is_said_beyond_size():
    scores, tasks = small(8)
    for side in (scores, tasks):
        side["model"] = [f"model{i}" for i in range(8)]
    table = run_performance(scores, tasks, plan=QUICK)
    line = table.line(task="t")
    assert np.isnan(line["partial_spearman"]) and np.isnan(line["p"]) and line["given"] == ""
    assert verdicts(table)[0].answer == "unsized" and np.isfinite(line["needed_models"])


def results_of(folder, models, method="ridge", protocol="audited"):
    """A finished study with scores of the models in two layers and two people, and an untrained twin."""
    lines = [
        dict(
            dataset="d", subject=subject, model=name, family="fam", n_params=size, layer=layer, n_layers=2,
            method=method, protocol=protocol, fold=-1, metric="rank_accuracy", k=0,
            value=0.5 + place / 20 + 0.01 * (subject == "B") + 0.1 * (layer == 1), n_items=10, chance=0.5,
        )
        for place, (name, size) in enumerate(models.items())
        for subject in ("A", "B", "group")
        for layer in (-1, 0, 1)
    ]  # fmt: skip
    table = ResultTable(tidy(pd.DataFrame(lines)), {"models": []})
    table.save(folder)
    return folder


def test_finished_studies_are_read_at_the_chosen_layer_without_twins(tmp_path):
    models = {f"/models/fam-{i}b/checkpoint": i * 1e9 for i in range(1, 6)}
    first = results_of(tmp_path / "one", models | {"untrained:/models/fam-1b/checkpoint": 1e9})
    second = results_of(tmp_path / "two", {"hub/fam-9b": 9e9})
    tasks = pd.DataFrame({"model": [f"FAM-{i}B" for i in (1, 2, 3, 4, 5, 9)], "task": "t"})
    table = run_performance([first, second], tasks.assign(value=np.arange(6)), plan=QUICK)
    line = table.line(task="t")
    assert line["n_models"] == 6 and line["n_people"] == 2 and line["dataset"] == "d"
    points = table.extras["models"].set_index("model")["score"]
    assert points["fam-1b"] == pytest.approx(0.505)
    assert any("1 name of untrained twins" in note for note in table.manifest["notes"])
    results_of(tmp_path / "three", models, protocol="paper")
    with pytest.raises(ValueError, match="protocols audited and paper, which do not compare"):
        run_performance([second, tmp_path / "three"], tasks.assign(value=1.0), plan=QUICK)


def test_harness_files_of_both_layouts(tmp_path):
    old, new = tmp_path / "results_old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    for i in range(1, 4):
        content = {
            "results": {"lambada": {"acc": i / 10, "acc_stderr": 0.01, "ppl": 9.0 - i}},
            "config": {
                "model": "hf-causal",
                "model_args": f"pretrained=org/m-{i}b,revision=step10",
            },
        }
        (old / f"results_{i}.json").write_text(json.dumps(content))
    for i in range(4, 6):
        content = {
            "results": {
                "lambada": {"alias": "l", "acc,none": i / 10, "acc_stderr,none": 0.01, "ppl,none": 9.0 - i},
                "gsm": {"match,strict": 0.1},
            },
            "higher_is_better": {"lambada": {"acc": True, "ppl": False}},
            "config": {"model_args": {"pretrained": f"org/m-{i}b", "revision": "step10"},
                       "model_num_parameters": i},
        }  # fmt: skip
        (new / f"results_2024_{i}.json").write_text(json.dumps(content))
    scores = pd.DataFrame({"model": [f"m-{i}b@step10" for i in range(1, 6)], "score": range(5)})
    table = run_performance(scores, [old, new], plan=QUICK)
    rows = table.rows.set_index("metric")
    assert set(rows.index) == {"acc", "ppl"} and rows["spearman"].min() > 0.999
    assert rows.loc["ppl", "direction"] == -1 and rows["n_models"].tolist() == [5, 5]
    assert any("Fewer than 4 models have 1 task: gsm" in note for note in table.manifest["notes"])
    points = table.extras["models"].query("metric == 'acc'").set_index("model")
    assert points.loc["m-5b", "n_params"] == 5 and points.loc["m-5b", "step"] == 10


def ablation_folder(tmp_path, alike, n_parts=24):
    from brainalign_jax.study import outputs

    rng = np.random.default_rng(0)
    bits = rng.gamma(1.0, size=n_parts)
    lines = []
    for part in range(n_parts):
        for subject in ("A", "B", "C", "group"):
            for how in ("zero", "random"):
                cost = bits[part] if alike else rng.gamma(1.0)
                lines.append(
                    dict(
                        model="m", method="ridge", how=how, readout="refit", component="heads",
                        block=part // 6, head=part % 6, subject=subject, layer=-1, metric="rank_accuracy",
                        change=-cost / 10 + 0.001 * rng.standard_normal(),
                        bits_change=bits[part] if how == "zero" else rng.gamma(1.0),
                    )
                )  # fmt: skip
    rows = pd.DataFrame(lines)
    folder = tmp_path / f"ablation{alike}"
    with outputs.new_outputs(folder) as new:
        rows.to_parquet(new / "ablation.parquet")
        outputs.write_json({}, new / "manifest.json")
    return folder


def test_the_same_ablations_cost_both_or_not(tmp_path):
    for alike in (True, False):
        table = run_performance(*small(), plan=QUICK, ablation=ablation_folder(tmp_path, alike))
        (line,) = table.extras["ablations"].to_dict("records")
        assert line["n_components"] == 24 and line["n_controlled"] == 24
        assert (line["spearman"] > 0.9 and line["lower"] > 0.5 and line["p"] < 0.05) == alike
        assert ("parts: the same cost both (" in verdicts(table)[-1].text) == alike


def test_the_command_writes_what_can_be_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scores, tasks = planted("beyond", n_families=2, n_people=2)
    scores.to_csv("scores.csv", index=False)
    with gzip.open("tasks.csv.gz", "wt") as file:
        tasks.to_csv(file, index=False)
    arguments = ["--scores=scores.csv", "--tasks=tasks.csv.gz", "--n_permutations=199"]
    arguments += ["--n_bootstraps=100", "--output_dir=out"]
    assert cli.main(["performance", *arguments]) == 0
    said = capsys.readouterr().out
    table = PerformanceTable.load("out")
    assert said.startswith(table.verdict()) and "report: out/report.html" in said
    assert set(table.extras) == {"models", "trajectories", "ablations", "ablated_parts"}
    assert table.manifest["command"].startswith("brainalign performance --scores=scores.csv")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Does alignment go with what models can do?" in page and page.count("<script") == 1
    drawn = sorted(path.name for path in (tmp_path / "out" / "figures").iterdir())
    assert drawn == ["forest.png", "scores_and_tasks.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, t: (s[:3], t), "3 models are on both sides .*a relation needs 4 or more"),
        (
            lambda s, t: (s.assign(model=["m-11b", *s["model"][1:]])[:4], t),
            r"of the scores these are not among the tasks: 'm-11b' \(known: m-1b",
        ),
        (lambda s, t: (s[:0], t), r"scores\[0\] has no rows: give model and score"),
        (lambda s, t: (s, t[:0]), r"tasks\[0\] has no rows: give model, task and value"),
        (lambda s, t: (pd.DataFrame(), t), "no column 'model': give model and score"),
        (lambda s, t: (s.assign(score=np.nan), t), "no model has a score: give a finished study"),
        (lambda s, t: (s.assign(model=[["a"]] * 6), t), r"scores\[0\]: model is \['a'\] in row 1"),
        (lambda s, t: (s.assign(score=[np.ones((2, 2))] * 6), t), "score is array.* in row 1"),
        (lambda s, t: (s, t.assign(value=[[1.0]] * 6)), r"value is \[1.0\] in row 1: write a finite"),
        (lambda s, t: (s.assign(score="x"), t), r"scores\[0\]: score is 'x' in row 1"),
        (lambda s, t: (s.assign(score=np.inf), t), "score is inf in row 1: write a finite number"),
        (lambda s, t: (s.drop(columns="score"), t), "no column 'score': give model and score"),
        (lambda s, t: (s, t.drop(columns="task")), "no column 'task': give model, task and value"),
        (lambda s, t: (pd.concat([s, s]), t), "m-1b has two scores of group in"),
        (lambda s, t: (s, pd.concat([t, t.assign(value=9)])), "m-1b has two values of t: 1 "),
        (lambda s, t: (s, t.assign(model="")), "has no model in row 1: fill it in"),
        (lambda s, t: (s.assign(reliability=1.2), t), "reliability is 1.2 in row 1: give 0 < r <= 1"),
        (
            lambda s, t: (s.assign(metric=["a", "b"] * 3), t),
            "has the metrics a and b: give --metric=a",
        ),
        (
            lambda s, t: (s.assign(model=["a/m-2b", "b/m-2b", *s["model"][2:]]), t),
            "the scores name 'a/m-2b' and 'b/m-2b', which are both 'm-2b'",
        ),
        (lambda s, t: (s.assign(subject=list("ABCDEF")), t), "no person has scores of all 6 models"),
        (
            lambda s, t: (s.assign(step=1), t.assign(step=2)),
            "0 models have scores and tasks at the same step",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(change, message):
    with pytest.raises(ValueError, match=message) as error:
        run_performance(*change(*small()), plan=QUICK)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "model,task,value\na,t\n", "row 1 has 2 cells below 3 names"),
        ("t.csv", "model,task,task\na,t,1\n", "two columns 'task'"),
        ("t.csv", "model,task,value\n", "has 0 rows"),
        ("t.csv", "model,task,value\na,t,high\n", "value is 'high' in row 1"),
        ("t.json", "[1, 2]", "is no table: give a list of objects"),
        ("t.json", "{", "is no JSON"),
        (
            "t.json",
            '{"results": {"a": {"acc": 1%s}}, "config": {"model_args": "pretrained=a"}}' % ("0" * 400),
            "acc of a is 1000.*: write a finite number",
        ),
        ("t.json", '{"results": {"lambada": {"acc": 0.1}}}', "names no model in config.model_args"),
        ("t.json", '{"results": {}, "config": {"model_args": "pretrained=a"}}', "no value of any task"),
        ("t.txt", "model", "is no table: give .csv"),
        ("t.csv.gz", "model,task,value\n", "is damaged"),
        ("t.parquet", "PAR1", "is damaged"),
    ],
)  # fmt: skip
def test_files_that_are_wrong_are_named(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        run_performance(small()[0], path, plan=QUICK)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_tasks_of_nested_json_and_an_unknown_task(tmp_path):
    scores, tasks = small()
    path = tmp_path / "tasks.json"
    values = dict(zip(tasks["model"], tasks["value"].astype(float), strict=True))
    path.write_text(json.dumps({name: {"piqa": value} for name, value in values.items()}))
    assert run_performance(scores, path, plan=QUICK).rows["task"].tolist() == ["piqa"]
    with pytest.raises(ValueError, match="unknown task 'lambada'; known: piqa"):
        run_performance(scores, path, plan=Performance(task_names=("lambada",)))


def test_fewer_than_20_permutations_are_not_tested():
    plan = Performance(n_permutations=19, n_bootstraps=100)
    table = run_performance(*planted("beyond"), plan=plan)
    assert verdicts(table)[0].answer == "untested"


@pytest.mark.parametrize(
    ("task", "metric", "direction"),
    [
        ("wikitext-ppl", "", -1),
        ("wikitext (bits per byte)", "", -1),
        ("bits_per_word/text", "", -1),
        ("stories", "BPB", -1),
        ("stories", "cross-entropy", -1),
        ("stories", "loss_mean", -1),
        ("reading.rmse", "", -1),
        ("crows_pairs", "pct_stereotype", -1),
        ("crows_pairs", "likelihood_difference", -1),
        ("gsm8k", "exact_match,strict-match", 1),
        ("wikitext_loss", "acc", 1),
        ("error_detection", "", 1),
        ("loss_words/acc", "", 1),
        ("surprisal_correlation_gpt3", "", 1),
        ("minimal_pairs/phenomenon: npi_loss", "", 1),
        ("minimal_pairs/npi_loss", "", 1),
        ("blimp: npi_loss", "", 1),
    ],
)
def test_which_tasks_are_taken_as_less_is_better(task, metric, direction):
    assert direction_of(task, metric) == direction


def test_a_direction_that_is_given_counts_for_all_rows_of_a_task():
    scores, tasks = small()
    sources = [tasks[:1].assign(direction=-1), tasks[1:]]
    assert run_performance(scores, sources, plan=QUICK).line(task="t")["direction"] == -1
    sources[1] = sources[1].assign(direction=1)
    message = r"of t more is better in tasks\[1\] and less in tasks\[0\]: correct the column"
    with pytest.raises(ValueError, match=message):
        run_performance(scores, sources, plan=QUICK)


def test_the_notes_name_tasks_whose_sign_is_turned():
    scores, tasks = small()
    notes = run_performance(scores, tasks.assign(task="w", metric="ppl"), plan=QUICK).manifest[
        "notes"
    ]
    assert any("the sign turned, of w:ppl; where that is not so" in note for note in notes)


def test_values_of_models_that_read_in_two_directions_are_told_apart():
    scores, tasks = small()
    reads = ["from left to right"] * 4 + ["in both directions"] * 2
    both = pd.concat([tasks.assign(reads=reads), tasks.assign(task="u", reads=reads[0])])
    table = run_performance(scores, both, plan=QUICK)
    assert any(
        "Of t some models read from left to right" in note for note in table.manifest["notes"]
    )
    points = table.extras["models"]
    assert points.loc[points["task"] == "t", "reads"].tolist() == reads
    one_kind = run_performance(scores, tasks.assign(reads=reads[0]), plan=QUICK)
    assert not any("directions" in note for note in one_kind.manifest["notes"])


def test_the_last_step_is_shared_for_each_data_set_and_task():
    scores, tasks = small()
    scores = pd.concat([scores.assign(dataset="a", step=100), scores.assign(dataset="b")])
    tasks = pd.concat(
        [tasks.assign(step=100), tasks.assign(task="u"), tasks.assign(task="w", step=5)]
    )
    table = run_performance(scores, tasks, plan=QUICK)
    pairs = table.rows[["dataset", "task"]].to_numpy().tolist()
    assert sorted(pairs) == [["a", "t"], ["a", "u"], ["b", "t"], ["b", "u"]]
    assert set(table.rows["n_models"]) == {6}
    assert any("same step for 1 task: w." in note for note in table.manifest["notes"])
    table = run_performance(scores, tasks[tasks["step"] == 5].assign(step=50), plan=QUICK)
    assert table.rows["dataset"].tolist() == ["b"]
    assert any("same step for 1 data set: " in note for note in table.manifest["notes"])


def test_scores_and_reliability_are_those_of_the_people_who_take_part():
    scores, tasks = small()
    both = pd.concat(
        [
            scores.assign(subject="A", reliability=0.5),
            scores[1:].assign(subject="B", score=100.0, reliability=0.9),
        ]
    )
    table = run_performance(both, tasks, plan=QUICK)
    points = table.extras["models"].set_index("model")["score"]
    assert points.to_dict() == scores.set_index("model")["score"].to_dict()
    line = table.line(task="t")
    assert line["n_people"] == 1 and line["reliability"] == pytest.approx(0.5)


def test_people_without_the_layer_and_models_without_a_score_are_told():
    scores, tasks = small(8)
    scores = pd.concat([scores.assign(subject="A", layer=-1), scores.assign(subject="B", layer=-1)])
    scores.loc[(scores["model"] == "m-8b").to_numpy(), "score"] = np.nan
    scores.loc[((scores["model"] == "m-1b") & (scores["subject"] == "B")).to_numpy(), "layer"] = 3
    table = run_performance(scores, tasks, plan=QUICK)
    notes = table.manifest["notes"]
    assert "No score is given of m-8b: left out." in notes
    assert "Of m-1b these have no score of the layer that was chosen and are left out: B." in notes
    assert table.line(task="t")["n_models"] == 7 and table.line(task="t")["n_people"] == 1


def test_a_layer_without_scores_is_not_chosen():
    scores, tasks = small()
    layers = pd.concat([scores.assign(layer=1), scores.assign(layer=2, score=np.nan)])
    layers = pd.concat([layers, scores.assign(layer=-1, score=np.nan)])
    assert run_performance(layers, tasks, plan=QUICK).line(task="t")["n_models"] == 6


def test_nullable_columns_with_missing_cells_are_read():
    scores, tasks = small(family=pd.array(["a", pd.NA] * 3, "string"))
    scores["n_params"] = pd.array([1, 2, 3, 4, 5, pd.NA], "Int64")
    points = run_performance(scores, tasks, plan=QUICK).extras["models"].set_index("model")
    assert points.loc["m-6b", "n_params"] == 6e9 and points.loc["m-6b", "family"] == "m"


def test_no_blank_stands_where_there_is_no_interval():
    table = run_performance(*planted("size"), plan=QUICK)
    table.rows["lower"] = np.nan
    assert " ," not in verdicts(table)[0].text and "  " not in verdicts(table)[0].text
