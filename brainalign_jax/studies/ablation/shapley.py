"""What each of several parts is worth to the alignment, whichever of the others are there: Shapley values.

A part's value is what the score gains when it is added to the others that are already there, averaged over
all orders in which the parts can be added. The values sum to the intact model's score less that of the model
without any of the parts. With few players every set of them is tried, else orders are drawn.

References: Shapley 1953, A value for n-person games; Castro, Gómez & Tejada 2009, Polynomial calculation of
the Shapley value based on sampling.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from brainalign_jax.language.models.blocks.architecture import TransformerConfig
from brainalign_jax.language.parts.components import Component
from brainalign_jax.machine import free_memory
from brainalign_jax.names import check_known
from brainalign_jax.studies.ablation.scores import (
    CHOSEN,
    OWN,
    IntactScores,
    PersonScores,
    Stacks,
    held_bytes,
)
from brainalign_jax.studies.ablation.table import change_intervals, metric_scores, metrics_of
from brainalign_jax.studies.options import Ablation
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.report.figure_parts import GREY, OKABE_ITO
from brainalign_jax.study.report.wording import interval, listed, short_names, signed
from brainalign_jax.study.results import GROUP, SELECTED

COLUMNS = (
    "dataset", "subject", "model", "method", "players", "player", "layer", "metric", "k", "value", "lower",
    "upper",
)  # fmt: skip
TOGETHER = "together"  # the intact model less the one without any player: what the values sum to
_SHOWN = 5  # players that a sentence names
_ROUNDING = 1e-12  # of the weights; no score that is worth anything is as small
_HEADS = re.compile(r"heads:(\d+)")


class Players(NamedTuple):
    """What is switched off together as one player. name: as it was asked for; labels, components: of each."""

    name: str
    labels: tuple[str, ...]
    components: tuple[tuple[Component, ...], ...]

    @property
    def first_block(self) -> int:
        """The first block that a player is in."""
        return max(min(part.block for parts in self.components for part in parts), 0)


class Game(NamedTuple):
    """The sets of players that are tried. on: [S, n] bool, the first all and the last none; weights: [n, S],
    a player's value is its row times the scores of the sets; orders: how many were drawn, 0 where all sets
    are tried."""

    on: np.ndarray
    weights: np.ndarray
    orders: int


def players_of(name: str, config: TransformerConfig, model: str) -> Players:
    """The players of "parts" (attention, ffn, positions of all blocks), or "heads:BLOCK".

    Raises: ValueError for a block that the model lacks.
    """
    block = _HEADS.fullmatch(name)
    if block is None:
        check_known("players", name, ("parts", "heads:BLOCK"))
        blocks = range(config.n_layers)
        of_blocks = [tuple(Component(kind, b) for b in blocks) for kind in ("attention", "ffn")]
        labels = ("attention", "ffn", "positions")
        return Players(name, labels, (*of_blocks, (Component("positions"),)))
    check_known("block", block[1], [str(b) for b in range(config.n_layers)], of=model)
    heads = [Component("heads", int(block[1]), head) for head in range(config.n_heads)]
    return Players(name, tuple(map(str, heads)), tuple((head,) for head in heads))


def game_of(n_players: int, n_orders: int, seed: int) -> Game:
    """All sets of the players, where the orders would take as many; else the sets of drawn orders.

    An order is followed by its reverse, which makes the values less uncertain.
    """
    if 2**n_players <= 2 + n_orders * (n_players - 1):
        on = np.array([[s >> i & 1 for i in range(n_players)] for s in range(2**n_players)], bool)
        on, sizes = on[::-1], on[::-1].sum(axis=1)
        factor = np.array([math.factorial(size) for size in range(n_players + 1)], float)
        with_player = factor[np.maximum(sizes - 1, 0)] * factor[n_players - sizes]
        without = factor[sizes] * factor[np.maximum(n_players - sizes - 1, 0)]
        weights = np.where(on, with_player[:, None], -without[:, None]) / factor[n_players]
        return Game(on, weights.T, 0)
    generator = np.random.default_rng((seed, 2))
    drawn = [generator.permutation(n_players) for _ in range(-(-n_orders // 2))]
    orders = [order for forward in drawn for order in (forward, forward[::-1])][:n_orders]
    index = {tuple([True] * n_players): 0}
    weights: list[tuple[int, int, float]] = []
    for order in orders:
        there = np.zeros(n_players, bool)
        before = index.setdefault(tuple(there), len(index))
        for player in order:
            there[player] = True
            after = index.setdefault(tuple(there), len(index))
            weights += [(player, after, 1.0), (player, before, -1.0)]
            before = after
    table = np.zeros((n_players, len(index)))
    for player, which, sign in weights:
        table[player, which] += sign / len(orders)
    # The set of nobody goes last.
    sets = list(index)
    last = index[tuple([False] * n_players)]
    rank = [*(i for i in range(len(sets)) if i != last), last]
    return Game(np.array(sets, bool)[rank], table[:, rank], len(orders))


def off_components(players: Players, game: Game) -> list[list[Component]]:
    """The components that are off in each of the game's sets but the first, of all players."""
    return [
        [
            part
            for parts, there in zip(players.components, on, strict=True)
            if not there
            for part in parts
        ]
        for on in game.on[1:]
    ]


