"""Word vectors of a model with one part switched off at a time.

What comes before the part is the intact model's and is computed once: the intact states that enter a block
are kept while its settings are worked, and each setting goes on from there. Settings are arguments of one
compiled block, so that none compiles again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brainalign_jax.embedding import Embedding, EmbedOptions
from brainalign_jax.language.hidden_states import contextual, pooled_states
from brainalign_jax.language.memory import device_bytes
from brainalign_jax.language.models import checkpoint, registry
from brainalign_jax.language.models.blocks.architecture import TransformerConfig
from brainalign_jax.language.models.blocks.blocks import (
    BlockFill,
    BlockGates,
    Interventions,
    PositionGate,
    apply_block,
    layer_inputs,
)
from brainalign_jax.language.models.blocks.transformer import LanguageModel
from brainalign_jax.language.models.heads import Head, load_head
from brainalign_jax.language.models.interventions import untrained_twin
from brainalign_jax.language.parts import ablated_parts
from brainalign_jax.language.parts.components import (
    DRAWN,
    GATE_NAMES,
    KINDS,
    RANDOM,
    REINIT,
    RESAMPLE,
    Component,
    Setting,
)
from brainalign_jax.language.surprisal import score_words
from brainalign_jax.language.text.packing import Packing
from brainalign_jax.language.text.tokens import WordTokenizer, load_tokenizer
from brainalign_jax.options import changed
from brainalign_jax.stimulus import Stimulus

MOST_SHARE = 0.5  # of what enters a block: a random share beyond it is the whole, no share


class AblatedVectors(NamedTuple):
    """setting; layers: layer -> vectors [T, D] float32; bits: mean change of the words' surprisal, or NaN."""

    setting: Setting
    layers: dict[int, np.ndarray]
    bits: float


class BlockFacts(NamedTuple):
    """What is known of an intact block over the sub-tokens.

    means: BlockFill without the layer axis, what stands in for its parts. squares: mean squared norms of what
    they add to the residual, [H + 3] of the heads, attention, ffn, the block;
    moments: [width, width] mean products of what enters it.
    """

    means: BlockFill
    squares: np.ndarray
    moments: np.ndarray


