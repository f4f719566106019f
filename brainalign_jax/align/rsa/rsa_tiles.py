"""RSA of many items in bounded memory: distances in tiles, never a whole RDM.

20,000 items have 200 million pairs. A condensed RDM of them takes 0.8 GB, its sort several times that.
Here each RDM is ranked once, by counting: a float32 distance is one of some 33 million values, so a
first pass counts how often each occurs, a running sum of the counts gives the average rank of every
value, and a second pass looks the ranks up and adds up their products tile by tile. Memory per RDM
is the table of ranks (134 MB) and the rows, whatever the number of pairs. The Pearson comparison
needs the second pass alone.

Distances of a quarter of the largest possible and more (0.5 to 2 for correlations) are told apart as
float32 does; smaller ones where they differ by 2^-26 of the largest, which for correlations in float32
is all there is. Closer ones are ties, for float64 input too.
"""

import functools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.align.array_types import Array, Float, Int
from brainalign_jax.align.rsa import rsa, whitened

TILE = 1024

# Keys of distances in [0, 2]: linear below a quarter, float32's own steps above, and some room for
# rounding at both ends.
_LINEAR_TO = 0.25
_LINEAR_STEPS = 2**23
_ROOM = 64
_N_KEYS = 4 * 2**23 + 2 * _ROOM


class TiledRdms(NamedTuple):
    """What is needed to compute the compared values of B RDMs of N items, tile by tile.

    rows [B, N', D]: rows whose distances lie in [0, 2], or ranks (`rsa.doubled_ranks`) whose do, padded to
    whole tiles.
    centre [B]: near the mean distance for the Pearson comparison, 0 for Spearman; NaN where a row
    holds one.
    ranks [B, K] float32: centred average rank of each distance by its key, in [-1, 1]; K = 0 for
    Pearson.
    """

    rows: Float[Array, "B N_padded D"]
    centre: Float[Array, " B"]
    ranks: Float[Array, "B K"]


def scores(
    sources: Float[np.ndarray, "..."],
    targets: Float[np.ndarray, "..."],
    *,
    metric: str = "correlation",
    method: str = "spearman",
    memory_bytes: int = 2**31,
    tile: int | None = None,
) -> Float[np.ndarray, "S L"]:
    """RSA [S, L] of every source with every target, within a memory bound; runs on the host.

    The same numbers as `rsa.scores`, which it calls where the condensed RDMs fit; beyond that, tiles.

    Args:
      sources: [S, N, V], targets: [L, N, D], over the same N items.
      metric, method: as in `rsa.rdm` and `rsa.compare`; only "pearson" and "spearman" have a
        tiled form.
      memory_bytes: for everything but the arguments. Where not all rank tables fit, targets are taken
        in blocks; the sources, or where there are fewer the targets, stay.
      tile: items on a side; None chooses, a number takes the tiled path at any size.

    Raises: ValueError for other shapes, names, or a bound too small for one pair of RDMs.
    """
    rsa.check_scores(sources, targets, metric=metric, method=method)
    if tile is not None and tile < 1:
        raise ValueError(f"tile={tile} must be at least one item")
    if sources.shape[0] > targets.shape[0]:
        turned = scores(
            targets, sources, metric=metric, method=method, memory_bytes=memory_bytes, tile=tile
        )
        return turned.T
    if tile is None and condensed_bytes(sources, targets) <= memory_bytes:
        return _condensed(sources, targets, metric=metric, method=method)
    n_sources, n_items, _ = sources.shape
    if method == "kendall_tau_a":
        raise ValueError(
            f"Kendall's tau-a of {n_items} items has no tiled form and its condensed RDMs need "
            f"memory_bytes={condensed_bytes(sources, targets)}: compare by Spearman, or fewer items"
        )
    if method in whitened.COMPARISONS:
        raise ValueError(
            f"{method} of {n_items} items has no tiled form and needs "
            f"memory_bytes={condensed_bytes(sources, targets)}: compare by Pearson, or fewer items"
        )
    tile = min(tile or TILE, n_items)
    held = _rdms_held(sources, targets, method=method, tile=tile, memory_bytes=memory_bytes)
    prepare = functools.partial(_prepare, metric=metric, method=method, tile=tile)
    result = np.empty((n_sources, targets.shape[0]), np.result_type(sources, targets))
    for source_block in _blocks(n_sources, min(n_sources, held - 1)):
        kept = prepare(sources[source_block])
        for target_block in _blocks(
            targets.shape[0], held - (source_block.stop - source_block.start)
        ):
            taken = prepare(targets[target_block])
            sums = _products(kept, taken, metric=metric, n_items=n_items, tile=tile)
            result[source_block, target_block] = _correlations(
                sums, kept.centre, taken.centre, n_items=n_items
            )
    return result


