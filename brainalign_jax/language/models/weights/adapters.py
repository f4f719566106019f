"""LoRA adapters, as `peft` saves them beside a checkpoint: merged into its weights.

A matrix W of the checkpoint that has an adapter becomes W + s·B·A, with s = alpha / r, or
alpha / √r where the adapter is rank-stabilised: what the adapted model computes. Whatever else peft
can put into an adapter is refused by name.

Hu et al. 2021, "LoRA" (arXiv 2106.09685); Kalajdzievski 2023, "A Rank Stabilization Scaling Factor
for Fine-Tuning with LoRA" (arXiv 2312.03732).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainalign_jax.language.models.weights.json_files import read_json
from brainalign_jax.language.models.weights.weight_files import (
    Tensors,
    adapter_files,
    open_weight_file,
    standard_name,
)

_REMEDY = (
    "merge it with peft (model.merge_and_unload(), then save_pretrained) and give the folder of the "
    "merged model"
)
# Fields of peft's LoraConfig that are read here, or that say nothing about the merged weights.
_READ = {"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "bias"}
_READ |= {"init_lora_weights"}
_NO_MATTER = {
    *("auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode"),
    *("peft_version", "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform"),
    # Which layers hold [in, out] is known by the family, and so by peft, whatever the flag says.
    *("layers_pattern", "fan_in_fan_out", "megatron_core", "qalora_group_size", "eva_config"),
}
# The others change the checkpoint's own weights before training.
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
_TENSOR = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight")


class _Product(NamedTuple):
    """Names of the tensors A [r, in] and B [out, r], and the factor on their product."""

    a: str
    b: str
    scale: float


class Adapter:
    """The LoRA adapter in a checkpoint's folder, opened and checked but not read.

    Raises ValueError where it is of another kind, incomplete or damaged.
    """

    def __init__(self, folder: Path):
        self.config_path, self.path = adapter_files(folder)
        fields = read_json(self.config_path)
        _check(fields, self.config_path)
        self._fields, self.tensors = fields, open_weight_file(self.path)
        names: dict[str, dict[str, str]] = {}
        unknown_names = []
        for name in self.tensors:
            match = _TENSOR.fullmatch(name)
            if match is None:
                unknown_names.append(name)
            else:
                names.setdefault(standard_name(match[1]), {})[match[2]] = name
        if unknown_names:
            raise ValueError(
                f"{self.path} holds what is no LoRA matrix of a linear layer: "
                f"{', '.join(unknown_names[:5])}; {_REMEDY}."
            )
        halves = [module for module, pair in names.items() if len(pair) < 2]
        if halves or not names:
            lacking = (
                f"one of the two matrices of {', '.join(halves[:5])}" if halves else "matrices"
            )
            raise ValueError(f"{self.path} lacks {lacking}. Download or save it again.")
        self.products = {module: self._product(module, **pair) for module, pair in names.items()}

    def added(self, module: str) -> np.ndarray:
        """What the adapter adds to the weight of a module, [out, in] float32."""
        a, b, scale = self.products[module]
        left, right = (np.asarray(self.tensors[name], np.float32) for name in (b, a))
        return np.float32(scale) * (left @ right)

    def added_shape(self, module: str) -> tuple[int, int]:
        """The shape of `added`."""
        a, b, _ = self.products[module]
        return self.tensors.header(b)[0][0], self.tensors.header(a)[0][1]

    def _product(self, module: str, A: str, B: str) -> _Product:  # noqa: N803
        rank = _by_pattern(self._fields, "rank_pattern", module, self._fields["r"])
        alpha = _by_pattern(self._fields, "alpha_pattern", module, self._fields["lora_alpha"])
        (a_shape, a_type), (b_shape, b_type) = self.tensors.header(A), self.tensors.header(B)
        if not (len(a_shape) == len(b_shape) == 2 and a_shape[0] == b_shape[1] == rank):
            raise ValueError(
                f"{self.path}: {A} {a_shape} and {B} {b_shape} are no product of the rank r={rank} "
                f"that {self.config_path.name} says; download or save both again."
            )
        if not {a_type, b_type} <= {"float16", "bfloat16", "float32", "float64"}:
            raise ValueError(f"{self.path}: {A} has dtype {a_type}, {B} {b_type}, not floats.")
        root = math.sqrt(rank) if self._fields.get("use_rslora") else rank
        return _Product(A, B, alpha / root)


class Merged(Tensors):
    """The tensors of a checkpoint with an adapter's products added as they are read.

    modules: tensor → the adapter's module; turned: the tensors whose file holds [in, out].
    """

    def __init__(
        self,
        tensors: Tensors,
        adapter: Adapter,
        modules: dict[str, str],
        turned: Collection[str],
    ):
        self.tensors, self.adapter, self.modules, self.turned = tensors, adapter, modules, turned
        for name, module in modules.items():
            expected = adapter.added_shape(module)
            expected = expected[::-1] if name in turned else expected
            if tensors.header(name)[0] != expected:
                raise ValueError(
                    f"{adapter.path}: its matrices for {module} fit a weight of shape {expected}, "
                    f"the checkpoint's has {tensors.header(name)[0]}; give the adapter's own base "
                    "model."
                )

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __getitem__(self, name: str) -> np.ndarray:
        values = self.tensors[name]
        if name not in self.modules:
            return values
        added = self.adapter.added(self.modules[name])
        # Half types are widened by hand: NumPy knows no common type of bfloat16 and float32.
        wide = values if values.dtype == np.float64 else np.asarray(values, np.float32)
        return wide + (added.T if name in self.turned else added)

    def header(self, name: str) -> tuple[tuple[int, ...], str]:
        return self.tensors.header(name)


def merge(
    tensors: Tensors,
    folder: Path,
    *,
    short: Callable[[str], str],
    left_aside: Callable[[str], bool],
    matrices: Mapping[str, bool],
) -> Tensors:
    """The tensors with the folder's adapter, if it has one, merged.

    Args:
      short: the name in `tensors` of a tensor of the full model. left_aside: whether a tensor of this
        short name is no part of `tensors`. matrices: the weights of linear layers -> whether they lie
        in the file as [in, out].

    Raises: ValueError as `Adapter`, and where it adapts what is no linear layer of the checkpoint.
    """
    if not adapter_files(folder):
        return tensors
    adapter = Adapter(folder)
    modules, absent = {}, []
    for module in adapter.products:
        name = short(f"{module}.weight")
        if name in tensors and name in matrices:
            modules[name] = module
        elif not left_aside(name):
            absent.append(module)
    if absent:
        raise ValueError(
            f"{adapter.path} adapts what is no linear layer of the checkpoint beside it: "
            f"{', '.join(absent[:5])}; give the adapter's own base model."
        )
    return Merged(tensors, adapter, modules, {name for name in modules if matrices[name]})


def _check(fields: dict, path: Path) -> None:
    kind = fields.get("peft_type")
    if kind != "LORA":
        what = f"of the kind {kind!r}" if kind else "not one of peft (it names no peft_type)"
        raise ValueError(f"{path}: the adapter is {what}, and only LoRA is merged here; {_REMEDY}.")
    wrong = [
        f"{name}={value!r}"
        for name, value in fields.items()
        if value and name not in _READ and name not in _NO_MATTER
    ]
    if fields.get("bias", "none") not in ("none", None):
        wrong.append(f"bias={fields['bias']!r}")
    start = fields.get("init_lora_weights")
    if not isinstance(start, str | bool | None) or start not in _PLAIN_STARTS:
        wrong.append(f"init_lora_weights={start!r}")
    if wrong:
        raise ValueError(
            f"{path} asks for more than plain LoRA: {', '.join(wrong)[:300]}; {_REMEDY}."
        )
    for name in ("r", "lora_alpha"):
        _check_number(fields.get(name), name, path)
    for name in ("rank_pattern", "alpha_pattern"):
        pattern = fields.get(name) or {}
        if not isinstance(pattern, dict):
            raise ValueError(f"{path}: {name} is {pattern!r}, not an object; {_REMEDY}.")
        for key, value in pattern.items():
            if not re.fullmatch(r"\^?[\w.-]+", key):
                raise ValueError(
                    f"{path}: {name} has the expression {key!r}, where names of modules are read; "
                    f"{_REMEDY}."
                )
            _check_number(value, f"{name}[{key!r}]", path)
    if not isinstance(fields.get("use_rslora", False), bool | None):
        raise ValueError(f"{path}: use_rslora is {fields['use_rslora']!r}, not true or false.")


def _check_number(value: Any, name: str, path: Path) -> None:
    whole = name in ("r",) or name.startswith("rank_pattern")
    number = isinstance(value, int) or (isinstance(value, float) and not whole)
    if isinstance(value, bool) or not number or not 0 < value < 1e9:
        raise ValueError(f"{path}: {name} is {value!r}, not a positive number; save it again.")


def _by_pattern(fields: dict, pattern: str, module: str, usual: Any) -> Any:
    """The value for a module: the first key that is the end of its name, whole parts of it."""
    for key, value in (fields.get(pattern) or {}).items():
        name = key.removeprefix("^")
        if module == name or (name == key and module.endswith(f".{name}")):
            return value
    return usual
