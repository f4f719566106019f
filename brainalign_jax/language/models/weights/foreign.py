"""What cannot be loaded, told by what it is: other families of models, quantised weights."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from brainalign_jax.language.models.weights.weight_files import Tensors

_BOTH = "bert", "roberta", "distilbert"
_CAUSAL = "gpt2", "gpt_neox", "llama"
_LLAMAS = "llama", "mistral", "qwen2", "qwen3"
_PAIR = "an encoder and a decoder"
_ENCODER = "an encoder with parts that BERT does not have"
_DECODER = "a causal decoder with parts that no family here has"
_RECURRENT = "a state-space or recurrent model, without attention"
_EXPERTS = "a mixture of experts"
_NOT_TEXT = "a model of more than text"
_QUANTISED_NAMES = {
    "GPTQ or AWQ": r"\.(qweight|qzeros|g_idx)$",
    "bitsandbytes": r"\.(absmax|nested_absmax|quant_map|SCB|weight_format)$|\.quant_state\.",
    "float8 or compressed tensors": r"\.(weight_(scale|scale_inv|packed|zero_point)|input_scale)$",
}
# model_type -> what it is, and the supported families nearest to it.
_KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("t5", "mt5", "umt5", "byt5", "longt5", "bart", "mbart", "pegasus", "marian", "m2m_100")
        + ("blenderbot", "led", "prophetnet", "encoder-decoder", "switch_transformers", "t5gemma"),
        (_PAIR, (*_BOTH, *_CAUSAL)),
    ),
    **dict.fromkeys(
        ("albert", "electra", "deberta", "deberta-v2", "mpnet", "xlm", "xlnet", "xlm-roberta-xl")
        + ("modernbert", "nomic_bert", "big_bird", "longformer", "funnel", "mobilebert", "ernie")
        + ("roformer", "squeezebert", "fnet", "eurobert", "esm", "flaubert", "megatron-bert")
        + ("rembert", "convbert", "luke", "ibert", "roberta-prelayernorm", "gte", "new"),
        (_ENCODER, _BOTH),
    ),
    "xlm-roberta": ("RoBERTa with another vocabulary", ("roberta", "bert")),
    "camembert": ("RoBERTa with another vocabulary", ("roberta", "bert")),
    **dict.fromkeys(
        ("bloom", "falcon", "mpt", "gptj", "codegen", "ctrl", "openai-gpt", "xglm", "biogpt")
        + ("gpt_bigcode", "persimmon", "RefinedWeb", "RefinedWebModel", "gpt_neox_japanese"),
        (_DECODER, ("gpt2", "gpt_neo", "gpt_neox", "opt")),
    ),
    **dict.fromkeys(
        ("gemma", "gemma2", "gemma3", "gemma3_text", "phi", "phi3", "stablelm", "starcoder2")
        + ("olmo", "olmo2", "olmo3", "cohere", "cohere2", "granite", "nemotron", "glm", "glm4")
        + ("smollm3", "exaone", "exaone4", "internlm", "internlm2", "internlm3", "baichuan")
        + ("qwen", "chatglm", "ministral", "apertus", "arcee", "phi-msft", "minicpm", "helium"),
        (_DECODER, _LLAMAS),
    ),
    **dict.fromkeys(
        ("mamba", "mamba2", "falcon_mamba", "rwkv", "recurrent_gemma", "xlstm", "jamba", "zamba")
        + ("zamba2", "bamba", "falcon_h1", "nemotron_h", "granitemoehybrid", "lfm2", "qwen3_next"),
        (_RECURRENT, _CAUSAL),
    ),
    **dict.fromkeys(
        ("mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v2", "deepseek_v3", "olmoe", "gpt_oss")
        + ("phimoe", "granitemoe", "dbrx", "glm4_moe", "ernie4_5_moe", "hunyuan_v1_moe"),
        (_EXPERTS, _LLAMAS),
    ),
    **dict.fromkeys(
        ("clip", "llava", "llava_next", "mllama", "whisper", "wav2vec2", "vit", "blip", "blip-2")
        + ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "paligemma", "idefics3", "pixtral", "llama4")
        + ("mistral3", "gemma3n", "hubert", "wavlm", "siglip", "dinov2", "layoutlm", "flava"),
        (_NOT_TEXT, (*_LLAMAS, "bert")),
    ),
}


def unsupported_family(model_type: Any, architectures: Any, supported: Iterable[str]) -> str:
    """The message for a model_type that is not supported: what it is, and what is near it."""
    supported = tuple(supported)
    if model_type is None:
        said = f", and its architectures are {architectures!r}" if architectures else ""
        return (
            f"model_type None is not supported: the file does not say what model it is{said}; "
            f"supported: {', '.join(supported)}. Write the model_type into it if it is one of these, "
            "or give the checkpoint as transformers saves it (the repository's -hf version)."
        )
    message = (
        f"model_type {str(model_type)[:60]!r} is not supported; supported: {', '.join(supported)}"
    )
    if str(model_type) in _KINDS:
        what, near = _KINDS[str(model_type)]
        message += f". It is {what}; the nearest supported: {', '.join(near)}"
    return f"{message}. Use a checkpoint of one of these."


def refuse_quantised_config(fields: dict, path: Path) -> None:
    """Raises: ValueError where config.json says that the weights are quantised."""
    settings = fields.get("quantization_config")
    if not settings:
        return
    settings = settings if isinstance(settings, dict) else {}
    method = settings.get("quant_method")
    if method is None and (settings.get("load_in_4bit") or settings.get("load_in_8bit")):
        method = "bitsandbytes"
    bits = settings.get("bits") or settings.get("w_bit")
    bits = bits or (
        4 if settings.get("load_in_4bit") else 8 if settings.get("load_in_8bit") else None
    )
    said = repr(method)[1:41] if method and isinstance(method, str) else "an unnamed method"
    said = said.rstrip("'") + (f", {bits} bits" if isinstance(bits, int) else "")
    raise ValueError(f"{path} has a quantization_config: {_quantised(said)}")


def refuse_quantised(tensors: Tensors, folder: Path) -> None:
    """Raises: ValueError where the tensors' names or types are those of quantised weights."""
    for name in tensors:
        dtype = tensors.header(name)[1]
        by_name = [what for what, pattern in _QUANTISED_NAMES.items() if re.search(pattern, name)]
        if by_name or re.match(r"(F|float)(8_|6_|4_|4$)", dtype):
            said = by_name[0] if by_name else dtype
            raise ValueError(
                f"{folder}: the tensor {name} is one of quantised weights: {_quantised(said)}"
            )


def _quantised(said: str) -> str:
    return (
        f"its weights are quantised ({said}), and only weights in float16, bfloat16, float32 or "
        "float64 are read. Use the model it was made from, or save it dequantised."
    )
