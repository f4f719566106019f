import warnings

import numpy as np
import pytest
import scipy.io
from simulate.matlab73 import write_matlab73
from simulate.pereira import PARADIGMS, simulate_pereira

from brainalign_jax.language import embed
from brainalign_jax.language.text.tokens import load_tokenizer
from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.selection import stability, voxel_neighbours
from brainalign_jax.stimulus import Stimulus

SMALL = {"n_voxels": 120, "shape": (7, 8, 6), "compress": False}
CONCEPTS = "180concepts"
SUBJECTS = {"P01": (1, 2, 3), "M02": (1, 2), "M03": (1, 3)}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    return folder, simulate_pereira(folder, subjects=SUBJECTS, **SMALL)


def change(path, target=None, **variables):
    """A file with some variables replaced, None removing one."""
    content = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    for name, value in variables.items():
        content.pop(name) if value is None else content.update({name: value})
    scipy.io.savemat(target or path, content)


def small_words(folder, **options):
    """A quick study of nine words."""
    words = [f"word{i}" for i in range(9)]
    options = {"subjects": ["P01"], "items": {CONCEPTS: words}, **SMALL, **options}
    return simulate_pereira(folder, experiments=[CONCEPTS], **options)


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_words_and_values_are_the_planted_ones(release, paradigm):
    folder, simulation = release
    dataset = open_dataset("pereira2018", folder, paradigms=paradigm)
    assert dataset.subjects == ("M02", "M03", "P01")
    assert dataset.stimulus.words == simulation.items[CONCEPTS]
    assert dataset.stimulus.onsets is None and dataset.stimulus.run is None
    assert dataset.vectors["concreteness"].shape == (180, 1)
    for subject in dataset.subjects:
        responses = dataset.load(subject)
        planted = simulation.values(subject, f"examples_{CONCEPTS}_{paradigm}")
        np.testing.assert_array_equal(responses.values, planted.astype(np.float32))
        np.testing.assert_array_equal(responses.space.indices, simulation.indices(subject))
        assert tuple(responses.space.shape) == simulation.shape
        assert responses.meta["files"] == [f"examples_{CONCEPTS}_{paradigm}.mat"]
        assert responses.stimulus is dataset.stimulus and responses.valid.all()


@pytest.mark.parametrize("experiment", ["384sentences", "243sentences"])
def test_sentences_and_values_are_the_planted_ones(release, experiment):
    folder, simulation = release
    dataset = open_dataset("pereira2018", folder.parent / folder.name, experiment=experiment)
    lacking = "M03" if experiment == "384sentences" else "M02"
    assert dataset.subjects == tuple(sorted({"M02", "M03", "P01"} - {lacking}))
    assert f"examples_{experiment}.mat" in dataset.meta["left_out"][lacking]
    stimulus = dataset.stimulus
    assert stimulus.words == simulation.items[experiment] and " " in stimulus.words[0]
    np.testing.assert_array_equal(stimulus.run, simulation.passages[experiment])
    assert dataset.meta["passages"] == simulation.passages[experiment].tolist()
    assert stimulus.sentence.tolist() == list(range(len(stimulus)))
    assert len(set(dataset.meta["categories"])) == 24
    assert dataset.meta["categories"][0] == "category 1"
    attributes = dataset.stimulus.attributes
    assert sorted(attributes) == ["experiment", "passage", "topic"]
    assert attributes["topic"].tolist() == dataset.meta["categories"]
    assert attributes["passage"].tolist() == dataset.meta["passages"]
    responses = dataset.load("P01")
    planted = simulation.values("P01", f"examples_{experiment}")
    np.testing.assert_array_equal(responses.values, planted.astype(np.float32))


def test_the_mean_is_over_z_scored_paradigms(release):
    folder, simulation = release
    planted = [
        simulation.values("M02", f"examples_{CONCEPTS}_{paradigm}") for paradigm in PARADIGMS
    ]
    scored = [(x - x.mean(axis=0)) / x.std(axis=0) for x in planted]
    averaged = open_dataset("pereira2018", folder).load("M02")
    np.testing.assert_allclose(averaged.values, np.mean(scored, axis=0), atol=1e-6)
    assert len(averaged.meta["files"]) == 3
    plain = open_dataset("pereira2018", folder, standardize=False).load("M02")
    np.testing.assert_allclose(plain.values, np.mean(planted, axis=0), atol=1e-6)