class Ablation:
    """A model and the words that it reads, ready to be ablated. Arguments and options as of `embed`.

    Raises: ValueError for static vectors, and for a model whose last layer has another width.
    """

    def __init__(
        self,
        stimulus: Stimulus,
        model: str,
        options: Embedding | None = None,
        **changes: Any,
    ):
        options = changed(EmbedOptions, options, changes, "Ablation()")
        last, seed = options.last, options.seed
        spec = registry.resolve(model)
        if spec.kind == "static":
            raise ValueError(f"{model} has no parts to switch off: give a language model")
        self.model = checkpoint.load_model(spec, seed=seed)
        self.config: TransformerConfig = self.model.config
        if last == "hf" and self.model.project_out is not None:
            raise ValueError(
                f"the last layer of {model} has another width than the others: give last=raw (--last=raw)"
            )
        folder = checkpoint.locate(spec.source, weights=spec.kind == "checkpoint")
        tokenizer = load_tokenizer(folder, family=self.config.family)
        self._tokenizer: WordTokenizer = tokenizer.with_bos(options.bos, causal=self.config.causal)
        self._stimulus, self._last, self._options = stimulus, last, options
        types, token_to_type = stimulus.types(lower=options.lower)
        self.n_types = len(types)
        _, _, self._packing = contextual.packed_words(
            stimulus,
            self.config,
            self._tokenizer,
            self._options,
            token_to_row=token_to_type,
        )
        self._check_size(self._packing)
        try:
            self.head: Head | None = load_head(spec, self.model, seed=seed)
        except ValueError:  # a checkpoint of the encoder alone
            self.head = None
        if not self.config.causal and self.head is not None:
            names = self._tokenizer.backend.token_to_id
            if names("[MASK]") is None and names("<mask>") is None:
                self.head = None

    def _check_size(self, packing: Packing) -> None:
        positions = sum(rows * time for rows, time in (plan.shape for plan in packing.plans))
        needed = 4 * positions * self.config.width * 4
        if needed > device_bytes() // 2:
            raise ValueError(
                f"the states of {positions:,} sub-tokens of width {self.config.width} take {needed:,} bytes, "
                "more than half of the memory: give fewer words"
            )

    def vectors(
        self,
        settings: Sequence[Setting],
        layers: Collection[int],
        *,
        bits: bool = True,
        seed: int = 0,
    ) -> Iterator[AblatedVectors]:
        """The vectors of each setting behind its block, and in those of `layers` that lie behind it.

        They come in the order of the blocks, those with weights drawn anew at the end. Left out are random
        shares of parts that write more than MOST_SHARE of what enters their block. seed: of what is drawn.
        bits: whether surprisal is measured; it is not of random shares, nor where other texts stand in.
        """
        on_host = list(self._packing.batches())
        batches = [(pooled_states.device_batch(batch), batch.shared) for batch in on_host]
        intact_bits = self._bits(None) if bits else math.nan

        def change_of(setting: Setting, gates: Interventions, model: LanguageModel) -> float:
            if not bits or setting.how in (RANDOM, RESAMPLE):
                return math.nan
            return self._bits(gates, model) - intact_bits

        kept = [setting for setting in settings if setting.how != REINIT]
        yield from self._vectors(kept, layers, on_host, batches, change_of, seed, None)
        for draw in sorted({setting.draw for setting in settings if setting.how == REINIT}):
            # An untrained model has the study's own seed.
            fresh = untrained_twin(self.model, seed + 1 + draw)
            anew = [each for each in settings if each.how == REINIT and each.draw == draw]
            yield from self._vectors(anew, layers, on_host, batches, change_of, seed, fresh)

    def _vectors(
        self, settings, layers, on_host, batches, change_of, seed, fresh
    ) -> Iterator[AblatedVectors]:
        """`vectors`; fresh: the model with the weights of what is drawn anew."""
        graph, state = nnx.split(self.model)
        blocks, stacked = nnx.split(self.model.blocks)
        on = open_gates(self.config)
        for setting in settings:
            if setting.component.kind == "positions":
                first, gates, model = self._positions_off(
                    setting, on, on_host, batches, seed, fresh
                )
                later = on if setting.how in DRAWN else gates
                ablated = self._go_on(stacked, first, batches, later, 0, {1, *layers})
                yield AblatedVectors(setting, ablated, change_of(setting, gates, model))
        states = [_embed(graph, state, batch, on.positions) for batch, _ in batches]
        for block in range(self.config.n_layers):
            here = [setting for setting in settings if setting.component.block == block]
            facts = self.facts(stacked, states, batches, block) if here and not fresh else None
            outputs: dict[str, jax.Array] = {}
            for setting in here:
                entering, gates, weights, model, at = states, on, stacked, self.model, block
                drawn = (seed, *_place(setting.component), setting.draw)
                if setting.how == RANDOM:
                    square = _square(facts, setting.component)
                    if square > MOST_SHARE * np.trace(facts.moments):
                        continue
                    removal = random_removal(facts, square, drawn[:-1])
                    entering = [_less_share(x, removal) for x in states]
                elif setting.how == REINIT:
                    model = ablated_parts.with_part_drawn_anew(self.model, setting.component, fresh)
                    weights = nnx.split(model.blocks)[1]
                elif setting.component.kind == "norms":
                    model = ablated_parts.with_even_gains(self.model, block, setting.how)
                    weights = nnx.split(model.blocks)[1]
                elif setting.how == RESAMPLE:
                    kind = setting.component.kind
                    run = blocks, self.config, stacked, states, batches
                    if kind not in outputs:
                        outputs = {kind: ablated_parts.outputs_of_block(*run, block, kind)}
                    donors = ablated_parts.drawn_donors(on_host, drawn)
                    off = gates_of(setting, on, facts.means)
                    entering = ablated_parts.through_resampled(
                        *run, off, setting, outputs[kind], donors
                    )
                    at = block + 1
                else:
                    gates = gates_of(setting, on, facts.means)
                wanted = {block + 1} | {layer for layer in layers if layer > block}
                ablated = self._go_on(weights, entering, batches, gates, at, wanted)
                yield AblatedVectors(setting, ablated, change_of(setting, gates, model))
            states = [
                self._block(stacked, x, batch, on, block)
                for x, batch in zip(states, batches, strict=True)
            ]

    def without(
        self, sets: Sequence[Collection[Component]], how: str, layers: Collection[int]
    ) -> Iterator[dict[int, np.ndarray]]:
        """Vectors of the layers with all components of a set off together, for each set: layer -> [T, D].

        how: "zero", or "mean": over the sub-tokens of the intact model; rotary positions know zero only. The
        layers lie behind the first block that a component of any set is in; behind any where positions are.
        """
        batches = [
            (pooled_states.device_batch(batch), batch.shared) for batch in self._packing.batches()
        ]
        graph, state = nnx.split(self.model)
        _, stacked = nnx.split(self.model.blocks)
        on = open_gates(self.config)
        every = {component for components in sets for component in components}
        begin = max(min((component.block for component in every), default=0), 0)
        intact = entering = [_embed(graph, state, batch, on.positions) for batch, _ in batches]
        means: dict[int, BlockFill] = {}
        for block in range(self.config.n_layers):
            entering = intact if block == begin else entering
            if how == "mean" and any(component.block == block for component in every):
                means[block] = self.facts(stacked, intact, batches, block).means
            intact = [
                self._block(stacked, x, batch, on, block)
                for x, batch in zip(intact, batches, strict=True)
            ]
        for components in sets:
            gates, states = on, entering
            for component in components:
                if component.kind == "positions":
                    gates = self._without_positions(
                        how if self.has_position_table else "zero", gates
                    )
                    states = [_embed(graph, state, batch, gates.positions) for batch, _ in batches]
                else:
                    gates = gates_of(Setting(component, how), gates, means.get(component.block))
            yield self._go_on(stacked, states, batches, gates, begin, set(layers))

    def _positions_off(self, setting: Setting, on: Interventions, on_host, batches, seed, fresh):
        """(states that enter the first block, gates, the model) without positions."""
        model, gates = self.model, on
        if setting.how == REINIT:
            model = ablated_parts.with_part_drawn_anew(self.model, setting.component, fresh)
        elif setting.how != RESAMPLE:
            gates = self._without_positions(setting.how, on)
        of_batches = [gates.positions] * len(batches)
        if setting.how == RESAMPLE:
            drawn = (seed, *_place(setting.component), setting.draw)
            rows = ablated_parts.drawn_positions(on_host, drawn)
            of_batches = [self._filled_positions(row) for row in rows]
        graph, state = nnx.split(model)
        pairs = zip(batches, of_batches, strict=True)
        return [_embed(graph, state, batch, gate) for (batch, _), gate in pairs], gates, model

    def _go_on(self, stacked, states, batches, gates, first: int, wanted) -> dict[int, np.ndarray]:
        """Vectors of the wanted layers, from what enters the block `first`."""
        by_layer = {}
        for layer in range(first, max(wanted) + 1):
            if layer > first:
                states = [
                    self._block(stacked, x, batch, gates, layer - 1)
                    for x, batch in zip(states, batches, strict=True)
                ]
            if layer in wanted:
                last = self.finishes and layer == self.config.n_layers
                read = [_finish(*nnx.split(self.model), x) for x in states] if last else states
                by_layer[layer] = self._pooled(read, batches)
                if not np.isfinite(by_layer[layer]).all():
                    raise ValueError(
                        f"the ablated vectors of layer {layer} overflow: leave out the component"
                    )
        return by_layer

    def _pooled(self, states, batches) -> np.ndarray:
        """The word vectors [T, D] of the states of all batches."""
        total = jnp.zeros((1, self.n_types, self.config.width), jnp.float32)
        for x, (batch, _) in zip(states, batches, strict=True):
            total = _pool(total, x, batch)
        return np.asarray(total[0])

    def _block(self, stacked, x, batch, gates: Interventions, block: int) -> jax.Array:
        arrays, shared = batch
        inputs = layer_inputs(self.config, gates)
        graph = nnx.split(self.model.blocks)[0]
        return _through(
            (graph, self.config), stacked, inputs, x, arrays, np.int32(block), shared=shared
        )

    @property
    def packing(self) -> Packing:
        """The batches in which the words are read."""
        return self._packing

    @property
    def finishes(self) -> bool:
        """Whether the last layer is what follows the last block."""
        return self._last == "hf" and self.config.final_norm

    def facts(self, stacked, states, batches, block: int) -> BlockFacts:
        """What is known of a block over the sub-tokens of all batches, from the states that enter it."""
        graph = nnx.split(self.model.blocks)[0]
        inputs = layer_inputs(self.config)
        total = None
        for x, (batch, shared) in zip(states, batches, strict=True):
            part = _sums_of_block(
                (graph, self.config), stacked, inputs, x, batch, np.int32(block), shared=shared
            )
            total = part if total is None else jax.tree.map(jnp.add, total, part)
        count, means, squares, moments = total
        means, squares, moments = jax.tree.map(lambda sums: sums / count, (means, squares, moments))
        return BlockFacts(means, np.asarray(squares), np.asarray(moments))

    def _without_positions(self, how: str, on: Interventions) -> Interventions:
        rotary = jnp.zeros(self.config.n_layers, bool)
        own: Any = on.positions
        factor, fill = jnp.float32(0), jnp.zeros_like(own.fill)
        if how == "mean":
            fill = self._mean_position()
        return Interventions(PositionGate(factor, fill), on.blocks._replace(rotary=rotary))

    def _mean_position(self) -> jax.Array:
        """The mean position embedding of the sub-tokens that are read [width]."""
        counts = np.zeros(self.config.max_length)
        for batch in self._packing.batches():
            places = batch.position[batch.text > 0]
            counts += np.bincount(places, minlength=len(counts))
        places = np.flatnonzero(counts)
        rows = self.model.positions(jnp.asarray(places + self.config.position_offset))
        return jnp.asarray(counts[places] / counts.sum(), jnp.float32) @ rows.astype(jnp.float32)

    def _filled_positions(self, positions: np.ndarray) -> PositionGate:
        """A gate that gives each sub-token the embedding of another position [B, T]."""
        rows = self.model.positions(jnp.asarray(positions + self.config.position_offset))
        return PositionGate(jnp.float32(0), rows.astype(jnp.float32))

    @property
    def has_position_table(self) -> bool:
        """Whether positions are embedded: those of a rotary model have no mean."""
        return hasattr(self.model, "positions")

    def _bits(self, gates: Interventions | None, model: LanguageModel | None = None) -> float:
        """Mean surprisal of the words in bits, or NaN where the model has no head."""
        if self.head is None:
            return math.nan
        values = score_words(
            self._stimulus,
            model or self.model,
            self.head,
            self._tokenizer,
            interventions=gates,
            context=self._options.context,
            window=self._options.window,
        ).nats
        known = np.isfinite(values)
        return float(values[known].mean() / np.log(2)) if known.any() else math.nan


def open_gates(config: TransformerConfig) -> Interventions:
    """Gates that leave a model as it is, with room for what stands in place of a part."""
    n_layers, width = config.n_layers, config.width
    blocks = BlockGates(
        heads=jnp.ones((n_layers, config.n_heads)),
        attention=jnp.ones(n_layers),
        feed_forward=jnp.ones(n_layers),
        block=jnp.ones(n_layers, bool),
        rotary=jnp.ones(n_layers, bool),
        fill=BlockFill(
            heads=jnp.zeros((n_layers, config.n_heads, config.head_size)),
            attention=jnp.zeros((n_layers, width)),
            feed_forward=jnp.zeros((n_layers, width)),
            block=jnp.zeros((n_layers, width)),
        ),
    )
    return Interventions(PositionGate(jnp.float32(1), jnp.zeros(width)), blocks)


def gates_of(setting: Setting, on: Interventions, means: BlockFill) -> Interventions:
    """The gates `on` with the setting's component off; means: of its block, see `BlockFacts`."""
    kind, block, head = setting.component
    name = GATE_NAMES[kind]
    place = (block, head) if kind == "heads" else (block,)
    factors = getattr(on.blocks, name)
    gates = on.blocks._replace(**{name: factors.at[place].set(factors.dtype.type(0))})
    if setting.how == "mean":
        mean = getattr(means, name)[head] if kind == "heads" else getattr(means, name)
        filled = getattr(on.blocks.fill, name).at[place].set(mean)
        gates = gates._replace(fill=on.blocks.fill._replace(**{name: filled}))
    return on._replace(blocks=gates)


