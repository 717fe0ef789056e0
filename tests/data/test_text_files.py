"""Files of text as rows."""

import json

import pytest
from datasets import Dataset, Features, Value

from dynabert_hf.data.text_files import names_of_columns, read_rows

CONLL = """# id 7f3e	domain=en
-DOCSTART- -X- O O

EU NNP I-NP B-ORG
rejects VBZ I-VP O

Peter	B-PER

# O
"""


@pytest.fixture(autouse=True)
def _caches(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_tagged_words_are_read_by_sentence_the_last_column_as_their_tags(tmp_path):
    (tmp_path / "train.conll").write_text(CONLL)
    rows = read_rows(tmp_path / "train.conll")
    assert rows["tokens"][:] == [["EU", "rejects"], ["Peter"], ["#"]]
    assert rows["tags"][:] == [["B-ORG", "O"], ["B-PER"], ["O"]]


@pytest.mark.parametrize(
    "lines",
    [
        "# text = EU rejects\n1\tEU\tB-ORG\tO\n2\trejects\tO\tO\n\n# newpar\n1\tPeter\tB-PER\tO\n",
        "#\thttp://a.example [2009-10-17]\n1\tEU\tB-ORG\tO\n1-2\t_\tO\tO\n2\trejects\tO\tO\n",
    ],
)
def test_numbers_in_the_place_of_words_are_no_words(tmp_path, lines):
    (tmp_path / "train.conll").write_text(lines)
    with pytest.raises(ValueError, match=r"has the numbers of words in its first column.*Give a file with these two"):
        read_rows(tmp_path / "train.conll")
    (tmp_path / "train.conll").write_text("1 O\n2 O\n\nin O\n2 O\n")
    assert read_rows(tmp_path / "train.conll")["tokens"][:] == [["1", "2"], ["in", "2"]]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_dates_of_a_json_file_are_read_as_they_are_written(tmp_path, suffix, indent):
    rows = [
        {"text": "a", "date": "2020-01-31", "at": "2020-01-31T10:00:00Z", "answers": {"text": ["2020-02-01"]}},
        {"text": "b", "date": None, "at": "2020-01-31 10:00", "answers": {"text": []}},
    ]
    content = rows if suffix == ".json" else rows[0]
    (tmp_path / f"rows{suffix}").write_text(f"{json.dumps(content, indent=indent)}\n")
    read = read_rows(tmp_path / f"rows{suffix}", needed=["text"], as_text=True)
    assert list(read) == (rows if suffix == ".json" else rows[:1])
    assert read.column_names == ["text", "date", "at", "answers"]
    kinds = {name: str(kind) for name, kind in read_rows(tmp_path / f"rows{suffix}").features.items()}
    assert "timestamp" in kinds["date"]  # and no text to learn


def test_a_tagged_word_may_hold_white_space_other_than_blanks_and_tabs(tmp_path):
    words = ["10\u00a0000", "a\u2028b", "c\x85d", "\u3000", "e\x1cf", "g\x0bh", "\x0c"]
    for separator in (" ", "\t", " NN "):
        lines = [f"{word}{separator}B-X" for word in words]
        (tmp_path / "words.conll").write_bytes(("\r\n".join(lines) + "\r\n").encode())
        [row] = read_rows(tmp_path / "words.conll")
        assert row == {"tokens": words, "tags": ["B-X"] * len(words)}


@pytest.mark.parametrize("suffix", [".conll", ".txt", ".csv", ".jsonl", ".json"])
def test_the_mark_that_some_editors_write_first_is_no_part_of_the_text(tmp_path, suffix):
    content = {".conll": "EU B-ORG\n", ".csv": "text\nEU\n", ".jsonl": '{"text": "EU"}\n', ".json": '[{"text": "EU"}]'}
    path = tmp_path / f"rows{suffix}"
    path.write_text(content.get(suffix, "EU\n"), encoding="utf-8-sig")
    assert read_rows(path)[0] == ({"tokens": ["EU"], "tags": ["B-ORG"]} if suffix == ".conll" else {"text": "EU"})


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_is_read_as_it_is_written_or_with_its_own_types(tmp_path, suffix):
    separator = "\t" if suffix == ".tsv" else ","
    path = tmp_path / f"rows{suffix}"
    names = ["text", "label", "id"]
    path.write_text("".join(f"{separator.join(line)}\n" for line in (names, ["n/a", "007", "7"])))
    assert read_rows(path, needed=names, as_text=True)[0] == {"text": "n/a", "label": "007", "id": "7"}
    assert read_rows(path)[0] == {"text": "n/a", "label": "007", "id": 7}


@pytest.mark.parametrize(
    ("first", "last", "read"), [("1", "x", ["1", "x"]), ("x", "007", ["x", "007"]), ("1", "1.5", [1.0, 1.5])]
)
def test_all_rows_of_a_long_csv_decide_on_the_type_of_a_column(tmp_path, first, last, read):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + f"a,{first}\n" * 10_000 + f"b,{last}\n")
    labels = read_rows(path)["label"]
    assert [labels[0], labels[10_000]] == read


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_text_or_class_may_be_called_as_missing_values_are(tmp_path, suffix):
    rows = [("n/a", "None", "1.5", "3"), ("hello", "NA", "", "4"), ("null", "", "nan", "5"), ("", "x", "2", "6")]
    path = tmp_path / f"rows{suffix}"
    lines = [("text", "label", "score", "id"), *rows]
    path.write_text("".join(("," if suffix == ".csv" else "\t").join(line) + "\n" for line in lines))
    found = read_rows(path)
    assert found.column_names == ["text", "label", "score", "id"]
    assert [tuple(row.values()) for row in found] == [
        ("n/a", "None", 1.5, 3),
        ("hello", "NA", None, 4),
        ("null", None, None, 5),
        (None, "x", 2.0, 6),
    ]
    (tmp_path / f"words{suffix}").write_text("text\nnull\nhello\n")
    assert read_rows(tmp_path / f"words{suffix}")["text"][:] == ["null", "hello"]
    (tmp_path / f"class{suffix}").write_text("label\nNone\nNA\n")
    assert read_rows(tmp_path / f"class{suffix}")["label"][:] == ["None", "NA"]


