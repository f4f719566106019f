"""The choices of a study that are no choices of the protocol or of the vectors: scores, evidence.

Light to import: commands make their options of these before anything heavy is loaded.
"""

from brainalign_jax.embedding import Embedding
from brainalign_jax.names import check_known
from brainalign_jax.options import described, field_of, option_class
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.registry import (
    DEFAULT,
    MEASURES_ALONE,
    decoders_of,
    known_methods,
    measures_of,
)

NULLS = ("items", "shift", "blocks", "noise")
GROUPS = ("summed", "hyperaligned")
KS = (1, 5, 10, 30, 50, 100)  # of this list, those above the number of words are left out
CELL_KS = (1, 3)  # where words are looked for among no more than a fold has


@option_class
class Scoring:
    """What to score, under which protocol (`protocol()`; audited for words in time if not given).

    >>> import brainalign_jax as ba
    >>> scoring = ba.Scoring(methods=("ridge", "rsa"), protocol=ba.protocol("audited", purge=5.0))
    >>> scoring.ks
    (1, 5, 10, 30, 50, 100)
    """

    methods: tuple[str, ...] = described(
        f"What to score with: {', '.join(DEFAULT)} decode words; rsa, {', '.join(MEASURES_ALONE)} give one "
        "number for all words.",
        DEFAULT,
    )
    protocol: Protocol | None = None
    ks: tuple[int, ...] = described(
        "The k of precision@k; of the default ones, those above the number of words are left out.",
        KS,
        least=1,
    )
    layers: tuple[int, ...] | None = described(
        "Layers, 0 is the embedding output; all if not given.", None, least=0
    )
    lower: bool = described("Word types without regard to case.", False)
    seed: int = described(
        "Seed of the drawn folds, of untrained weights and null draws.", 0, least=0
    )

    def __post_init__(self):
        for name in self.methods:
            check_known("method", name, known_methods())
        if not self.methods:
            raise ValueError(
                f"no method is given: name one or more of {', '.join(known_methods())}"
            )
        object.__setattr__(self, "methods", tuple(dict.fromkeys(self.methods)))
        if self.protocol is not None and self.measures and self.protocol.n_voxels:
            name = self.measures[0]
            score = "the RSA score" if name == "rsa" else name
            raise ValueError(
                f"{score} compares all words at once, so that no words are left to select voxels "
                f"by: leave {name} out of the methods, or set n_voxels=0"
            )
        object.__setattr__(self, "ks", tuple(dict.fromkeys(self.ks)))

    @property
    def decoders(self) -> tuple[str, ...]:
        """The methods that decode words."""
        return decoders_of(self.methods)

    @property
    def measures(self) -> tuple[str, ...]:
        """The methods that give one number for all words; rsa is among both."""
        return measures_of(self.methods)


@option_class
class EvidencePlan:
    """How much is done to tell a score from an artefact.

    >>> import brainalign_jax as ba
    >>> plan = ba.EvidencePlan(n_nulls=999, null="shift")
    >>> plan.untrained_seeds, plan.ceilings
    (1, True)
    """

    n_nulls: int = described(
        "Draws of the null distribution, 0 for none; the smallest p is 1 / (1 + n_nulls).",
        100,
        least=0,
    )
    null: str | None = described(
        "What a draw does: exchange items, shift the words against the recording, exchange blocks of it, or "
        "take noise in its place. Default: shift for words in time, blocks for items in runs, else items.",
        None,
        choices=NULLS,
    )
    hold_alpha: bool = described(
        "Keep ridge's penalty of the real data in draws that exchange items: several times faster, a little "
        "in favour of the real data. It is chosen anew all the same by the paper protocol, where a person "
        "lacks words, and where folds fit scalings or axes (as of models that differ in width).",
        False,
    )
    n_permutations: int = described(
        "Permutations of the words for the p-values of RSA scores.", 1000, least=0
    )
    untrained_seeds: int = described(
        "Untrained twins of each model, each with a seed of its own; 0 for none.", 1, least=0
    )
    controls: tuple[str, ...] | None = described(
        "Vectors without a language model, as nuisance:all; all that fit the words if not given.",
        None,
        empty=True,
    )
    ceilings: bool = described("Score each subject's words by the other subjects' responses.", True)
    n_bootstraps: int = described("Resamples of subjects and words.", 2000, least=100)
    confidence: float = described("Of the intervals.", 0.95, above=0.0, below=1.0)
    seed: int = described("Of every draw.", 0, least=0, flag="")


@option_class
class Design:
    """How words become regressors for volumes, and how these are fitted."""

    design: str = described(
        "Canonical response (hrf), or a Lanczos filter with delays, from which the regression learns the "
        "response.",
        "hrf",
        choices=("hrf", "lanczos"),
    )
    delays: tuple[int, ...] | None = described(
        "Delays in volumes, as 1,2,3,4; those of the design if not given.",
        None,
        least=-1000,
        most=1000,
    )
    hrf: str = described("Which canonical response.", "spm", choices=("spm", "glover"))
    context: str = described(
        "What the model reads of a word, see `embed`.",
        "sentence",
        choices=("sentence", "window", "growing", "word"),
    )
    window: int = field_of(Embedding, "window")
    pooling: str = field_of(Embedding, "pooling")
    n_folds: int = described("Contiguous outer folds of volumes.", 6, least=2)
    n_inner: int = described("Inner folds within each training set.", 5, least=2)
    purge: float = described("Seconds left out around a test block.", 20.0, least=0.0, most=86400.0)
    alphas: tuple[float, ...] = described(
        "Penalties of the features, times their kernel's mean diagonal; no features at all is always tried "
        "as well.",
        tuple(10.0 ** (step / 2) for step in range(-2, 7)),
        least=1e-12,
        most=1e12,
    )
    n_shifts: int = described("Recordings shifted in a circle.", 200, least=1)
    seed: int = described("Of shifts, bootstrap and untrained weights.", 0, least=0)