def test_paradigms_apart_are_subjects(release):
    folder, simulation = release
    dataset = open_dataset(
        "pereira2018", folder, paradigms="apart", subjects=["P01", "M03-pictures"]
    )
    assert dataset.subjects == (*(f"P01-{paradigm}" for paradigm in PARADIGMS), "M03-pictures")
    repeats = np.stack([dataset.load(f"P01-{paradigm}").values for paradigm in PARADIGMS])
    planted = simulation.values("P01", f"examples_{CONCEPTS}_wordclouds")
    np.testing.assert_array_equal(repeats[2], planted.astype(np.float32))
    stable = stability(repeats)
    responsive = np.isin(np.arange(len(stable)), simulation.responsive("P01"))
    assert stable[responsive].min() > stable[~responsive].max()
    assert len(open_dataset("pereira2018", folder, paradigms="apart").subjects) == 9


@pytest.mark.parametrize(
    "form",
    [
        {"roi_tables": "older", "files": "examples", "matlab": "5"},
        {"roi_tables": "newer", "files": "data", "matlab": "5"},
        {"roi_tables": "newer", "files": "examples", "matlab": "7.3"},
        {"roi_tables": "older", "files": "data", "matlab": "7.3"},
    ],
    ids=lambda form: "-".join(form.values()),
)
@pytest.mark.parametrize("experiment", [CONCEPTS, "243sentences"])
def test_every_form_of_the_files(tmp_path, form, experiment):
    simulation = simulate_pereira(
        tmp_path / "pereira2018" / "subjects",
        subjects=["M02"],
        experiments=[experiment],
        items={experiment: [f"Item {i}." for i in range(12)]},
        nested=form["matlab"] == "7.3",
        **form,
        **SMALL,
    )
    options = {"experiment": experiment}
    if experiment == CONCEPTS:
        options["paradigms"] = "pictures"
    file = f"{form['files']}_{experiment}" + "_pictures" * (experiment == CONCEPTS)
    dataset = open_dataset("pereira2018", tmp_path / "pereira2018" / "subjects", **options)
    assert dataset.stimulus.words == simulation.items[experiment]
    responses = dataset.load("M02")
    planted = simulation.values("M02", file).astype(np.float32)
    np.testing.assert_array_equal(responses.values, planted)
    regions = simulation.regions("M02")
    chosen = {
        "aal": regions["aal"].values(),
        "AAL:precentral_?": [regions["aal"]["Precentral_L"], regions["aal"]["Precentral_R"]],
        "Frontal_Sup_L+gordon:*_smhand_*": [
            regions["aal"]["Frontal_Sup_L"],
            *(columns for name, columns in regions["gordon"].items() if "_SMhand_" in name),
        ],
    }
    if form["roi_tables"] == "newer":
        chosen["languageLH, visual_body:RH_EBA"] = [
            *regions["languageLH"].values(),
            regions["visual_body"]["RH_EBA"],
        ]
    for roi, columns in chosen.items():
        columns = np.unique(np.concatenate(list(columns)))
        some = open_dataset(
            "pereira2018", tmp_path / "pereira2018" / "subjects", roi=roi, **options
        )
        roi_responses = some.load("M02")
        assert 0 < len(columns) < planted.shape[1]
        np.testing.assert_array_equal(roi_responses.values, planted[:, columns])
        np.testing.assert_array_equal(
            roi_responses.space.indices, simulation.indices("M02")[columns]
        )
        assert roi_responses.meta["roi"] == roi
    several = open_dataset(
        "pereira2018", tmp_path / "pereira2018" / "subjects", roi=["aal"], **options
    )
    assert several.load("M02").values.shape == (
        12,
        len(np.concatenate(list(regions["aal"].values()))),
    )


def test_in_blocks_of_few_voxels(release, monkeypatch):
    folder, simulation = release
    roi = "gordon:*_Default_*,aal:Insula_L"
    whole = open_dataset("pereira2018", folder, roi=roi).load("P01")
    monkeypatch.setattr(
        "brainalign_jax.neural.readers.pereira.pereira2018._BLOCK_BYTES", 8 * 180 * 7
    )
    blocks = open_dataset("pereira2018", folder, roi=roi).load("P01")
    np.testing.assert_array_equal(blocks.values, whole.values)