def stacks_of(
    vectors: Sequence[dict[int, np.ndarray]], own: int, size: int, *, every: bool
) -> tuple[Stacks, list[int]]:
    """(stacks of the sets' vectors, the layer of each setting in them).

    A set's vectors are read at the layer `own`, and stand for the chosen layers as well. every: each of its
    other layers is a setting by itself, too.
    """
    settings, read_at = list(vectors), [own] * len(vectors)
    for layer in sorted(
        {layer for layers in vectors for layer in layers if every and layer != own}
    ):
        settings += [{layer: layers[layer]} for layers in vectors]
        read_at += [layer] * len(vectors)
    return Stacks(settings, read_at, size), read_at


def scores_of(
    people: PersonScores,
    method: str,
    known: Sequence[IntactScores],
    stacks: Stacks,
    read_at: Sequence[int],
    ks: Sequence[int],
) -> dict[tuple[int, str, int], np.ndarray]:
    """(layer, metric, k) -> scores [P, S, T] of the sets by maps fitted anew; the first: the intact model."""
    ranks, intact = [], []
    for subject, whole in enumerate(known):
        scored = people.ablated(subject, method, whole, stacks, ("refit",))["refit"]
        ranks.append(scored.ranks)
        intact.append(scored.intact)
    counts = np.array([whole.n_candidates for whole in known])
    places = np.array(read_at)
    asked = [(layer, OWN, layer) for layer in sorted(set(read_at))] + [
        (SELECTED, CHOSEN, read_at[0])
    ]
    scores = {}
    for layer, role, where in asked:
        members = np.flatnonzero(places == where)
        of_sets = np.stack(ranks, axis=1)[:, :, members, role]
        whole = np.stack(intact, axis=1)[:, :, members[:1], role]
        for metric, k in metrics_of(ks):
            both = np.concatenate([whole, of_sets], axis=2)
            scores[layer, metric, k] = metric_scores(both, counts, metric, k)
    return scores


def rows_of(
    scores: dict[tuple[int, str, int], np.ndarray],
    players: Players,
    game: Game,
    subjects: Sequence[str],
    plan: Ablation,
    seed: int,
) -> pd.DataFrame:
    """Rows of each player and of all together; the group's with intervals over people and words."""
    tables = []
    together = np.zeros(len(game.on))
    together[0], together[-1] = 1, -1
    weights = np.vstack([game.weights, together])
    for (layer, metric, k), of_sets in scores.items():
        worth = np.einsum("ns,pst->pnt", weights, of_sets).astype(np.float32)
        worth[np.abs(worth) < _ROUNDING] = 0
        by_person = np.nanmean(worth, axis=-1)
        every = np.concatenate([by_person, by_person.mean(axis=0, keepdims=True)])
        lower, upper = change_intervals(worth, plan, seed)
        unknown = np.full(by_person.size, np.nan)
        tables.append(
            pd.DataFrame(
                {
                    "subject": np.repeat([*subjects, GROUP], len(weights)),
                    "player": [*players.labels, TOGETHER] * (len(subjects) + 1),
                    "value": every.ravel(),
                    "lower": np.concatenate([unknown, lower]),
                    "upper": np.concatenate([unknown, upper]),
                }
            ).assign(layer=layer, metric=metric, k=k)
        )
    return pd.concat(tables, ignore_index=True).assign(players=players.name)


