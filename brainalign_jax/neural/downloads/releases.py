"""The public releases that can be fetched: their files, addresses, licences and citations.

No checksum here is invented. A file whose authors published none has `sha256=None`: the first
download is recorded beside the data and every later one must match it (`downloads.fetch`). The OSF
publishes a SHA-256 of every file, which is asked for when the file is fetched.
"""

from __future__ import annotations

from brainalign_jax.names import check_known
from brainalign_jax.neural.downloads.openneuro import (
    LEBEL_2023,
    LITTLE_PRINCE,
    NARRATIVES,
    SMN4LANG,
    SMN4LANG_MEG,
)
from brainalign_jax.neural.downloads.release import Listing, Release, ReleaseFile

_CMU = ("https://www.cs.cmu.edu/~fmri/plosone/files/", "http://www.cs.cmu.edu/~fmri/plosone/files/")
HARRY_POTTER = Release(
    name="harry_potter",
    title="fMRI of eight people reading chapter 9 of Harry Potter and the Sorcerer's Stone",
    homepage="http://www.cs.cmu.edu/~fmri/plosone/",
    citation="Wehbe, Murphy, Talukdar, Fyshe, Ramdas & Mitchell (2014). Simultaneously uncovering "
    "the patterns of brain regions involved in different story reading subprocesses. PLoS ONE "
    "9(11):e112575, doi 10.1371/journal.pone.0112575",
    licence="none stated on the page; the copy at Dryad (doi 10.5061/dryad.gt413) is CC0 1.0, as all "
    "data at Dryad",
    by_hand="download subject_1.mat to subject_8.mat from http://www.cs.cmu.edu/~fmri/plosone/ or, "
    "in a browser, from https://doi.org/10.5061/dryad.gt413",
    files=tuple(
        ReleaseFile(f"subject_{n}.mat", tuple(f"{base}subject_{n}.mat" for base in _CMU), subject=n)
        for n in "12345678"
    ),
    notes="Dryad, the mirror, hands its files to browsers and registered programs only",
)

# The participants of the study's page. The keys are those that its links had in 2025; the page
# itself is asked first, because its authors changed them twice.
_PEREIRA_KEYS = {
    "P01": "5duv9fgigrzx817",
    "M01": "j2cpre3cay563ip",
    "M02": "n5yfb2cupd9zmwk",
    "M03": "4pr8slvkrpxaeek",
    "M04": "q8qeuf5johz0ic1",
    "M05": "ti94eu0zbsdpt7n",
    "M06": "w3hbmlx18yl5e93",
    "M07": "jvtxgv4oplqgmix",
    "M08": "ch2j6feyahcc3l5",
    "M09": "l8bou2bn7qzjucy",
    "M10": "vslld466lpn5eqg",
    "M13": "s9mf67eh5ohrwew",
    "M14": "9chvc7rofyvb4gr",
    "M15": "xlijoxhgcm39z6v",
    "M16": "s23wk0p6xuhpx4z",
    "M17": "wln7hgmb4jx88is",
}
_PEREIRA_PAGE = "https://web.mit.edu/evlab/sites/default/files/documents/index2.html"
PEREIRA_2018 = Release(
    name="pereira2018",
    title="fMRI of 16 people reading 180 concept words and of some of them reading 384 and 243 "
    "sentences",
    homepage="https://osf.io/crwz7",
    citation="Pereira, Lou, Pritchett, Ritter, Gershman, Kanwisher, Botvinick & Fedorenko (2018). "
    "Toward a universal decoder of linguistic meaning from brain activation. Nature Communications "
    "9:963, doi 10.1038/s41467-018-03068-4",
    licence="none stated on the page of the recordings; see the OSF project for that of the materials",
    by_hand=f"download the participants' .tar files from {_PEREIRA_PAGE} and Pereira_Materials.zip "
    "from https://osf.io/crwz7",
    files=(
        *(
            ReleaseFile(
                f"{subject}.tar",
                (f"https://www.dropbox.com/s/{key}/{subject}.tar?dl=1",),
                subject=subject,
                unpack_to=subject,
                provides=(f"{subject}/**/*_180concepts_*.mat",),
            )
            for subject, key in _PEREIRA_KEYS.items()
        ),
        ReleaseFile(
            "Pereira_Materials.zip",
            ("https://osf.io/download/hmgv2/",),
            unpack_to="Pereira_Materials",
            provides=("Pereira_Materials/**/stimuli_*.txt",),
            required=False,
        ),
    ),
    listings=(
        Listing("links", _PEREIRA_PAGE, r"[PM]\d\d\.tar"),
        Listing(
            "links",
            "https://evlab.mit.edu/sites/default/files/documents/index2.html",
            r"[PM]\d\d\.tar",
        ),
        Listing("osf", "https://api.osf.io/v2/nodes/crwz7/", r"Pereira_Materials\.zip"),
    ),
    notes="experiment 1 (words): all participants; experiment 2 (384 sentences): P01 M02 M04 M07 "
    "M08 M09 M14 M15; experiment 3 (243 sentences): P01 M02 M03 M04 M07 M15. An archive may be "
    "more than a GB; it is deleted once it is unpacked",
)

