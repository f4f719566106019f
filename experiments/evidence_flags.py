"""Flags of the evidence beside the scores, shared by the experiments that run studies."""

from absl import flags

from brainalign_jax.study.evidence import EvidencePlan
from brainalign_jax.study.null_draws import KINDS

_EVIDENCE = flags.DEFINE_bool(
    "evidence", True, "Nulls, controls, ceilings, intervals and a verdict beside the scores."
)
_N_NULLS = flags.DEFINE_integer(
    "n_nulls", 100, "Draws of the null distribution; 0 for none.", lower_bound=0
)
_NULL = flags.DEFINE_enum(
    "null",
    None,
    list(KINDS),
    "What a draw does: exchange items, shift the recording, exchange blocks of it, or noise. Default: shift "
    "for words in time, blocks for items in runs, else items.",
)
_HOLD_ALPHA = flags.DEFINE_bool(
    "hold_alpha",
    False,
    "Keep ridge's penalty of the real data in draws of items: many times faster, a little less strict.",
)
_N_PERMUTATIONS = flags.DEFINE_integer(
    "n_permutations", 1000, "Permutations of words for the p-values of RSA scores.", lower_bound=0
)
_UNTRAINED_SEEDS = flags.DEFINE_integer(
    "untrained_seeds", 1, "Untrained twins of each model; 0 for none.", lower_bound=0
)
_CONTROLS = flags.DEFINE_list(
    "controls",
    None,
    "Vectors without a language model, as nuisance:all; all that fit the words if not given.",
)
_CEILINGS = flags.DEFINE_bool(
    "ceilings", True, "Score each subject by the other subjects' responses."
)
_N_BOOTSTRAPS = flags.DEFINE_integer(
    "n_bootstraps", 2000, "Resamples of subjects and words.", lower_bound=100
)


def evidence_plan(*, seed: int = 0) -> EvidencePlan | None:
    """What the flags ask for; None with --evidence=false."""
    if not _EVIDENCE.value:
        return None
    controls = _CONTROLS.value
    return EvidencePlan(
        n_nulls=_N_NULLS.value,
        null=_NULL.value,
        hold_alpha=_HOLD_ALPHA.value,
        n_permutations=_N_PERMUTATIONS.value,
        untrained_seeds=_UNTRAINED_SEEDS.value,
        controls=None if controls is None else tuple(name for name in controls if name),
        ceilings=_CEILINGS.value,
        n_bootstraps=_N_BOOTSTRAPS.value,
        seed=seed,
    )