def test_rows_in_another_order_are_put_in_the_first_files(tmp_path):
    simulation = small_words(tmp_path, subjects=["M01", "P01"])
    path = simulation.paths["P01", f"examples_{CONCEPTS}_pictures"]
    order = np.random.default_rng(0).permutation(9)
    keys = scipy.io.loadmat(path)["keyConcept"]
    planted = simulation.values("P01", path.stem)
    expected = open_dataset("pereira2018", tmp_path).load("P01").values
    # Once the keys themselves are in another order, once the labels that point at them.
    change(path, examples=planted[order], keyConcept=keys[order])
    np.testing.assert_array_equal(
        open_dataset("pereira2018", tmp_path).load("P01").values, expected
    )
    change(path, keyConcept=keys, labelsConcept=order[:, None] + 1.0)
    dataset = open_dataset("pereira2018", tmp_path)
    np.testing.assert_array_equal(dataset.load("P01").values, expected)
    assert dataset.stimulus.words == simulation.items[CONCEPTS]
    change(path, keyConcept=np.where(keys == keys[2], keys[3], keys))
    with pytest.raises(ValueError, match=r"_pictures\.mat has 9 items.*'word2' is in one of them"):
        open_dataset("pereira2018", tmp_path).load("P01")


def test_unusable_voxels(tmp_path):
    simulation = small_words(tmp_path, roi_tables="newer")
    for file, column, value in (("pictures", 3, 0.0), ("sentences", 50, np.nan)):
        path = simulation.paths["P01", f"examples_{CONCEPTS}_{file}"]
        values = simulation.values("P01", path.stem)
        values[:, column] = value
        change(path, examples=values)
    with pytest.raises(ValueError) as error:
        open_dataset("pereira2018", tmp_path).load("P01")
    for part in (
        "subject P01",
        "_pictures.mat: 1 of",
        "are constant, the first is column 3",
        "_sentences.mat: 1 of",
        "NaN or infinite values, the first is column 50",
        "bad_voxels=drop",
    ):
        assert part in str(error.value)
    with pytest.warns(UserWarning, match="dropped"):
        responses = open_dataset("pereira2018", tmp_path, bad_voxels="drop").load("P01")
    kept = np.setdiff1d(np.arange(len(simulation.indices("P01"))), [3, 50])
    assert responses.meta["dropped_voxels"] == 2 and responses.values.shape == (9, len(kept))
    np.testing.assert_array_equal(responses.space.indices, simulation.indices("P01")[kept])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_dataset("pereira2018", tmp_path, paradigms="wordclouds").load("P01")


def test_neighbours_from_the_space_are_those_of_the_release(release):
    folder, simulation = release
    meta = scipy.io.loadmat(simulation.paths["P01", "examples_384sentences"])["meta"][0, 0]
    neighbours = voxel_neighbours(open_dataset("pereira2018", folder).load("P01").space.indices)
    np.testing.assert_array_equal(neighbours + 1, meta["voxelsToNeighbours"])


def test_vectors_of_the_release(tmp_path):
    simulation = small_words(tmp_path)
    assert set(open_dataset("pereira2018", tmp_path).vectors) == {"concreteness"}
    vectors = np.random.default_rng(0).standard_normal((9, 300))
    order = np.random.default_rng(1).permutation(9)
    words = simulation.items[CONCEPTS]
    materials = tmp_path / "Pereira_Materials" / "vectors"
    materials.mkdir(parents=True)
    np.savetxt(materials / "vectors_180concepts.GV42B300.txt", vectors[order])
    listed = tmp_path / "stimuli_180concepts.txt"
    listed.write_text("\n".join(words[i] for i in order))
    glove = open_dataset("pereira2018", tmp_path).vectors["glove42B_300"]
    np.testing.assert_allclose(glove, vectors, atol=1e-6)
    listed.write_text("\n".join(words[:8]))
    with pytest.raises(ValueError, match=r"GV42B300\.txt does not hold the vectors of the 9 items"):
        open_dataset("pereira2018", tmp_path)


def test_a_sentence_is_embedded_whole(release, minilm):
    folder, _ = release
    dataset = open_dataset("pereira2018", folder, experiment="243sentences")
    items = dataset.stimulus.select([0, 1])
    assert len(dataset.stimulus.types()[0]) == 243
    words = [sentence.split() for sentence in items.words]
    sentence = np.repeat([0, 1], [len(sentence_words) for sentence_words in words])
    flat = [word for sentence_words in words for word in sentence_words]
    each = embed(Stimulus(flat, sentence=sentence), str(minilm), level="token").values
    # The mean over the sub-tokens of all words of the sentence, in the context of the sentence.
    encoded = load_tokenizer(minilm).encode(words)
    counts = np.array([len(tokens) for text in encoded for tokens in text.pooled])
    embedded = embed(items, str(minilm))
    assert embedded.types == tuple(text[:-1] for text in items.words)
    for row in (0, 1):
        inside = sentence == row
        mean = np.average(each[:, inside], axis=1, weights=counts[inside])
        np.testing.assert_allclose(embedded.values[:, row], mean, atol=1e-4)


