"""The choices of studies of regions, voxels, conditions, languages, figures of speech, models and tasks."""

from brainalign_jax.options import described, field_of, keep_known, option_class
from brainalign_jax.study.options import Design, Scoring
from brainalign_jax.study.registry import MEASURES_ALONE, check_measures


@option_class
class Encoding(Design):
    """How time courses of regions are predicted from a model, see `studies.regions.encoding`."""

    lambdas: tuple[float, ...] = described(
        "Penalties of the nuisances, times a nuisance's sum of squares.",
        (0.1, 1.0, 10.0),
        least=1e-12,
        most=1e12,
    )
    least_shift: float = described(
        "Seconds of the smallest shift; above 0, noise that is smooth in time is taken for an effect more "
        "often than p says.",
        0.0,
        least=0.0,
        most=86400.0,
    )
    n_bootstrap: int = described("Resamples of subjects.", 5000, least=10)


@option_class
class VoxelEncoding(Design):
    """How time courses of voxels are predicted from models: `studies.encoding`."""

    layers: tuple[int, ...] | None = field_of(Scoring, "layers")
    nuisances: tuple[str, ...] = described(
        "What is always in, without a penalty: rate, length, frequency and position of the words, surprisal "
        "(of a trained causal model, its own), or attributes of the data set that are numbers.",
        ("rate", "length", "frequency", "position", "surprisal"),
        empty=True,
    )
    folds: str = described(
        "Whole runs are left out (runs), or blocks of volumes with a purge (volumes); auto leaves runs out "
        "where there are three or more.",
        "auto",
        choices=("auto", "runs", "volumes"),
    )
    ratios: tuple[float, ...] = described(
        "With --spaces, the weights that a space may have beside the largest; 0 and 1 are always tried.",
        (0.01, 0.1),
        least=1e-6,
        below=1.0,
    )
    n_flips: int = described(
        "Sign flips of people for the group's p-values; all there are where these are fewer.",
        4999,
        least=1,
        most=100_000,
    )
    n_bootstrap: int = described(
        "Resamples of people for the group's intervals.", 2000, least=10, most=1_000_000
    )


@option_class
class Languages:
    """How it is asked whether what was fitted on one language holds for others: `studies.languages`."""

    section: str = described(
        "What says which words of the languages belong together: an attribute that the data sets share, as "
        "section, or run.",
        "section",
    )
    space: str = described(
        "What people of all languages share: columns (regions or template voxels of the same names or "
        "places), or hyperaligned (rotations learnt from the sections that are not tested); auto takes the "
        "columns where they are the same.",
        "auto",
        choices=("auto", "columns", "hyperaligned"),
    )
    n_bins: int = described(
        "Parts of equal time of a section, by which people of all languages are hyperaligned.",
        20,
        least=2,
        most=10_000,
    )
    n_axes: int = described(
        "Axes of the responses that are kept, at most; of hyperaligned ones no more than a third of the "
        "parts that they are learnt from.",
        300,
        least=2,
        most=5000,
    )
    purge: float = described(
        "Seconds on either side of the tested section whose words are left out of the training.",
        10.0,
        least=0.0,
        most=86400.0,
    )
    n_nulls: int = described(
        "Draws in which words are shifted in a circle against the recording (within a language) or the "
        "tested people's space is turned (across), 0 for none; the smallest p is 1 / (1 + n_nulls).",
        200,
        least=0,
        most=100_000,
    )
    n_bootstraps: int = described(
        "Resamples of people within languages.", 2000, least=100, most=1_000_000
    )
    confidence: float = described("Of the intervals.", 0.95, above=0.0, below=1.0)
    audited: bool = described(
        "Also run the audited study of each language by itself, into OUT/within/LANGUAGE.", True
    )


CONDITION, JOINT = CANDIDATE_RULES = ("condition", "joint")