def values_of_model(
    ablation: Any,
    people: PersonScores,
    intact: Mapping[tuple[str, int], IntactScores],
    subjects: Sequence[str],
    plan: Ablation,
    scoring: Scoring,
    name: str,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """(rows of all players and methods of a model, players -> how many orders were drawn, 0 for all).

    ablation: a `language.ablation.Ablation`. intact: by method and subject.

    Raises: ValueError where the vectors would not fit into the memory.
    """
    config, tables, orders = ablation.config, [], {}
    how = next((each for each in plan.how if each in ("zero", "mean")), "zero")
    chosen = {int(layer) for known in intact.values() for layer in known.chosen}
    for asked in plan.shapley:
        players = players_of(asked, config, name)
        game = game_of(len(players.labels), plan.n_orders, scoring.seed)
        every = asked == "parts"
        own = config.n_layers if every else players.first_block + 1
        behind = {layer for layer in chosen if layer > players.first_block}
        layers = set(range(config.n_layers + 1)) if every else {own} | behind
        check_room(len(game.on) - 1, len(layers), ablation)
        vectors = list(ablation.without(off_components(players, game), how, layers))
        stacks, read_at = stacks_of(vectors, own, people.size, every=every)
        for method in scoring.methods:
            known = [intact[method, subject] for subject in range(len(subjects))]
            scores = scores_of(people, method, known, stacks, read_at, scoring.ks)
            rows = rows_of(scores, players, game, subjects, plan, scoring.seed)
            tables.append(rows.assign(method=method, model=name))
        orders[asked] = game.orders
    return pd.concat(tables, ignore_index=True), orders


def check_room(n_sets: int, n_layers: int, ablation: Any) -> None:
    """Raise ValueError where the vectors of so many sets and layers would not fit into the memory."""
    held = n_sets * n_layers * held_bytes(ablation.n_types, ablation.config.width)
    if held > free_memory() // 2:
        raise ValueError(
            f"the vectors of {n_sets} sets of players in {n_layers} layers take {held:,} bytes, more than "
            "half of the free memory: give fewer orders or twins (--n_orders, --twins), or none"
        )


def sentences(rows: pd.DataFrame | None, orders: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What the values say, for each model, method and players: of rank accuracy in the chosen layer.

    orders: model -> players -> how many orders were drawn.
    """
    if rows is None:
        return []
    lines = rows[(rows["subject"] == GROUP) & (rows["layer"] == SELECTED)]
    lines = lines[lines["metric"] == "rank_accuracy"]
    labels = short_names(list(dict.fromkeys(rows["model"])))
    return [
        f"{method}, {labels[model]}: {_sentence(part, players, orders[model][players])}"
        for (model, method, players), part in lines.groupby(
            ["model", "method", "players"], sort=False
        )
    ]


def _sentence(lines: pd.DataFrame, players: str, n_orders: int) -> str:
    worth = lines.set_index("player")
    together = worth.loc[TOGETHER]
    worth = worth.drop(index=TOGETHER).sort_values("value", ascending=False)
    said = [
        f"{player} {signed(line['value'])} {interval(line['lower'], line['upper'])}"
        for player, line in worth.head(_SHOWN).iterrows()
    ]
    more = f" and {len(worth) - _SHOWN} more with less" * (len(worth) > _SHOWN)
    how = f"{n_orders} drawn orders" if n_orders else "all orders"
    what = (
        "attention, ffn and positions"
        if players == "parts"
        else f"the heads of block {players[6:]}"
    )
    return (
        f"{what} together are worth {signed(together['value'])} "
        f"{interval(together['lower'], together['upper'])} of rank accuracy in the chosen layer. Shared out "
        f"over {how} (Shapley values): {listed(said)}{more}."
    )


def draw_values(rows: pd.DataFrame, model: str, method: str, players: str) -> Figure:
    """Bars of the players' values in the chosen layer, and lines over the layers where there are several."""
    lines = rows[(rows["subject"] == GROUP) & (rows["metric"] == "rank_accuracy")]
    lines = lines[(lines["model"] == model) & (lines["method"] == method)]
    lines = lines[lines["players"] == players]
    labels = [player for player in dict.fromkeys(lines["player"]) if player != TOGETHER]
    layers = sorted(set(lines["layer"]) - {SELECTED})
    several = len(layers) > 1
    figure = Figure(
        figsize=(10 if several else 6.5, 0.32 * max(len(labels), 6) + 1.6), layout="constrained"
    )
    axes = figure.subplots(1, 1 + several, squeeze=False)[0]
    shown = lines[lines["layer"] == SELECTED].set_index("player").loc[[*labels, TOGETHER]]
    colours = [*(OKABE_ITO[: len(labels)] if several else OKABE_ITO[:1] * len(labels)), GREY]
    axes[0].barh(
        range(len(shown)), shown["value"], color=colours,
        xerr=[shown["value"] - shown["lower"], shown["upper"] - shown["value"]], ecolor="black",
    )  # fmt: skip
    axes[0].set_yticks(range(len(shown)), list(shown.index))
    axes[0].invert_yaxis()
    axes[0].axvline(0, color=GREY, linewidth=0.8)
    axes[0].set_xlabel("Shapley value (rank accuracy, chosen layer)")
    if several:
        for label, colour in zip([*labels, TOGETHER], colours, strict=True):
            of_player = lines[(lines["player"] == label) & (lines["layer"] >= 0)].sort_values(
                "layer"
            )
            axes[1].plot(of_player["layer"], of_player["value"], "o-", color=colour, label=label)
            axes[1].fill_between(
                of_player["layer"], of_player["lower"], of_player["upper"], color=colour, alpha=0.15
            )
        axes[1].axhline(0, color=GREY, linewidth=0.8)
        axes[1].set_xlabel("layer (0 = embeddings)")
        axes[1].set_ylabel("Shapley value")
        axes[1].legend(frameon=False, fontsize="small")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure
