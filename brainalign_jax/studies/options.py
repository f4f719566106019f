"""The choices of the studies that are built of studies: what is asked, beside vectors, scores and protocol.

Light to import: commands make their options of these before anything heavy is loaded.
"""

import re
from dataclasses import dataclass

from brainalign_jax.names import check_known
from brainalign_jax.options import check_fields, described, documented
from brainalign_jax.study.options import Design
from brainalign_jax.study.registry import MEASURES_ALONE, check_measures


@documented
@dataclass(frozen=True)
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


@documented
@dataclass(frozen=True)
class VoxelEncoding(Design):
    """How time courses of voxels are predicted from models: `studies.encoding`."""

    layers: tuple[int, ...] | None = described(
        "Layers, 0 is the embedding output; all if not given.", None, least=0
    )
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


@documented
@dataclass(frozen=True)
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

    def __post_init__(self):
        check_fields(self)


CONDITION, JOINT = CANDIDATE_RULES = ("condition", "joint")


@documented
@dataclass(frozen=True)
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
        check_fields(self)
        for rule in self.candidates:
            check_known("candidates=", rule, CANDIDATE_RULES)
        if not self.candidates:
            raise ValueError(f"candidates is empty: give {' or '.join(CANDIDATE_RULES)}, or both")
        object.__setattr__(self, "candidates", tuple(dict.fromkeys(self.candidates)))


@documented
@dataclass(frozen=True)
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

    def __post_init__(self):
        check_fields(self)


@documented
@dataclass(frozen=True)
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

    def __post_init__(self):
        check_fields(self)


@documented
@dataclass(frozen=True)
class Ablation:
    """Which parts of a model are switched off, how, and how it is read: `studies.ablation`."""

    components: tuple[str, ...] = described(
        "What is switched off, each by itself: heads, attention, ffn, layers (whole blocks), positions, "
        "norms (the gains of a block's layer norms); or one part, as head:2.7, attention:3.",
        ("heads", "attention", "ffn", "positions"),
    )
    how: tuple[str, ...] = described(
        "What stands in the part's place: zero, its mean over the sub-tokens, its output for another text "
        "(resample), or itself with weights drawn anew (reinit).",
        ("zero", "mean"),
    )
    draws: int = described(
        "Draws of resample and reinit, whose scores are averaged.", 3, least=1, most=100
    )
    readout: tuple[str, ...] = described(
        "refit: the map is fitted on the ablated vectors; frozen: it is the intact layer's, and the ablated "
        "vectors are the candidates.",
        ("refit", "frozen"),
    )
    blocks: tuple[int, ...] | None = described(
        "Blocks whose parts are switched off, from 0; all if not given.", None, least=0
    )
    hold_constant: tuple[str, ...] = described(
        "What is known of words without a model and held constant in brain and model, so that what is linear "
        "in it counts for no change: position, rate, length, frequency, sentence_length; by ridge and rsa.",
        (),
        empty=True,
    )
    controls: bool = described(
        "For each part also take a random share of the same norm off what enters its block; not of parts "
        "that write more than half of it.",
        True,
    )
    bits: bool = described(
        "Also measure what the same costs in bits per word, of models with a language-model head: a run of "
        "the whole model for each part.",
        True,
    )
    shapley: tuple[str, ...] = described(
        "Whose joint worth is shared out as Shapley values: parts (attention, ffn, positions of all blocks), "
        "or heads:BLOCK; off by zero or mean, whichever is first in how.",
        (),
        empty=True,
    )
    twins: int = described(
        "Untrained twins with attention only, feed-forward only, and both, each with a seed of its own; 0 "
        "for none.",
        0,
        least=0,
        most=100,
    )
    n_orders: int = described(
        "Orders in which players are added, drawn where not all sets of them can be tried.",
        20,
        least=2,
        most=10_000,
    )
    estimate: str = described(
        "What switching off does (exact), or beside it an estimate for every part: gradient, to first order, "
        "by one pass backward; integrated, averaged over --steps points on which the part fades.",
        "exact",
        choices=("exact", "gradient", "integrated"),
    )
    exact: str = described(
        "With an estimate, which parts are switched off as well: all, or the strongest by it, as top20.",
        "all",
    )
    steps: int = described(
        "Points of a part's way, with estimate=integrated.", 2, least=1, most=100
    )
    n_flips: int = described(
        "Draws of signs for the p-values, all there are where these are fewer; the smallest p is 1 / (1 + "
        "draws).",
        4999,
        least=19,
        most=1_000_000,
    )
    n_bootstraps: int = described(
        "Resamples of subjects and words.", 1000, least=100, most=1_000_000
    )
    confidence: float = described("Of the intervals.", 0.95, above=0.0, below=1.0)

    def __post_init__(self):
        check_fields(self)
        if self.exact != "all" and not re.fullmatch(r"top[1-9]\d{0,5}", self.exact):
            raise ValueError(f"exact={self.exact!r}: give all, or top and a number, as top20")
        if self.exact != "all" and self.estimate == "exact":
            raise ValueError(
                f"exact={self.exact} needs an estimate that says which parts are the strongest: give "
                "estimate=gradient (--estimate=gradient), or leave exact out"
            )
        ways = ("zero", "mean", "resample", "reinit")
        for name, known in (("how", ways), ("readout", ("refit", "frozen"))):
            values = tuple(dict.fromkeys(getattr(self, name)))
            for value in values:
                check_known(f"{name}=", value, known)
            if not values:
                raise ValueError(f"{name} is empty: give one or more of {', '.join(known)}")
            object.__setattr__(self, name, values)
        if self.estimate != "exact" and not {"zero", "mean"} & set(self.how):
            raise ValueError(
                f"estimate={self.estimate} knows what zero and mean do, not {', '.join(self.how)}: give "
                "one of these in how (--how=zero)"
            )
        for name in self.hold_constant:
            from brainalign_jax.study.words import GROUPS

            check_known("hold_constant=", name, GROUPS)
        object.__setattr__(self, "hold_constant", tuple(dict.fromkeys(self.hold_constant)))
        if self.hold_constant and self.estimate != "exact":
            raise ValueError(
                f"estimate={self.estimate} holds nothing constant: leave it out (--estimate=exact), or "
                "hold_constant (--hold_constant)"
            )
        kinds = ("heads", "attention", "ffn", "layers", "positions", "norms")
        named_kinds = []
        for name in self.components:
            kind, named, _ = name.partition(":")
            singular = ("head", "attention", "ffn", "layer", "norms")
            check_known("component", kind, singular if named else kinds)
            named_kinds.append(kind)
        players = []
        for name in self.shapley:
            block = re.fullmatch(r"heads:(\d+)", name)
            check_known("shapley=", "heads:BLOCK" if block else name, ("parts", "heads:BLOCK"))
            players.append(f"heads:{int(block[1])}" if block else name)
        object.__setattr__(self, "shapley", tuple(dict.fromkeys(players)))
        if not self.components:
            raise ValueError(f"components is empty: give one or more of {', '.join(kinds)}")
        if self.estimate != "exact" and set(named_kinds) <= {"positions", "norms"}:
            raise ValueError(
                f"estimate={self.estimate} knows heads, attention, ffn and layers, not "
                f"{' and '.join(dict.fromkeys(named_kinds))}: add one of these to the components "
                "(--components=heads), or leave estimate out"
            )


