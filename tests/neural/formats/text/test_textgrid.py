import numpy as np
import pytest
from simulate.textgrid import write_textgrid

from brainalign_jax.neural.formats.text.textgrid import read_textgrid

LABELS = ["Alice", "sp", "was", "not", 'a "rabbit"', "", "she", "said ", "sp"]
INTERVALS = [(20.0 + 0.5 * i, 20.5 + 0.5 * i, text) for i, text in enumerate(LABELS * 4)]
EXPECTED = [(start, end, text.strip()) for start, end, text in INTERVALS]


def textgrid(tmp_path, tier="word"):
    path = write_textgrid(tmp_path / "whole.TextGrid", INTERVALS, tier)
    return path.read_text(encoding="utf-8")


def test_written_intervals_come_back_exactly(tmp_path):
    rng = np.random.default_rng(0)
    bounds = np.cumsum(rng.exponential(size=500)) - 1.0
    labels = ["naïve", 'say "hi"', '""', "word", "", "intervals [3]:", "x = 1"] * 72
    intervals = list(zip(bounds[:-1].tolist(), bounds[1:].tolist(), labels, strict=False))
    path = write_textgrid(tmp_path / "a.TextGrid", intervals, "words of one")
    assert read_textgrid(path, "words of one") == intervals


def test_layout_is_praats_long_format(tmp_path):
    write_textgrid(tmp_path / "a.TextGrid", [(0, 1.5, 'a "b"'), (1.5, 2, "")])
    assert (tmp_path / "a.TextGrid").read_text().splitlines() == [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0.0",
        "xmax = 2.0",
        "tiers? <exists>",
        "size = 1",
        "item []:",
        "    item [1]:",
        '        class = "IntervalTier"',
        '        name = "word"',
        "        xmin = 0.0",
        "        xmax = 2.0",
        "        intervals: size = 2",
        "        intervals [1]:",
        "            xmin = 0.0",
        "            xmax = 1.5",
        '            text = "a ""b"""',
        "        intervals [2]:",
        "            xmin = 1.5",
        "            xmax = 2.0",
        '            text = ""',
    ]


def test_encodings_line_ends_and_several_tiers(tmp_path):
    path = tmp_path / "a.TextGrid"
    text = textgrid(tmp_path)
    for content in (
        text.encode(),
        text.encode("utf-16"),
        b"\xef\xbb\xbf" + text.encode(),
        text.replace("\n", "\r\n").encode(),
        text.replace("]:", "]").encode(),
    ):
        path.write_bytes(content)
        assert read_textgrid(path) == EXPECTED
    body = textgrid(tmp_path, "phone").split("item []:\n")[1]
    path.write_text(text + body.replace("item [1]", "item [2]"))
    assert read_textgrid(path, "phone") == EXPECTED == read_textgrid(path, "word")
    path.write_text(text + textgrid(tmp_path).split("item []:\n")[1].replace("[1]", "[2]", 1))
    with pytest.raises(ValueError, match=r"has 2 tiers 'word'; its tiers are \['word', 'word'\]"):
        read_textgrid(path)


WORDS = ["", 'say ""hi""', "there", "sp"]
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
2
<exists>
3
"IntervalTier"
"phone"
0
2
1
0
2
"B"
"TextTier"
"notes"
0
2
1
1.25
"3 4 five"
"IntervalTier"
"word"
0
2
4
""" + "".join(f'{row / 2}\n{(row + 1) / 2}\n"{word}"\n' for row, word in enumerate(WORDS))
CHRONOLOGICAL = """"Praat chronological TextGrid text file"
0 2.0   ! Time domain.
3   ! Number of tiers.
"IntervalTier" "phone" 0 2.0
"TextTier" "notes" 0 2.0
"IntervalTier" "word" 0 2.0

