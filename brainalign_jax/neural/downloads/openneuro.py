"""The releases of OpenNeuro that can be fetched, file by file, as their lists of files have them.

What is derived from ds002345 is not at OpenNeuro but in the bucket of INDI, by the same paths.
"""

from __future__ import annotations

import dataclasses

from brainalign_jax.neural.downloads.release import Release, ReleaseFile

_SERVER = "https://s3.amazonaws.com/openneuro.org/"

# Numbers of a person's nine runs in the files' names -> the people, by ds003643 2.0.7.
_PRINCE_RUNS = {
    "1-9": "FR001 FR002 FR003 FR004 FR005 FR006 FR007 FR008 FR009 FR010 FR011 FR012 FR013 FR014 FR015 FR016 "
    "FR017 FR018 FR019 FR020 FR022 FR023 FR024 FR025 FR026 FR028 FR029 FR030",
    "4-12": "CN001 CN002",
    "5-13": "CN003 CN005 CN006 CN009 CN010 CN011 CN014 CN015 CN016 CN017 CN018 CN019 CN020 CN021 CN022 CN023 "
    "CN024 CN025 CN026 CN027 CN029 CN030 CN031 CN032",
    "6-14": "CN004 CN028 CN033 CN036 CN037 EN064 EN078 EN081 EN082 EN086 EN088 EN089 EN096 EN097 EN099 EN100 "
    "EN101 EN103 EN104 EN106 EN108 EN109 EN113",
    "7-15": "CN008 EN063 EN067 EN070 EN074 EN091 EN092 EN094 EN095",
    "8-16": "CN034 EN058 EN065 EN068 EN077 EN079 EN083",
    "9-17": "CN007 EN062 EN069 EN073 EN075 EN115",
    "10-18": "EN110",
    "14-22": "EN072",
    "15-23": "EN057",
    "5-12,14": "CN013",
    "6-8,10-15": "EN076",
    "6-8,11-16": "EN093",
    "6,8-15": "EN105",
    "6-10,13-16": "EN098",
    "7-9,13-18": "EN087",
    "7-13,17-18": "EN114",
    "7-14,17": "EN059",
    "9-10,13-19": "EN084",
    "9,11-14,19-22": "EN061",
}
# Stories by the people whose recordings there are, by ds003020 3.1.0: all nine, UTS01 to UTS03 and UTS09,
# UTS01 to UTS03.
_HEARD_BY_ALL = (
    "adollshouse adventuresinsayingyes alternateithicatom avatar buck exorcism eyespy "
    "fromboyhoodtofatherhood hangtime haveyoumethimyet howtodraw inamoment itsabox legacy life "
    "myfirstdaywiththeyankees naked odetostepfather sloth souls stagefright swimmingwithastronauts "
    "thatthingonmyarm theclosetthatateeverything tildeath undertheinfluence wheretheressmoke"
)
_HEARD_BY_FOUR = (
    "againstthewind backsideofthestorm becomingindian bluehope breakingupintheageofgoogle "
    "catfishingstrangerstofindmyself christmas1940 forgettingfear goingthelibertyway "
    "gpsformylostidentity ifthishaircouldtalk kiksuya lifeanddeathontheoregontrail lifereimagined "
    "onlyonewaytofindout penpal shoppinginchina singlewomanseekingmanwich stumblinginthedark "
    "superheroesjustforeachother sweetaspie thefreedomridersandme thepostmanalwayscalls "
    "thetiniestbouquet thumbsup treasureisland waitingtogo whenmothersbullyback"
)
_HEARD_BY_THREE = (
    "afatherscover beneaththemushroomcloud birthofanation cautioneating cocoonoflove "
    "comingofageondeathrow firetestforlove food gangstersandcookies "
    "goldiethegoldfish golfclubbing jugglingandjesus leavingbaghdad listo mayorofthefreaks metsmagic "
    "mybackseatviewofagreatromance myfathershands notontheusualtour quietfire "
    "reachingoutbetweenthebars theadvancedbeginner thecurse theinterview theshower "
    "thetriangleshirtwaistconnection threemonths vixenandtheussr wildwomenanddancingqueens"
)
_MISSING = (("UTS04", "life"), ("UTS09", "fromboyhoodtofatherhood"))
# Task and numbers of its runs, none for "" -> the people, by ds002345 1.1.4.
_NARRATIVES = {
    ("21styear", ""): "75,131,190,201,235,244,249,254-271",
    ("black", ""): "127,265,267,272-277,279-315",
    ("bronx", ""): "127,265,267,272-315",
    ("forgot", ""): "127,265,267,272-277,279-315",
    ("lucy", ""): "22,26,41,52-53,55-56,58-61,65-66,69,73-74",
    ("merlin", ""): "75,146-180",
    ("milkyway", ""): "23,30,32,34,38,52,79,81,83,86-91,93,95-131",
    ("notthefallintact", ""): "16,34,65-66,84,89,95-96,106,111,132-137,139-145,195,199,268,316-345",
    (
        "notthefalllongscram",
        "",
    ): "34,66,106,111,132-134,139-140,142,144,199,268,326-328,330-331,334-335,337,340-341,344",
    (
        "notthefallshortscram",
        "",
    ): "16,65,84,89,95-96,135-137,141,143,195,324-325,329,332-333,336,338-339,342-343,345",
    ("pieman", ""): "7,9,17-82",
    ("pieman", "1-2"): "1-6,8,10-16",
    ("piemanpni", ""): "127,265,267,272-279,281-315",
    ("prettymouth", ""): "23,30,32,34,38,50,52,65-66,79,81,83-111",
    ("schema", "1-4"): "49,75,89,109,132,171,181-205",
    ("shapesphysical", ""): "49,58,95,115,127,181,186,190-191,200-201,206-253",
    ("shapessocial", ""): "49,58,95,115,127,181,186,190-191,200-201,206-253",
    ("sherlock", ""): "75,146-180",
    ("slumlordreach", ""): "16,84,106,111,132-145",
    ("tunnel", ""): "1,4-5,13,22,25-26,41,52-53,55-66,69",
}
# Names of the audio files, by the same.
_NARRATIVES_STORIES = (
    "21styear bigbang black bronx forgot friends himym lucy merlin milkywayoriginal milkywaysynonyms "
    "milkywayvodka notthefallintact notthefalllongscram notthefallshortscram pieman piemanpni prettymouth "
    "santa seinfeld shame shapesphysical shapessocial sherlock slumlordreach tunnel upintheair vinny"
)
# Stories of the tasks that have other names: which one of a task a person heard, the events say.
_TASK_STORIES = {
    "milkyway": ("milkywayoriginal", "milkywaysynonyms", "milkywayvodka"),
    "schema": ("bigbang", "friends", "himym", "santa", "seinfeld", "shame", "upintheair", "vinny"),
}
_INDI = "https://s3.amazonaws.com/fcp-indi/data/Projects/narratives/"