def condensed_bytes(
    sources: Float[np.ndarray, "S N V"], targets: Float[np.ndarray, "L N D"]
) -> int:
    """Peak bytes of `scores` without tiles: all RDMs, and those being ranked, one for each worker."""
    n_rdms, n_items = sources.shape[0] + targets.shape[0], sources.shape[1]
    n_pairs = n_items * (n_items - 1) // 2
    return np.result_type(sources, targets).itemsize * n_pairs * (2 * n_rdms + 8 * _workers())


def _workers() -> int:
    """RDMs ranked at the same time: XLA sorts on one core of a CPU, whatever the number of cores."""
    return min(os.cpu_count() or 1, 8) if jax.default_backend() == "cpu" else 1


def _condensed(sources, targets, *, metric: str, method: str) -> np.ndarray:
    double = jax.config.jax_enable_x64  # type: ignore[attr-defined] # perhaps for this thread only

    def vector(x):
        with jax.enable_x64(double):
            rdm_vector = _vector(x, metric=metric, method=method)
            return rdm_vector.block_until_ready()

    # The first of each shape goes ahead, or every worker would compile the same program.
    same = sources.shape[2] == targets.shape[2] and sources.dtype == targets.dtype
    heads = [sources[0]] if same else [sources[0], targets[0]]
    tails = [*sources[1:], *targets[len(heads) - 1 :]]
    if _workers() == 1:
        heads, tails = ([vector(x) for x in items] for items in (heads, tails))
    else:
        with ThreadPoolExecutor(_workers()) as pool:
            heads, tails = (list(pool.map(vector, items)) for items in (heads, tails))
    n_later_sources = sources.shape[0] - 1
    first, second = [heads[0], *tails[:n_later_sources]], [*heads[1:], *tails[n_later_sources:]]
    return np.asarray(_compare_all(first, second, method=method))


@functools.partial(jax.jit, static_argnames=("metric", "method"))
def _vector(x: Float[Array, "N D"], *, metric: str, method: str) -> Float[Array, " P"]:
    return rsa.comparison_vector(rsa.rdm(x, metric=metric), method=method)


@functools.partial(jax.jit, static_argnames=("method",))
def _compare_all(sources: list[Array], targets: list[Array], *, method: str) -> Float[Array, "S L"]:
    return rsa.compare_vectors(jnp.stack(sources), jnp.stack(targets), method=method)


def tiled_bytes(sources, targets, *, method: str, tile: int, held: int) -> int:
    """Peak bytes of `scores` in tiles, while `held` RDMs are held."""
    n_items, itemsize = sources.shape[1], np.result_type(sources, targets).itemsize
    width = max(sources.shape[2], targets.shape[2])
    table = 4 * _N_KEYS * (method == "spearman")
    # The rows as they are given and as they are kept, and the values of a tile.
    per_rdm = 2 * itemsize * n_items * width + table + itemsize * tile**2
    # While ranking, counts and their sums; a tile's distances, keys and products.
    return 2 * table + 8 * itemsize * tile * max(tile, width) + held * per_rdm


