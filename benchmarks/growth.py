"""How time and memory of the kernels grow with words, voxels, layers and dimension.

    python -m benchmarks.growth --output=out/growth.json

A minute and a half on 2 cores. Prints a Markdown table: each kernel with one size doubled at a time, its
seconds (the least of some calls, compilation apart), the megabytes of its compiled program (arguments,
results and temporary arrays as XLA plans them, without what LAPACK takes inside), and the exponents of
both: slopes of their logarithms against the size's. Expect 2 against words for RSA and CSLS, about 1 for
ridge, which is dual up to as many words as voxels and primal from there; 1 or less against layers, 0
against voxels for ridge; and less than the leading terms' exponents everywhere, as sizes are moderate.
--kernels=csls takes some; --sizes=4 doubles once more, --scale=2 begins with twice the size.
"""

import json
import re
from pathlib import Path

from absl import app, flags, logging

from benchmarks.exponents import KERNELS, Sizes, grow, markdown
from benchmarks.measure import machine

_KERNELS = flags.DEFINE_string("kernels", "", "Only kernels whose name matches.")
_SIZES = flags.DEFINE_integer("sizes", 3, "Sizes on each axis, each twice the one before.", 2)
_SCALE = flags.DEFINE_float("scale", 1.0, "Multiplies words, voxels and dimension.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def main(argv: list[str]) -> None:
    del argv
    logging.set_verbosity(logging.WARNING)  # JAX tells at INFO which backends it did not find
    base = Sizes()
    scaled = {name: round(getattr(base, name) * _SCALE.value) for name in base._fields}
    base = Sizes(**scaled)._replace(layers=base.layers)
    about = machine()
    names = [name for name in KERNELS if re.search(_KERNELS.value, name, re.IGNORECASE)]
    rows = [row for name in names for row in grow(name, base, _SIZES.value)]
    print(f"from {', '.join(f'{value} {name}' for name, value in base._asdict().items())}\n")
    print(markdown(rows))
    if _OUTPUT.value:
        path = Path(_OUTPUT.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": about, "rows": rows}, indent=2))


if __name__ == "__main__":
    app.run(main)