def test_labels_of_a_csv_keep_zeros_in_front_and_how_yes_and_no_are_written(tmp_path):
    (tmp_path / "rows.csv").write_text(
        "label,code,flag,number,score,part,empty\n0101,007,true,10,0.5,1,\n101,,FALSE,0,-0.25,,\n"
    )
    rows = read_rows(tmp_path / "rows.csv")
    assert rows.to_list() == [
        {"label": "0101", "code": "007", "flag": "true", "number": 10, "score": 0.5, "part": 1.0, "empty": None},
        {"label": "101", "code": None, "flag": "FALSE", "number": 0, "score": -0.25, "part": None, "empty": None},
    ]
    assert [rows.features[name].dtype for name in ("number", "score", "part")] == ["int64", "float64", "float64"]


def test_a_cell_in_quotes_may_hold_ends_of_lines_or_tabs(tmp_path):
    (tmp_path / "rows.tsv").write_text('text\tlabel\n"a ""film""\nof two lines"\t1\n"with\ttab"\t0\nsay "b"\t1\n')
    assert read_rows(tmp_path / "rows.tsv")["text"][:] == ['a "film"\nof two lines', "with\ttab", 'say "b"']


@pytest.mark.parametrize("as_text", [False, True])
def test_two_columns_of_a_name_are_refused(tmp_path, as_text):
    """The first one was read, without a word; columns without a name may be several."""
    path = tmp_path / "rows.csv"
    path.write_text("text,label,text\nold,1,new\n")
    with pytest.raises(ValueError, match=r"rows\.csv' has 2 columns called 'text'\. Give every column a name"):
        read_rows(path, needed=["text"], as_text=as_text)
    path.write_text(",text,label,\n0,new,1,\n")
    assert read_rows(path, needed=["text"], as_text=as_text)["text"][:] == ["new"]


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("comma.csv", ["text,label", "A good, warm film,positive", "A bad, dull film,negative"]),
        ("first.csv", ["text,label", "A good, warm film,positive", "A bad film,negative"]),
        ("one.csv", ["text", "A good film, really", "A bad film, no"]),
        ("end.csv", ["text,label", "A good film,positive,", "A bad film,negative,"]),
        ("tab.tsv", ["text\tlabel", "A good\tfilm\tpositive", "A bad\tfilm\tnegative"]),
    ],
)
def test_rows_with_more_cells_than_columns_are_refused(tmp_path, name, lines, as_text):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(
        ValueError, match=rf"{name}' has rows with more cells than its \d columns, \['text'.*double quot"
    ):
        read_rows(path, needed=["text"], as_text=as_text)


def test_the_head_of_a_table_may_stand_below_empty_lines(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("\n\nsentence,label\ngood,1\n")
    assert names_of_columns(path) == read_rows(path).column_names == ["sentence", "label"]
    path.write_text("\ntext,text\nold,new\n")
    with pytest.raises(ValueError, match=r"rows\.csv' has 2 columns called 'text'"):
        read_rows(path)


def test_a_column_that_is_called_like_an_index_is_one_of_the_file(tmp_path):
    (tmp_path / "kept.csv").write_text("__index_level_0__,text\n7,good\n")
    assert read_rows(tmp_path / "kept.csv").to_list() == [{"__index_level_0__": 7, "text": "good"}]


@pytest.mark.parametrize("name", ["train[1].csv", "what?*.csv", "[old] é|ü/train.csv"])
def test_a_file_is_the_one_of_its_name_whatever_signs_that_has(tmp_path, name):
    for other in ("train1.csv", "whatever.csv", "o/train.csv", name):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text(f"text\n{other}\n")
    assert read_rows(tmp_path / name)["text"][:] == [name]


def test_lines_of_text_are_rows(tmp_path):
    (tmp_path / "train.txt").write_text("one film\nanother\n")
    assert read_rows(tmp_path / "train.txt", needed=["text"])["text"][:] == ["one film", "another"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_file_without_rows_is_named_as_such(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        Dataset.from_dict({"text": []}, features=Features({"text": Value("string")})).to_parquet(path)
    else:
        path.write_text("text\n" if suffix == ".csv" else "")
    with pytest.raises(ValueError, match=rf"rows\{suffix}' has no rows\. Give a file with at least one"):
        read_rows(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("word.conll", b"EU B-ORG\nrejects\n", r"has 'rejects' in line 2\. A line is a word, then its tag.*Give every"),
        ("nothing.conll", b"\tO\n", r"has '\\tO' in line 1\. A line is a word, then its tag"),
        ("latin.conll", b"caf\xe9 O\n", r"cannot be read as text: .*Give a file in UTF-8"),
        ("empty.conll", b"\n", r"has no rows\. Give a file with at least one"),
        ("rows.doc", b"x", r"ends in '\.doc'\. Possible is one of \.csv, .*\.conll.*Give such a file"),
        ("quote.tsv", b'text\tlabel\n"a film\t1\nb\t0\nc "d"\t1\n', r"in column 'text' of row 0, with tabs and ends"),
        ("rows.csv", b"a\n1\n", r"has no column \['text'\], only \['a'\]\. Name the right columns, or give another"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path / name, needed=["text"] if name == "rows.csv" else ())