def _rdms_held(sources, targets, *, method: str, tile: int, memory_bytes: int) -> int:
    """How many RDMs can be held at a time, from two to what an int32 finds in one flat table."""
    needed = functools.partial(tiled_bytes, sources, targets, method=method, tile=tile)
    if memory_bytes < needed(held=2):
        raise ValueError(
            f"two RDMs of {sources.shape[1]} items in tiles of {tile} need "
            f"memory_bytes={needed(held=2)}, not {memory_bytes}: raise the bound, or lower tile"
        )
    per_rdm = needed(held=1) - needed(held=0)
    return min((memory_bytes - needed(held=0)) // per_rdm, 2**31 // _N_KEYS)


def _blocks(total: int, size: int) -> Iterator[slice]:
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


@functools.partial(jax.jit, static_argnames=("metric", "method", "tile"))
def _prepare(x: Float[Array, "B N D"], *, metric: str, method: str, tile: int) -> TiledRdms:
    """The RDMs of the rows of x [B, N, D], each ranked once where the comparison asks for it."""

    def rdms_of(x):
        rows = _tiled_rows(x, metric=metric, tile=tile)
        n_items = x.shape[0]
        centre = _paired_mean(rows[:n_items], metric=metric)
        if method != "spearman":
            return TiledRdms(rows, centre, jnp.zeros(0, jnp.float32))
        ranks = rank_table(rows, metric=metric, n_items=n_items, tile=tile)
        return TiledRdms(rows, 0 * centre, ranks)

    return jax.lax.map(rdms_of, x)


def _tiled_rows(x: Float[Array, "N D"], *, metric: str, tile: int) -> Float[Array, "N_padded D"]:
    """Rows of x [N, D], scaled for distances in [0, 2] and padded with zeros to whole tiles."""
    padded = jnp.pad(x, ((0, -x.shape[0] % tile), (0, 0)))
    if metric != "euclidean":
        tiles = padded.reshape(-1, tile, x.shape[1])

        def prepare(rows):
            if rsa.exact_ranks(rows, metric=metric):
                return rsa.doubled_ranks(rows)
            return rsa.unit_rows(rows, metric=metric)

        return jax.lax.map(prepare, tiles).reshape(padded.shape)
    # A power of two, which changes no digit of any distance, nor any correlation of distances.
    radius = jnp.linalg.norm(x - x.mean(axis=0), axis=1).max()
    return jnp.ldexp(padded, -jnp.frexp(radius)[1])


def _paired_mean(rows: Float[Array, "N D"], *, metric: str) -> Float[Array, ""]:
    """Mean distance of each row of [N, D] to the one half way round: near the mean of all."""
    opposite = jnp.roll(rows, rows.shape[0] // 2, axis=0)
    if metric == "euclidean":
        return jnp.linalg.norm(rows - opposite, axis=1).mean()
    similarity = (rows * opposite).sum(axis=1)
    if rsa.exact_ranks(rows, metric=metric):
        squares = (rows**2).sum(axis=1)
        both = jnp.sqrt(squares * jnp.roll(squares, rows.shape[0] // 2))
        similarity = linalg.ratio(similarity, both, both == 0)
    return 1 - similarity.mean()


def _tile_pairs(n_rows: int, tile: int) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
    """First rows [M] of the tiles on and above the diagonal."""
    first, second = np.triu_indices(n_rows // tile)
    return (tile * first).astype(np.int32), (tile * second).astype(np.int32)


def _tile_distances(rows, start, *, metric: str, n_items: int, tile: int):
    """Distances [t, t] of the tile that starts at `start`, and which of them are pairs i < j."""
    first, second = (jax.lax.dynamic_slice_in_dim(rows, at, tile) for at in start)
    if metric == "euclidean":
        distances = jax.lax.map(lambda row: jnp.linalg.norm(second - row, axis=1), first)
    elif rsa.exact_ranks(rows, metric=metric):
        squares = ((tile_rows**2).sum(axis=1) for tile_rows in (first, second))
        distances = rsa.rank_distances(linalg.matmul(first, second.T), *squares)
    else:
        distances = 1 - linalg.matmul(first, second.T)
    place = jnp.arange(tile, dtype=jnp.int32)
    row, column = start[0] + place[:, None], start[1] + place[None, :]
    return distances, (row < column) & (column < n_items)


def _distance_keys(distances: Float[Array, " *t"]) -> Int[Array, " *t"]:
    """Integers in [0, K) in the order of distances in [0, 2]: the row of each in the rank table."""
    d = distances.astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(d, jnp.int32)
    first = jax.lax.bitcast_convert_type(jnp.float32(_LINEAR_TO), jnp.int32)
    linear = jnp.floor(d * (_LINEAR_STEPS / _LINEAR_TO)).astype(jnp.int32)
    key = jnp.where(d >= _LINEAR_TO, bits - first + _LINEAR_STEPS, linear) + _ROOM
    return jnp.clip(key, 0, _N_KEYS - 1)


def rank_table(
    rows: Float[Array, "N_padded D"], *, metric: str, n_items: int, tile: int
) -> Float[Array, " K"]:
    """Centred average rank [K] float32 of every distance between rows [N', D], by its key.

    (rank - (P + 1) / 2) / (P / 2) over the P pairs of the first n_items rows, ties averaged. Counted,
    not sorted: N'^2 / 2 distances, and a running sum over the K keys.
    """

    def count(counts, start):
        distances, valid = _tile_distances(rows, start, metric=metric, n_items=n_items, tile=tile)
        keys = jnp.where(valid, _distance_keys(distances), _N_KEYS)
        return counts.at[keys.reshape(-1)].add(1, mode="drop"), None

    counts = jnp.zeros(_N_KEYS, jnp.int32)
    counts, _ = jax.lax.scan(count, counts, _tile_pairs(rows.shape[0], tile))
    n_pairs = n_items * (n_items - 1) // 2
    sums = 2 * jnp.cumsum(counts, dtype=jnp.int32) - counts
    return (sums - n_pairs).astype(jnp.float32) / n_pairs


@functools.partial(jax.jit, static_argnames=("metric", "n_items", "tile"))
def _products(
    a: TiledRdms, b: TiledRdms, *, metric: str, n_items: int, tile: int
) -> Float[Array, "M H H"]:
    """Sums of products [M, A + B + 1, A + B + 1] of the compared values, one for each of M tiles.

    The last row and column belong to a vector of ones: they hold the sums of the values.
    """

    def values(rdms: TiledRdms, start):
        n_rdms, n_keys = rdms.ranks.shape
        # Looked up in one flat table: a slice of [B, K] would copy a whole table for each tile.
        table = rdms.ranks.reshape(-1)

        def rdm_values(index):
            rows = jax.lax.dynamic_index_in_dim(rdms.rows, index, keepdims=False)
            distances, valid = _tile_distances(
                rows, start, metric=metric, n_items=n_items, tile=tile
            )
            if n_keys:
                compared = table[index * n_keys + _distance_keys(distances)].astype(distances.dtype)
            else:
                compared = distances - rdms.centre[index]
            return jnp.where(valid, compared, 0).reshape(-1)

        return jax.lax.map(rdm_values, jnp.arange(n_rdms, dtype=jnp.int32))

    def products(start):
        both = values(a, start), values(b, start)
        ones = jnp.ones((1, tile * tile), both[0].dtype)
        return linalg.gram(jnp.concatenate([*both, ones]))

    return jax.lax.map(products, _tile_pairs(a.rows.shape[1], tile))


def _correlations(products, source_centre, target_centre, *, n_items: int) -> np.ndarray:
    """Correlations [A, B] from `_products`, added up over the tiles in float64 on the host."""
    n_pairs = n_items * (n_items - 1) // 2
    total = np.asarray(products, np.float64).sum(axis=0)
    sums = total[:-1, -1]
    covariance = total[:-1, :-1] - np.outer(sums, sums) / n_pairs
    centre = np.concatenate([source_centre, target_centre])
    # Equal distances leave rounding behind, which is no variance.
    rounding = (8 * np.finfo(products.dtype).eps * centre.astype(np.float64)) ** 2
    deviation = np.sqrt(np.maximum(covariance.diagonal(), 0))
    constant = deviation**2 <= rounding * n_pairs
    unit = np.where(constant, 0, 1 / np.where(deviation > 0, deviation, 1))
    unit = np.where(np.isnan(centre), np.nan, unit)
    n_sources = source_centre.shape[0]
    return covariance[:n_sources, n_sources:] * np.outer(unit[:n_sources], unit[n_sources:])