def test_missing_files(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no folder of a participant.*P01/examples_.*osf\.io"
    ):
        open_dataset("pereira2018", tmp_path)
    (tmp_path / "other").mkdir()
    simulation = small_words(tmp_path, subjects=["M01", "P01"])
    simulation.paths["P01", f"examples_{CONCEPTS}_sentences"].unlink()
    dataset = open_dataset("pereira2018", tmp_path)
    assert dataset.subjects == ("M01",) and list(dataset.meta["left_out"]) == ["P01"]
    reason = r"lacks examples_180concepts_sentences\.mat; choose another"
    for paradigms, name in (("mean", "P01"), ("apart", "P01")):
        with pytest.raises(ValueError, match=rf"'{name}' of pereira2018 cannot be used.*{reason}"):
            open_dataset("pereira2018", tmp_path, subjects=name, paradigms=paradigms)
    assert open_dataset("pereira2018", tmp_path, paradigms="pictures").subjects == ("M01", "P01")
    with pytest.raises(ValueError, match="unknown subject 'M99' of pereira2018; known: M01"):
        open_dataset("pereira2018", tmp_path, subjects="M99")
    with pytest.raises(
        FileNotFoundError, match="no participant has 384sentences: its folder .*M01"
    ):
        open_dataset("pereira2018", tmp_path, experiment="384sentences")


def test_options_are_checked(release):
    folder, _ = release
    for name, value in (("experiment", "sentences"), ("paradigms", "all"), ("bad_voxels", "keep")):
        with pytest.raises(ValueError, match=f"unknown {name}='{value}'; known: "):
            open_dataset("pereira2018", folder, **{name: value})
    with pytest.raises(ValueError, match="paradigms='apart' is for experiment '180concepts'"):
        open_dataset("pereira2018", folder, experiment="384sentences", paradigms="apart")

    def fails(roi, match):
        with pytest.raises(ValueError, match=match):
            open_dataset("pereira2018", folder, roi=roi).load("P01")

    fails("languageLH", r"unknown region 'languageLH'; .*roi=ATLAS:\? \(of aal, gordon\) lists all")
    fails("broca:IFG", r"unknown atlas 'broca' of .*; known: aal, gordon")
    fails("aal:IFG", "unknown region 'IFG' of aal; .*")
    fails("aal:?", "the regions of aal are Precentral_L, Precentral_R")
    fails(" , ", "roi is empty")