def random_removal(facts: BlockFacts, square: float, seed: Sequence[int]) -> jax.Array:
    """[width, width] that takes of what enters a block its share in random directions.

    The share's mean squared norm is `square`: there are as many directions as hold about so much.
    """
    width, total = len(facts.moments), np.trace(facts.moments)
    count = int(np.clip(round(width * square / max(total, 1e-30)), 1, width - 1))
    drawn = np.random.default_rng(tuple(seed)).standard_normal((width, count))
    axes, _ = np.linalg.qr(drawn)
    share = max(float(np.einsum("wc,wv,vc->", axes, facts.moments, axes)), 1e-30)
    return jnp.asarray(math.sqrt(square / share) * axes @ axes.T, jnp.float32)


def _square(facts: BlockFacts, component: Component) -> float:
    at = {"heads": component.head, "attention": -3, "ffn": -2, "layers": -1}[component.kind]
    return float(facts.squares[at])


def _place(component: Component) -> tuple[int, int, int]:
    return KINDS.index(component.kind), max(component.block, 0), component.head + 1


@functools.partial(jax.jit, static_argnums=0)
def _embed(graph, state, batch, gate):
    return pooled_states.first_states(nnx.merge(graph, state), batch, gate)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("shared",))
def _through(static, stacked, inputs, x, batch, block, *, shared):
    graph, config = static
    parameters, layer = jax.tree.map(lambda leaf: leaf[block], (stacked, inputs))
    texts = pooled_states.inputs_of(config, batch, shared=shared)
    return apply_block(graph, parameters, x, texts, layer)[0]