TIME_METHODS = ("ridge", "procrustes", "rsa", "encoding")


@documented
@dataclass(frozen=True)
class TimeCourse:
    """When in an epoch which layers are found: `studies.timecourse`."""

    window: float = described(
        "Seconds over which each channel is averaged.", 0.05, above=0.0, most=3600.0
    )
    step: float = described("Seconds from window to window.", 0.025, above=0.0, most=3600.0)
    methods: tuple[str, ...] = described(
        "What is scored in each window: ridge and procrustes decode words, rsa compares dissimilarities, "
        "encoding predicts channels. The first is what the verdict goes by.",
        ("ridge", "rsa", "encoding"),
    )
    k: int = described("Of precision@k; fewer where there are fewer words.", 10, least=1)
    generalise_time: bool = described(
        "Also decode every window by the map that was fitted in every other, at the best layer, by the first "
        "method that decodes.",
        False,
    )
    n_nulls: int = described(
        "Draws in which isolated words are exchanged, or responses shifted in a circle against a text, 0 for "
        "none; the smallest p is 1 / (1 + n_nulls).",
        200,
        least=0,
        most=100_000,
    )
    hold_alpha: bool = described(
        "Keep ridge's penalty of the real data in draws that exchange isolated words: several times faster, "
        "a little in favour of the real data. It is chosen anew all the same by the paper protocol, where "
        "nobody has a word, and where folds fit scalings or axes (as of models that differ in width).",
        False,
    )
    n_flips: int = described(
        "Sign flips of people for clusters, which need MNE-Python and six people; 0 for none.",
        1000,
        least=0,
        most=100_000,
    )
    n_bootstraps: int = described(
        "Resamples of people, or of words where people are few.", 2000, least=100, most=1_000_000
    )
    confidence: float = described("Of the intervals.", 0.95, above=0.0, below=1.0)

    def __post_init__(self):
        check_fields(self)
        for name in self.methods:
            check_known("method", name, TIME_METHODS)
        if not self.methods:
            raise ValueError(f"methods is empty: give one or more of {', '.join(TIME_METHODS)}")
        object.__setattr__(self, "methods", tuple(dict.fromkeys(self.methods)))
        decodes = {"ridge", "procrustes"} & set(self.methods)
        if self.generalise_time and not decodes:
            raise ValueError("generalise_time needs a method that decodes: add ridge or procrustes")


@documented
@dataclass(frozen=True)
class Comparison:
    """How models are compared with one another: `studies.comparison`."""

    measures: tuple[str, ...] = described(
        f"Measures of similarity: {', '.join(MEASURES_ALONE)}.",
        ("cka", "mutual_knn"),
    )
    layers: tuple[int, ...] | None = described(
        "Layers, 0 is the embedding output; all if not given.", None, least=0
    )
    n_permutations: int = described(
        "Permutations of the words, and random halves of them; 0 leaves both out.",
        199,
        least=0,
        most=100_000,
    )

    def __post_init__(self):
        check_fields(self)
        check_measures(self.measures, "a comparison of models")
        if not self.measures:
            raise ValueError("measures is empty: give one or more, as cka")
        object.__setattr__(self, "measures", tuple(dict.fromkeys(self.measures)))


@documented
@dataclass(frozen=True)
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

    def __post_init__(self):
        check_fields(self)