@option_class
class Generalisation:
    """How it is asked whether what was fitted on some words holds for others: `studies.generalisation`."""

    n_folds: int = described(
        "Folds of each condition's words; the words of a fold are tested, and are the only candidates.",
        8,
        least=2,
    )
    n_train: int | None = described(
        "Words trained on in every cell; as many as all cells can have if not given.",
        None,
        least=10,
    )
    n_splits: int = described(
        "Times that folds and training words are drawn.", 3, least=1, most=1000
    )
    centring: str = described(
        "What means are taken off the tested words and their candidates: their fold's own, so that "
        "conditions may differ in the mean, or those of the training words.",
        "fold",
        choices=("fold", "training"),
    )
    candidates: tuple[str, ...] = described(
        "What a word is looked for among, none of them trained on: words of its own condition, or as many of "
        "each (joint), where a map that only tells conditions apart scores, too; or both rules. The verdict "
        "is by condition where it is asked for.",
        ("condition",),
    )
    match: tuple[str, ...] = described(
        "Test only words that have a partner in the other conditions, alike in these: length, frequency, "
        "position, reliability (agreement of the other people) or attributes of numbers.",
        (),
    )
    caliper: float = described(
        "Standard deviations that matched words may differ by in each variable.", 0.5, above=0.0
    )
    n_nulls: int = described(
        "Draws in which words exchange their conditions, or with novelty their vectors, 0 for none; the "
        "smallest p is 1 / (1 + n_nulls).",
        100,
        least=0,
        most=100_000,
    )
    n_bootstraps: int = described("Resamples of people and words.", 2000, least=100, most=1_000_000)
    confidence: float = described("Of the intervals.", 0.95, above=0.0, below=1.0)

    def __post_init__(self):
        keep_known(self, "candidates", CANDIDATE_RULES)


@option_class
class Figurative:
    """How it is asked which rewordings of figurative sentences are near to them: `studies.figurative`."""

    pooling: str = described(
        "How a sentence's sub-tokens become one vector: their mean, or the last one's.",
        "mean",
        choices=("mean", "last"),
    )
    n_sentences: int | None = described(
        "Sentences drawn at random; all if not given.", None, least=20
    )
    n_folds: int = described(
        "Folds of sentences; each is scored at the layer that is best in the others.",
        10,
        least=2,
        most=100,
    )
    untrained_seeds: int = described(
        "Untrained twins of each model, each with a seed of its own; 0 for none.",
        1,
        least=0,
        most=100,
    )
    caliper: float = described(
        "In the control whose pairs are balanced on words in common: how far the leads of two matched pairs "
        "may lie apart, in shares of words.",
        0.02,
        least=0.0,
        most=1.0,
    )
    n_flips: int = described(
        "Sign flips of sentences, 0 for none; the smallest p is 1 / (1 + n_flips).",
        1999,
        least=0,
        most=100_000,
    )
    n_bootstraps: int = described("Resamples of sentences.", 2000, least=100, most=100_000)
    confidence: float = described("Of the intervals.", 0.95, above=0.0, below=1.0)
    seed: int = described("Of every draw, and of untrained weights.", 0, least=0)


@option_class
class Abilities:
    """How it is measured what models can do: `studies.abilities`."""

    context: str = described(
        "What a causal model reads before a word of a text or story: all of it from its start (growing), or "
        "the sentence. A model of both directions reads the sentence.",
        "growing",
        choices=("growing", "sentence"),
    )
    spillover: int = described(
        "Words before the one that is read whose length, frequency and surprisal predict its time, too.",
        2,
        least=0,
        most=10,
    )
    n_bootstraps: int = described(
        "Resamples of stories and of their words.", 2000, least=100, most=100_000
    )
    confidence: float = described("Of the intervals.", 0.95, above=0.0, below=1.0)
    seed: int = described("Of the resamples, and of untrained weights.", 0, least=0)


@option_class
class Comparison:
    """How models are compared with one another: `studies.comparison`."""

    measures: tuple[str, ...] = described(
        f"Measures of similarity: {', '.join(MEASURES_ALONE)}.",
        ("cka", "mutual_knn"),
    )
    layers: tuple[int, ...] | None = field_of(Scoring, "layers")
    n_permutations: int = described(
        "Permutations of the words, and random halves of them; 0 leaves both out.",
        199,
        least=0,
        most=100_000,
    )

    def __post_init__(self):
        check_measures(self.measures, "a comparison of models")
        if not self.measures:
            raise ValueError("measures is empty: give one or more, as cka")
        object.__setattr__(self, "measures", tuple(dict.fromkeys(self.measures)))


@option_class
class Performance:
    """Which scores and tasks are related, and with how many draws: `studies.performance`."""

    metric: str | None = described(
        "Which score, of studies and of tables with several; rank_accuracy where it is there.", None
    )
    method: str | None = described("Which method's score, of studies with several.", None)
    k: int = described("Of the score, where it is a precision.", 10, least=1)
    task_names: tuple[str, ...] = described(
        "Tasks by name, with * for any letters, as lambada*, or task:metric as piqa:acc; all if not given.",
        (),
        empty=True,
    )
    n_permutations: int = described(
        "Permutations of models, 0 for none; the smallest p is 1 / (1 + n_permutations).",
        9999,
        least=0,
        most=1_000_000,
    )
    n_bootstraps: int = described("Resamples of models and people.", 2000, least=100, most=100_000)
    confidence: float = described("Of the intervals.", 0.95, above=0.0, below=1.0)
    seed: int = described("Of every draw.", 0, least=0)
