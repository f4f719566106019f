"""The choices of ablations: which parts of a model, how they are switched off, what is measured."""

import re

from brainalign_jax.names import check_known
from brainalign_jax.options import described, keep_known, option_class


@option_class
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
        if self.exact != "all" and not re.fullmatch(r"top[1-9]\d{0,5}", self.exact):
            raise ValueError(f"exact={self.exact!r}: give all, or top and a number, as top20")
        if self.exact != "all" and self.estimate == "exact":
            raise ValueError(
                f"exact={self.exact} needs an estimate that says which parts are the strongest: give "
                "estimate=gradient (--estimate=gradient), or leave exact out"
            )
        keep_known(self, "how", ("zero", "mean", "resample", "reinit"))
        keep_known(self, "readout", ("refit", "frozen"))
        if self.estimate != "exact" and not {"zero", "mean"} & set(self.how):
            raise ValueError(
                f"estimate={self.estimate} knows what zero and mean do, not {', '.join(self.how)}: give "
                "one of these in how (--how=zero)"
            )
        from brainalign_jax.study.words import GROUPS

        keep_known(self, "hold_constant", GROUPS, empty=True)
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