def _file(
    accession: str, path: str, subject: str | None = None, stories: tuple[str, ...] = ()
) -> ReleaseFile:
    return ReleaseFile(path, (f"{_SERVER}{accession}/{path}",), subject=subject, stories=stories)


def _numbers(text: str) -> list[int]:
    """The numbers of "6,8-15"."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def _prince_scan(subject: str, run: int) -> ReleaseFile:
    name = f"sub-{subject}_task-lpp{subject[:2]}_run-{run:02d}_space-MNIColin27_desc-preproc_bold.nii.gz"
    return _file("ds003643", f"derivatives/sub-{subject}/func/{name}", subject)


LITTLE_PRINCE = Release(
    name="little_prince",
    title="fMRI of 112 people listening to Le Petit Prince in English, French or Chinese",
    homepage="https://openneuro.org/datasets/ds003643",
    citation="Li, Bhattasali, Zhang, Franzluebbers, Luh, Spreng, Brennan, Yang, Pallier & Hale (2022). Le "
    "Petit Prince multilingual naturalistic fMRI corpus. Scientific Data 9:530, "
    "doi 10.1038/s41597-022-01625-7",
    licence="CC0 1.0",
    by_hand="download the folders annotation and derivatives of ds003643 from OpenNeuro",
    files=(
        *(
            _file("ds003643", f"annotation/{code}/lpp{code}_word_information.csv")
            for code in ("EN", "FR", "CN")
        ),
        *(
            _prince_scan(subject, run)
            for runs, people in _PRINCE_RUNS.items()
            for subject in people.split()
            for run in _numbers(runs)
        ),
    ),
    notes="0.6 GB a person: name those you want with subjects (EN057, FR001, CN001, ...)",
)


def _stories_of(subject: str) -> list[str]:
    """The stories that a person of ds003020 heard."""
    stories = _HEARD_BY_ALL
    if subject in ("UTS01", "UTS02", "UTS03", "UTS09"):
        stories += " " + _HEARD_BY_FOUR
    if subject in ("UTS01", "UTS02", "UTS03"):
        stories += " " + _HEARD_BY_THREE
    return [story for story in stories.split() if (subject, story) not in _MISSING]


LEBEL_2023 = Release(
    name="lebel2023",
    title="fMRI of nine people listening to 26 to 84 stories of The Moth Radio Hour and Modern Love",
    homepage="https://openneuro.org/datasets/ds003020",
    citation="LeBel, Wagner, Jain, Adhikari-Desai, Gupta, Morgenthal, Tang, Xu & Huth (2023). A natural "
    "language fMRI dataset for voxelwise encoding models. Scientific Data 10:555, "
    "doi 10.1038/s41597-023-02437-z",
    licence="CC0 1.0",
    by_hand="download the folders TextGrids and preprocessed_data of derivative in ds003020 from OpenNeuro",
    files=(
        _file("ds003020", "derivative/respdict.json"),
        *(
            _file("ds003020", f"derivative/TextGrids/{story}.TextGrid", stories=(story,))
            for story in sorted(_stories_of("UTS01"))
        ),
        *(
            _file(
                "ds003020",
                f"derivative/preprocessed_data/{subject}/{story}.hf5",
                subject,
                (story,),
            )
            for subject in (f"UTS{number:02d}" for number in range(1, 10))
            for story in sorted(_stories_of(subject))
        ),
    ),
    notes="0.3 GB a story and person, 7 to 25 GB a person: name those you want with subjects (UTS03, ...) "
    "and stories (souls, ...)",
)


def _smn_scan(subject: str, story: int) -> ReleaseFile:
    name = f"sub-{subject}_task-RDR_run-{story}_bold.dtseries.nii"
    path = f"derivatives/preprocessed_data/sub-{subject}/CIFTI/{name}"
    return _file("ds004078", path, subject, (str(story),))


def _smn_recording(subject: str, story: int) -> tuple[ReleaseFile, ReleaseFile]:
    """The MEG of a story, and its triggers."""
    path = f"derivatives/preprocessed_data/sub-{subject}/MEG/sub-{subject}_task-RDR_run-{story}"
    recording, events = (
        _file("ds004078", f"{path}_{ending}", subject, (str(story),))
        for ending in ("meg.fif", "events.tsv")
    )
    return recording, events


_SMN_TIMES = tuple(
    _file(
        "ds004078",
        f"derivatives/annotations/time_align/word-level/story_{story}_word_time.mat",
        stories=(str(story),),
    )
    for story in range(1, 61)
)
SMN4LANG = Release(
    name="smn4lang",
    title="fMRI (and MEG) of twelve people listening to sixty stories in Chinese",
    homepage="https://openneuro.org/datasets/ds004078",
    citation="Wang, Zhang, Zhang & Zong (2022). A synchronized multimodal neuroimaging dataset for studying "
    "brain language processing. Scientific Data 9:590, doi 10.1038/s41597-022-01708-5",
    licence="CC0 1.0",
    by_hand="download the folders annotations/time_align and preprocessed_data of derivatives in ds004078 "
    "from OpenNeuro",
    files=(
        *_SMN_TIMES,
        *(_smn_scan(f"{number:02d}", story) for number in range(1, 13) for story in range(1, 61)),
    ),
    notes="13 GB of grayordinates a person: name those you want with subjects (01, ...) and stories "
    "(1, ...); the volumes in MNI (34 GB a person) are not fetched; the MEG is smn4lang_meg",
)
SMN4LANG_MEG = dataclasses.replace(
    SMN4LANG,
    name="smn4lang_meg",
    title="MEG of twelve people listening to sixty stories in Chinese",
    files=(
        *_SMN_TIMES,
        *(
            file
            for number in range(1, 13)
            for story in range(1, 61)
            for file in _smn_recording(f"{number:02d}", story)
        ),
    ),
    notes="0.4 GB a story and person, 24 GB a person: name those you want with subjects (01, ...) and "
    "stories (1, ...)",
)


def _telling(subject: str, task: str, run: str) -> list[ReleaseFile]:
    """The events of a scan of ds002345, and both hemispheres."""
    scan = f"sub-{subject}_task-{task}{run}"
    stories = _TASK_STORIES.get(task, (task,))
    events = _file("ds002345", f"sub-{subject}/func/{scan}_events.tsv", subject, stories)
    folder = f"derivatives/afni-nosmooth/sub-{subject}/func"
    paths = [f"{folder}/{scan}_space-fsaverage6_hemi-{side}_desc-clean.func.gii" for side in "LR"]
    return [
        events,
        *(ReleaseFile(path, (_INDI + path,), subject=subject, stories=stories) for path in paths),
    ]


def _tellings() -> list[ReleaseFile]:
    """All scans of ds002345, person by person."""
    scans = sorted(
        (f"{person:03d}", task, f"_run-{number}" if number else "")
        for (task, runs), people in _NARRATIVES.items()
        for person in _numbers(people)
        for number in (_numbers(runs) if runs else [0])
    )
    return [file for scan in scans for file in _telling(*scan)]


NARRATIVES = Release(
    name="narratives",
    title="fMRI of 345 people listening to one or more of 28 stories in English",
    homepage="https://openneuro.org/datasets/ds002345",
    citation="Nastase, Liu, Hillman, Zadbood, Hasenfratz, Keshavarzian, Chen, Honey, Yeshurun, Regev, "
    "Nguyen, Chang, Baldassano, Lositsky, Simony, Chow, Leong, Brooks, Micciche, Choe, Goldstein, Vanderwal, "
    "Halchenko, Norman & Hasson (2021). The Narratives fMRI dataset for evaluating models of naturalistic "
    "language comprehension. Scientific Data 8:250, doi 10.1038/s41597-021-01033-3",
    licence="CC0 1.0",
    by_hand="download them with datalad: `datalad install ///labs/hasson/narratives`, then `datalad get`",
    files=(
        ReleaseFile(
            "code/scan_exclude.json",
            (
                "https://raw.githubusercontent.com/snastase/narratives/master/code/scan_exclude.json",
                f"{_INDI}code/scan_exclude.json",
            ),
            required=False,
        ),
        *(
            ReleaseFile(path, (_INDI + path,), stories=(story,), required=False)
            for story in _NARRATIVES_STORIES.split()
            for path in (
                f"stimuli/gentle/{story}/align.csv",
                f"stimuli/gentle/{story}/transcript.txt",
            )
        ),
        *_tellings(),
    ),
    notes="both hemispheres on fsaverage6, without smoothing, of every scan of a person: name those you want "
    "with subjects (001, ...) and stories (pieman, ...); volumes and fMRIPrep's own images are not fetched. "
    "The events are at OpenNeuro, the rest in INDI's bucket, by the paths of the authors' data set",
)