NATURAL_STORIES = Release(
    name="natural_stories",
    title="fMRI of 19 people listening to stories of The Moth Radio Hour",
    homepage="https://osf.io/eq2ba",
    citation="Zhang, Han, Worth & Liu (2020). Connecting concepts in the brain by mapping cortical "
    "representations of semantic relations. Nature Communications 11:1877, "
    "doi 10.1038/s41467-020-15804-w",
    licence="see the OSF project",
    by_hand="download the subjects' .mat files from https://osf.io/eq2ba and name them subject_1.mat "
    "to subject_19.mat",
    files=tuple(
        ReleaseFile(
            f"subject_{n}.mat",
            subject=str(n),
            listed_as=rf"(?i)(.*/)?s(ub(j(ect)?)?)?[-_ ]?0*{n}\.mat",
        )
        for n in range(1, 20)
    ),
    listings=(Listing("osf", "https://api.osf.io/v2/nodes/eq2ba/"),),
)

# The last commit that changed the files of the folder, which a later one may move.
_RSATOOLBOX = (
    "https://raw.githubusercontent.com/rsagroup/rsatoolbox/f1f83cadb7243492a1aae7460466e0f0140b20ac/"
    "demos/92imageData/"
)
KRIEGESKORTE_2008 = Release(
    name="kriegeskorte2008",
    title="RDMs of the inferior temporal cortex of four people who saw 92 images of objects",
    homepage="https://github.com/rsagroup/rsatoolbox/tree/main/demos/92imageData",
    citation="Kriegeskorte, Mur, Ruff, Kiani, Bodurka, Esteky, Tanaka & Bandettini (2008). Matching "
    "categorical object representations in inferior temporal cortex of man and monkey. Neuron "
    "60(6):1126-1141, doi 10.1016/j.neuron.2008.10.043",
    licence="none of its own; the repository's is MIT",
    by_hand="download demos/92imageData/92_brainRDMs.mat from https://github.com/rsagroup/rsatoolbox",
    files=(
        # The checksum of the file in that commit, as its authors publish none.
        ReleaseFile(
            "92_brainRDMs.mat",
            (_RSATOOLBOX + "92_brainRDMs.mat",),
            sha256="1743f90a15e895798a94318649e80e1123a7e5943a1703fa1dd7c31ea5780b7c",
        ),
    ),
    notes="of pictures, not of words: for noise ceilings and measures between people",
)

_DRIVE = "https://drive.google.com/uc?export=download&id="
ALICE = Release(
    name="alice",
    title="fMRI region time courses of 28 people listening to chapter 1 of Alice in Wonderland",
    homepage="https://sites.lsa.umich.edu/cnllab/2016/06/11/"
    "data-sharing-fmri-timecourses-story-listening/",
    citation="Brennan, Stabler, Van Wagenen, Luh & Hale (2016). Abstract linguistic structure "
    "correlates with temporal activity during naturalistic comprehension. Brain & Language "
    "157-158:81-94",
    licence="CC BY 4.0",
    by_hand="open the release's page in a browser, download the data and the stimuli, and unpack "
    "them to alice_data_shared and alice_stim_shared",
    files=(
        ReleaseFile(
            "alice_data_shared.zip",
            (_DRIVE + "0By_8Ci8eoDI4Q3NwUEFPRExIeG8",),
            unpack_to="alice_data_shared",
            provides=("alice_data_shared/*mm/s*-timecourses.txt",),
        ),
        ReleaseFile(
            "alice_stim_shared.zip",
            (_DRIVE + "0By_8Ci8eoDI4d2I4bEF1VEZKZjA",),
            unpack_to="alice_stim_shared",
            provides=("alice_stim_shared/*.TextGrid",),
        ),
    ),
    notes="the files lie on Google Drive, which may hand them to browsers only: then get them by hand",
)

RELEASES: dict[str, Release] = {
    release.name: release
    for release in (
        ALICE,
        HARRY_POTTER,
        KRIEGESKORTE_2008,
        LEBEL_2023,
        LITTLE_PRINCE,
        NARRATIVES,
        NATURAL_STORIES,
        PEREIRA_2018,
        SMN4LANG,
        SMN4LANG_MEG,
    )
}


def list_releases() -> tuple[str, ...]:
    """The names that `fetch` knows."""
    return tuple(sorted(RELEASES))


def release_info(name: str) -> Release:
    """Licence, citation, source and files of a release; nothing is downloaded.

    Raises ValueError for an unknown name, listing the known ones.
    """
    check_known("release", name, list_releases(), listing="list_releases()")
    return RELEASES[name]