@functools.partial(jax.jit, static_argnums=0, static_argnames=("shared",))
def _sums_of_block(static, stacked, inputs, x, batch, block, *, shared):
    """(count, sums of the means' terms, of squared norms, of products) over the sub-tokens of a batch."""
    graph, config = static
    parameters, layer = jax.tree.map(lambda leaf: leaf[block], (stacked, inputs))
    texts = pooled_states.inputs_of(config, batch, shared=shared)
    module = nnx.merge(graph, parameters)
    y, parts = module(x, texts, layer)
    read = (batch.text > 0).astype(jnp.float32)
    heads = parts.heads.reshape(*x.shape[:2], config.n_heads, -1).astype(jnp.float32)
    weight = module.attention_out.kernel[...].astype(jnp.float32)
    weight = weight.reshape(config.n_heads, config.head_size, -1)
    products = jnp.einsum("hdw,hew->hde", weight, weight, precision="highest")
    of_heads = jnp.einsum("bthd,hde,bthe,bt->h", heads, products, heads, read, precision="highest")
    added = (parts.attention, parts.feed_forward, y - x)
    written = [part.astype(jnp.float32) for part in added]

    def total(values):
        return jnp.einsum("bt...,bt->...", values, read, precision="highest")

    squares = [total(jnp.square(part).sum(axis=-1)) for part in written]
    means = BlockFill(total(heads), *(total(part) for part in written))
    entering = x.astype(jnp.float32)
    moments = jnp.einsum("btw,btv,bt->wv", entering, entering, read, precision="highest")
    return read.sum(), means, jnp.concatenate([of_heads, jnp.stack(squares)]), moments


@jax.jit
def _less_share(x, removal):
    return x - jnp.matmul(x, removal.astype(x.dtype), precision="highest")


@jax.jit
def _pool(total, x, batch):
    return pooled_states.add_pooled(total, 0, x, batch)


@functools.partial(jax.jit, static_argnums=0)
def _finish(graph, state, x):
    return nnx.merge(graph, state).finish(x)
