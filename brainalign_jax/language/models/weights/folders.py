"""Where in a folder the checkpoint is, and what a folder without one holds.

The hub's cache and sentence-transformers keep a checkpoint further in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from brainalign_jax.language.models.weights.json_files import read_json

# In order of preference.
WEIGHT_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "flax_model.msgpack",
)
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def checkpoint_folder(folder: Path, revision: str | None = None) -> Path:
    """The folder of config.json and weights, in a folder as it lies on a disk.

    A folder of the hub's cache (`models--owner--name`, with `refs` and `snapshots`): the snapshot of
    `revision`, or of refs/main. A sentence-transformers model: its transformer. Any other: itself.

    Raises: FileNotFoundError or ValueError where there is no such snapshot or transformer, and where
    a revision is asked of a folder that has none.
    """
    if (folder / "snapshots").is_dir():
        folder = _snapshot(folder, revision)
    elif revision is not None and folder.name != revision:
        raise ValueError(
            f"{folder} is a folder of files, which has no revision {revision!r}; leave it out, or "
            "give the model's hub id."
        )
    return _transformer(folder)


def _snapshot(cache: Path, revision: str | None) -> Path:
    commits = sorted(path.name for path in (cache / "snapshots").iterdir() if path.is_dir())
    wanted = revision or "main"
    if wanted in commits:
        return cache / "snapshots" / wanted
    if any(part in ("", ".", "..") for part in wanted.split("/")):
        raise ValueError(f"{wanted!r} is no revision; give a branch, a tag or a commit.")
    reference = cache / "refs" / wanted
    if reference.is_file():
        with reference.open(encoding="utf-8", errors="replace") as stream:
            commit = stream.read(100).strip()
        if _COMMIT.fullmatch(commit) and commit in commits:
            return cache / "snapshots" / commit
        raise FileNotFoundError(
            f"{reference} names the snapshot {commit[:40]!r}, which is not in {cache / 'snapshots'}; "
            "download it again."
        )
    starting = [commit for commit in commits if revision and commit.startswith(revision)]
    if len(starting) == 1 and len(wanted) >= 7:
        return cache / "snapshots" / starting[0]
    if revision is None and len(commits) == 1:
        return cache / "snapshots" / commits[0]
    raise FileNotFoundError(
        f"{cache} is a folder of the Hugging Face cache and has no snapshot of {wanted!r}; it has "
        f"{', '.join(commits[:5]) or 'none'}; give one of them as revision, or download it."
    )


def _transformer(folder: Path) -> Path:
    modules = folder / "modules.json"
    if modules.is_file():
        path = _first_module(modules)
        if path and not (folder / path / "config.json").is_file():
            raise FileNotFoundError(
                f"{modules} names the transformer in {folder / path}, where no config.json is; copy "
                "the whole model."
            )
        if path:
            return folder / path
    inside = folder / "0_Transformer"
    if (inside / "config.json").is_file() and not _names_a_model(folder / "config.json"):
        return inside
    return folder


def _names_a_model(config: Path) -> bool:
    return config.is_file() and "model_type" in read_json(config)


def _first_module(modules: Path) -> str:
    """The path of the first module, "" for the folder itself."""
    first = next(iter(read_json(modules, kind=list)), None)
    path = first.get("path", "") if isinstance(first, dict) else None
    kind = str(first.get("type", "")) if isinstance(first, dict) else ""
    if not isinstance(path, str) or "\\" in path or PurePosixPath(path).name != path:
        raise ValueError(f"{modules} does not name its first module, or one outside of its folder.")
    if kind.startswith("sentence_transformers.") and not kind.endswith("Transformer"):
        raise ValueError(
            f"{modules}: the sentence-transformers model begins with {kind.split('.')[-1][:60]}, not "
            "with a transformer; give a model that does, or word vectors as static:FILE."
        )
    return path


def folder_message(folder: Path) -> str | None:
    """What a folder without config.json or without readable weights holds, and the remedy; None if
    nothing that is known."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if any(name in names for name in (ADAPTER_CONFIG, *ADAPTER_WEIGHTS)):
        return _adapter_alone(folder)
    lost = [name for name in names if not (folder / name).exists()]
    if lost:
        return (
            f"{folder} holds links to files that are not there ({', '.join(lost[:3])}): copy the files "
            "that they stand for, or download the checkpoint again."
        )
    inside = [
        name
        for name in names
        if (folder / name / "config.json").is_file()
        and any((folder / name / file).is_file() for file in WEIGHT_NAMES)
    ]
    if inside:
        return (
            f"{folder} has no checkpoint itself, but folders with one: "
            f"{', '.join(inside[:5])}; give one of them."
        )
    cached = [name for name in names if name.startswith("models--")]
    if cached:
        return f"{folder} is a Hugging Face cache; give one of its models: {', '.join(cached[:5])}."
    return format_message(str(folder), names)


def gguf_inside(folder: Path) -> Path | None:
    """The GGUF file of a folder that holds no weights of another format; None where there is none.

    Raises: ValueError where there are several.
    """
    files = sorted(folder.glob("*.gguf"))
    if not files or any((folder / name).is_file() for name in (*WEIGHT_NAMES, *ADAPTER_WEIGHTS)):
        return None
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise ValueError(f"{folder} holds {len(files)} GGUF files ({names}); give one of them.")
    return files[0]


def format_message(where: str, names: Iterable[str]) -> str | None:
    """What files of these names are, where none is a checkpoint's; None if nothing that is known."""
    for pattern, what, remedy in _OTHERS:
        matching = [name for name in names if re.fullmatch(pattern, name)]
        if matching:
            return f"{where} holds {what} ({', '.join(matching[:3])}): {remedy}."
    return None


_AS_TRANSFORMERS = (
    "give the checkpoint as transformers saves it, config.json with model.safetensors or "
    "pytorch_model.bin"
)
_OTHERS = (
    (
        r".*\.gguf",
        "weights for llama.cpp only",
        "download one of these GGUF files (`hf download OWNER/NAME FILE`) and give its path",
    ),
    (r"quant(ize)?_config\.json", "quantised weights (GPTQ or AWQ)", "use the model itself"),
    (r"consolidated\..*|params\.json", "a checkpoint in its maker's own format", _AS_TRANSFORMERS),
    (r"tf_model.*\.h5|.*\.ckpt\.(index|meta|data.*)", "TensorFlow weights only", _AS_TRANSFORMERS),
    (
        r"onnx|.*\.onnx|openvino_model\..*",
        "a compiled model (ONNX, OpenVINO) only",
        _AS_TRANSFORMERS,
    ),
    (r".*\.(mlmodel|mlpackage|tflite|engine|ot)", "a compiled model only", _AS_TRANSFORMERS),
    (r".*\.(pt|pth|ckpt|npz)", "weights in another form", _AS_TRANSFORMERS),
)


def _adapter_alone(folder: Path) -> str:
    base = None
    if (folder / ADAPTER_CONFIG).is_file():
        base = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    of = f", of the model {str(base)[:200]!r}" if base else ""
    return (
        f"{folder} holds only an adapter{of}: copy its {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS[0]} into "
        f"a folder with that model's config.json, tokenizer and weights, and give this folder."
    )