def broken(**meta):
    def apply(path):
        content = scipy.io.loadmat(path)["meta"]
        fields = {name: content[name][0, 0] for name in content.dtype.names}
        for name, value in meta.items():
            if value is None:
                del fields[name]
            else:
                fields[name] = value(fields[name])
        change(path, meta=fields)

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: change(p, examples=None), "no variable 'examples'"),
        (lambda p: change(p, examples=np.ones((8, 119))), "labelsConcept has 9 entries for 8"),
        (lambda p: change(p, keyConcept=np.ones((9, 1))), "entry 0 of keyConcept is not text"),
        (lambda p: change(p, labelsConcept=np.arange(9.0)), r"labelsConcept\[0\] is 0"),
        (lambda p: change(p, labelsConcept=np.arange(9) + 0.5), r"labelsConcept\[0\] is 0.5"),
        (lambda p: change(p, labelsConcreteness=np.ones(4)), "labelsConcreteness has 4 entries"),
        (lambda p: change(p, meta=np.ones(3)), "meta is no struct"),
        (lambda p: change(p, meta=None), "no variable 'meta'"),
        (broken(colToCoord=None), "meta has no field 'colToCoord'"),
        (broken(colToCoord=lambda x: x[:5]), r"colToCoord has shape \(5, 3\)"),
        (broken(colToCoord=lambda x: x + 0.5), "meta contradicts itself"),
        (broken(colToCoord=lambda x: x - 1), "meta contradicts itself"),
        (broken(dimensions=lambda x: x - 2), "meta contradicts itself"),
        (broken(dimensions=lambda x: x[:, :2]), "meta contradicts itself"),
        (broken(roisAAL=lambda x: np.ones((3, 1))), "entry 0 of the regions of aal is not text"),
        (broken(roiColumnsAAL=None, roiMultimaskAAL=None), "neither columns nor a mask"),
        (broken(roiColumnsAAL=lambda x: x + 1000), "columns outside 1 to"),
        (lambda p: p.write_bytes(p.read_bytes()[:-3000]), "truncated or damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path, damage, message):
    simulation = small_words(tmp_path)
    path = simulation.paths["P01", f"examples_{CONCEPTS}_pictures"]
    damage(path)
    with pytest.raises(ValueError, match=message) as error:
        open_dataset("pereira2018", tmp_path, paradigms="pictures", roi="aal").load("P01")
    assert str(path) in str(error.value)


def test_a_mask_serves_where_the_lists_of_columns_are_gone(tmp_path):
    simulation = small_words(tmp_path)
    path = simulation.paths["P01", f"examples_{CONCEPTS}_pictures"]
    broken(roiColumnsAAL=None)(path)
    roi_responses = open_dataset(
        "pereira2018", tmp_path, paradigms="pictures", roi="aal:Insula_L"
    ).load("P01")
    columns = simulation.regions("P01")["aal"]["Insula_L"]
    planted = simulation.values("P01", path.stem)
    np.testing.assert_array_equal(roi_responses.values, planted[:, columns].astype(np.float32))


def test_paradigms_of_other_voxels_are_not_averaged(tmp_path):
    simulation = small_words(tmp_path)
    other = simulate_pereira(
        tmp_path / "other",
        subjects=["P01"],
        experiments=[CONCEPTS],
        items=simulation.items,
        **{**SMALL, "shape": (8, 8, 8)},
    )
    file = f"examples_{CONCEPTS}_wordclouds"
    simulation.paths["P01", file].write_bytes(other.paths["P01", file].read_bytes())
    with pytest.raises(ValueError, match=r"wordclouds\.mat.*cannot be averaged.*paradigms=apart"):
        open_dataset("pereira2018", tmp_path).load("P01")


def test_passages_that_disagree(release, tmp_path):
    experiment = "243sentences"
    simulation = simulate_pereira(
        tmp_path,
        subjects=["M03", "P01"],
        experiments=[experiment],
        items={experiment: [f"Sentence {i}." for i in range(12)]},
        **SMALL,
    )
    path = simulation.paths["P01", f"examples_{experiment}"]
    labels = scipy.io.loadmat(path)["labelsPassageForEachSentence"]
    change(path, labelsPassageForEachSentence=np.roll(labels, 1))
    with pytest.raises(ValueError, match=r"243sentences\.mat has the sentences in other passages"):
        open_dataset("pereira2018", tmp_path, experiment=experiment).load("P01")
    for data_file in simulation.paths.values():
        change(data_file, labelsPassageForEachSentence=None)
    dataset = open_dataset("pereira2018", tmp_path, experiment=experiment)
    assert dataset.stimulus.run is None and "passages" not in dataset.meta
    assert dataset.load("P01").values.shape[0] == 12


def test_text_of_a_char_matrix(tmp_path):
    simulation = small_words(tmp_path)
    path = simulation.paths["P01", f"examples_{CONCEPTS}_pictures"]
    change(path, keyConcept=np.array(simulation.items[CONCEPTS]))
    dataset = open_dataset("pereira2018", tmp_path, paradigms="pictures")
    assert dataset.stimulus.words == simulation.items[CONCEPTS]
    content = scipy.io.loadmat(path)
    meta = {name: content["meta"][name][0, 0] for name in content["meta"].dtype.names}
    write_matlab73(path, {**{k: content[k] for k in ("examples", "keyConcept")}, "meta": meta})
    again = open_dataset("pereira2018", tmp_path, paradigms="pictures")
    assert again.stimulus.words == simulation.items[CONCEPTS]
    planted = simulation.values("P01", path.stem).astype(np.float32)
    np.testing.assert_array_equal(again.load("P01").values, planted)


def test_a_blank_item_is_named(tmp_path):
    simulation = small_words(tmp_path, items={CONCEPTS: ["a", "b", " ", *"cdefgh"]})
    path = simulation.paths["P01", f"examples_{CONCEPTS}_pictures"]
    with pytest.raises(ValueError, match=r"words\[2\] is blank") as error:
        open_dataset("pereira2018", tmp_path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("paradigms", ["pictures", "mean"])
def test_an_offset_changes_no_response(tmp_path, paradigms):
    """One voxel's offset of 3e7 has all centred, so that none differs from another in kind."""
    small_words(tmp_path, n_voxels=120)
    options = {"paradigms": paradigms, "standardize": False}
    plain = open_dataset("pereira2018", tmp_path, **options).load("P01").values
    for path in sorted(tmp_path.glob("P01/*.mat")):
        values = scipy.io.loadmat(path)["examples"].astype(np.float64)
        values[:, 5] += 3e7
        change(path, examples=values)
    offset_values = open_dataset("pereira2018", tmp_path, **options).load("P01").values
    np.testing.assert_allclose(offset_values, plain - plain.mean(axis=0), atol=1e-5)
