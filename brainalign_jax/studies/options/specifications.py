"""The choices of a specification curve."""

from brainalign_jax.options import described, option_class


@option_class
class Specifications:
    """Every combination of the choices that papers differ in: `studies.specifications`."""

    method: str = described(
        "What decodes words. ridge of isolated words shares its work between specifications and is fast; all "
        "else is a study of its own for each.",
        "ridge",
    )
    n_nulls: int = described(
        "Draws, the same in all specifications, in which isolated words are exchanged, or responses shifted "
        "in a circle against a text; the smallest p is 1 / (1 + draws).",
        100,
        least=20,
        most=10_000,
        flag="draws",
    )
