"""What every part is worth by the gradient of a smooth alignment, beside what switching it off does to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from brainalign_jax.language.parts.ablation import AblatedVectors, Ablation
from brainalign_jax.language.parts.components import DRAWN, RANDOM, Component, Setting
from brainalign_jax.language.parts.gates import SUBLAYERS, GateGradients, part_of
from brainalign_jax.studies import options
from brainalign_jax.studies.ablation.objectives import Objectives
from brainalign_jax.study.results import GROUP

COLUMNS = (
    "dataset", "model", "component", "block", "head", "how", "layer", "objective", "value", "estimate",
    "exact",
)  # fmt: skip
FILE = "gradient.parquet"
_PART = ["component", "block", "head"]


class Estimates:
    """The estimated change of each objective without each part, for one model.

    rows: `COLUMNS` less dataset and model, a line a part, way, layer and objective. layer: the one behind the
    part's block, and `read`, which the intact model chooses most often; value: of the intact layer; estimate:
    the change by gradient; exact: by switching off, NaN until `add_exact`, and of parts not verified.
    """

    def __init__(
        self,
        ablation: Ablation,
        objectives: Objectives,
        settings: Sequence[Setting],
        plan: options.Ablation,
        read: int,
    ):
        self._objectives, self._read = objectives, read
        gates = GateGradients(ablation)
        intact = gates.vectors()
        values = {layer: objectives.values(layer, intact[layer]) for layer in objectives.layers}
        asked = objectives.gradients, {read} - {0}
        hows = [how for how in plan.how if how not in DRAWN]
        parts = dict.fromkeys(setting.component for setting in settings)
        if plan.estimate == "integrated":
            made = gates.integrated(*asked, parts, hows=hows, steps=plan.steps)
        else:
            blocks = {part.block for part in parts if has_gate(part)}
            made = gates.first_order(*asked, blocks, hows=hows)
        changes = {(each.block, each.layer, each.how): each.changes for each in made}
        lines = []
        for component, how, _ in settings:
            column = part_of(component, ablation.config.n_heads)
            for layer in objectives.layers if column is not None else ():
                known = changes.get((component.block, layer, how))
                for at, name in enumerate(objectives.names if known is not None else ()):
                    place = (*component, how, layer, name)
                    lines.append((*place, values[layer][at], known[at, column], np.nan))
        self.rows = pd.DataFrame(lines, columns=list(COLUMNS[2:]))

    def verified(self, settings: Sequence[Setting], exact: str) -> list[Setting]:
        """The settings that are switched off: all, or those of the parts of the largest estimated falls.

        exact: "all", or "top" and a number. Parts without a gate are always switched off. The first objective
        counts, in the layer that the intact model chooses, by the larger fall of a part's ways.
        """
        if exact == "all":
            return list(settings)
        where = self.rows["layer"] == self._read
        if not where.any():
            where = self.rows["layer"] == self.rows["block"] + 1
        lines = self.rows[where & (self.rows["objective"] == self._objectives.names[0])]
        falls = lines.groupby(_PART)["estimate"].min().sort_values(kind="stable")
        strongest = set(falls.index[: int(exact.removeprefix("top"))])
        return [
            setting
            for setting in settings
            if tuple(setting.component) in strongest or not has_gate(setting.component)
        ]

    def add_exact(self, vectors: Sequence[AblatedVectors]) -> None:
        """Fill the exact changes from the vectors of the ablated model; of what has an estimate alone."""
        changes = {}
        for setting, layers, _ in vectors:
            estimated = setting.how not in (RANDOM, *DRAWN) and has_gate(setting.component)
            places = {setting.component.block + 1, self._read} & set(layers) if estimated else ()
            for layer in places:
                values = self._objectives.values(layer, layers[layer])
                for name, value in zip(self._objectives.names, values, strict=True):
                    changes[*setting.component, setting.how, layer, name] = value
        keys = self.rows[[*_PART, "how", "layer", "objective"]].itertuples(index=False, name=None)
        exact = np.array([changes.get(key, np.nan) for key in keys])
        self.rows["exact"] = exact - self.rows["value"]


def has_gate(component: Component) -> bool:
    """Whether a part has a gate, and so an estimate."""
    return component.kind in ("heads", *SUBLAYERS)


def layers_read(settings: Sequence[Setting], read: int) -> list[int]:
    """The layers that estimates are of: behind the parts' blocks, and the one that is chosen, from 1."""
    own = {setting.component.block + 1 for setting in settings if has_gate(setting.component)}
    return sorted((own | {read}) - {0})


def parts_by_way(settings: Sequence[Setting]) -> dict[str, int]:
    """how -> the number of components that are switched off so, however many draws there are."""
    return dict(Counter(how for _, how in {(component, how) for component, how, _ in settings}))


def over_all_parts(
    rows: pd.DataFrame, scored: Sequence[Setting], left_out: Sequence[Setting]
) -> pd.DataFrame:
    """Rows of the scored parts with p-values that count those left out, of which they are the strongest.

    They were chosen by the same data, so that the largest of them is not the largest of a fixed set: p_max is
    Bonferroni's over all parts, and the parts that were not switched off count as tests in p_fdr. Each way is
    a family of its own, of the parts that can be switched off so.
    """
    if not left_out:
        return rows
    n_scored = parts_by_way(scored)
    n_parts = parts_by_way([*scored, *left_out])
    counts = rows["how"].map(n_parts)  # NaN for the intact model and twins, which have no p
    group = rows["subject"] == GROUP
    p_max = np.minimum(1, counts * rows["p"])
    p_fdr = np.minimum(1, rows["p_fdr"] * counts / rows["how"].map(n_scored))
    return rows.assign(
        p_max=rows["p_max"].where(~group, p_max), p_fdr=rows["p_fdr"].where(~group, p_fdr)
    )