1 0 2.0
"B"
""" + "".join(f'3 {row / 2} {(row + 1) / 2}\n"{word}"\n' for row, word in enumerate(WORDS))
CHRONOLOGICAL = CHRONOLOGICAL.replace("3 1.5", '2 1.25\n"3 4 five"\n3 1.5')


@pytest.mark.parametrize("text", [SHORT, CHRONOLOGICAL])
def test_short_and_chronological_formats(tmp_path, text):
    path = tmp_path / "a.TextGrid"
    for content in (text.encode(), text.replace("\n", "\r\n").encode("utf-16")):
        path.write_bytes(content)
        expected = [(0.0, 0.5, ""), (0.5, 1.0, 'say "hi"'), (1.0, 1.5, "there"), (1.5, 2.0, "sp")]
        assert read_textgrid(path) == expected == read_textgrid(path, ("words", "word"))
        assert read_textgrid(path, "phone") == [(0.0, 2.0, "B")]
    with pytest.raises(ValueError, match="tier 'notes' is not an interval tier"):
        read_textgrid(path, "notes")
    with pytest.raises(
        ValueError, match=r"no tier 'a' or 'b'; its tiers are \['phone', 'notes', 'word'"
    ):
        read_textgrid(path, ("a", "b"))
    for length in (len(text) - 8, len(text) - 25, text.index("5 1.0") if "5 1.0" in text else -30):
        path.write_text(text[:length])
        with pytest.raises(ValueError, match=r"truncated or damaged; get it again"):
            read_textgrid(path)
    path.write_text(text.replace('"word"', '"word', 1))
    with pytest.raises(ValueError, match=r"a\.TextGrid"):
        read_textgrid(path)


def test_slack_takes_small_overlaps_and_intervals_of_no_length(tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(SHORT.replace("1.0\n1.5", "0.98\n0.98"))
    with pytest.raises(ValueError, match=r"interval 3 of tier 'word' runs from 0.98 to 0.98"):
        read_textgrid(path)
    assert read_textgrid(path, slack=0.05)[2] == (0.98, 0.98, "there")
    with pytest.raises(ValueError, match="interval 3"):
        read_textgrid(path, slack=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text[: len(text) // 2],
            r"declares 36 intervals but 1\d can be read.*truncated",
        ),
        (lambda text: text[:-3], "declares 36 intervals but 35"),
        (lambda text: text[:250], "truncated"),
        (lambda text: "", "long text format"),
        (lambda text: "hello", "long text format"),
        (
            lambda text: text.replace('"word"', '"phone"'),
            r"no tier 'word'; its tiers are \['phone'\]",
        ),
        (lambda text: text.replace("size = 36", "size = 37"), "declares 37 intervals but 36"),
        (lambda text: text.replace("size = 36", "size = " + "9" * 5000), "not an interval tier"),
        (lambda text: text.replace("xmax = 21.0", "xmax = 20.5"), "interval 2 .*from 20.5 to 20.5"),
        (lambda text: text.replace("xmax = 21.0", "xmax = 21.7"), "interval 3 .*without overlap"),
        (lambda text: text.replace("xmax = 21.0", "xmax = nan"), "interval 2"),
        (lambda text: text.replace("xmax = 21.0", "xmax = 1e999"), "interval 2"),
        (lambda text: text.replace("xmax = 21.0", "xmax = soon"), "interval 2"),
    ],
)
def test_damage_is_an_error_with_the_file(tmp_path, change, message):
    path = tmp_path / "broken.TextGrid"
    path.write_text(change(textgrid(tmp_path)))
    with pytest.raises(ValueError, match=message) as info:
        read_textgrid(path)
    assert "broken.TextGrid" in str(info.value)


def test_missing_or_binary_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.TextGrid"):
        read_textgrid(tmp_path / "none.TextGrid")
    (tmp_path / "b.TextGrid").write_bytes(b"\xff\x00\xfe\xfa")
    with pytest.raises(ValueError, match=r"b\.TextGrid is not UTF-8"):
        read_textgrid(tmp_path / "b.TextGrid")


@pytest.mark.parametrize(
    ("intervals", "message"),
    [
        ([], "no intervals"),
        ([(0, 1, "a"), (0.5, 2, "b")], r"interval 2 runs from 0.5 to 2 s"),
        ([(0, 0, "a")], "interval 1"),
        ([(0, np.inf, "a")], "interval 1"),
    ],
)
def test_intervals_that_could_not_be_read_are_not_written(tmp_path, intervals, message):
    with pytest.raises(ValueError, match=message):
        write_textgrid(tmp_path / "a.TextGrid", intervals)
    assert not (tmp_path / "a.TextGrid").exists()
