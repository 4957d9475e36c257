"""One reader of text: marks, encodings, damaged files, and JSON that is too deep."""

import csv

import pytest

from utils.formats.text import json_line, parse_json_lines, read_csv, read_json, read_json_lines, read_text

WORDS = "Ein Käfer, straße"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252"])
def test_encodings_that_people_save_in_are_read(tmp_path, encoding):
    path = tmp_path / "a.txt"
    path.write_bytes(f"{WORDS}\r\nzwei\rdrei\n".encode(encoding))
    assert read_text(path) == f"{WORDS}\nzwei\ndrei\n"


@pytest.mark.parametrize(("mark", "encoding"), [(b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")])
def test_either_order_of_bytes_is_read_where_the_mark_says_it(tmp_path, mark, encoding):
    (tmp_path / "a.txt").write_bytes(mark + WORDS.encode(encoding))
    assert read_text(tmp_path / "a.txt") == WORDS


def test_what_windows_1252_leaves_undefined_is_latin_1(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\x93quoted\x94")
    assert read_text(tmp_path / "a.txt") == "“quoted”"
    (tmp_path / "a.txt").write_bytes(b"\x81\xe9")
    assert read_text(tmp_path / "a.txt") == "\x81é"


def test_the_fallback_is_said_once(tmp_path, capsys):
    for name in "ab":
        (tmp_path / name).write_bytes(b"\xe9")
        read_text(tmp_path / name)
    assert capsys.readouterr().err.count("is not UTF-8 and is read as Windows-1252") == 1


def test_marks_of_files_that_were_put_together_are_dropped(tmp_path):
    (tmp_path / "a.jsonl").write_bytes('\ufeff{"a": 1}\n\ufeff{"a": 2}\n'.encode())
    assert [row for _, row in read_json_lines(tmp_path / "a.jsonl")] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (WORDS.encode("utf-16-le"), "a.json holds zero bytes and is no text"),
        (b"\xff\xfea", "a.json begins with the mark of utf-16 and is not"),
        (b"\xef\xbb\xbf\xe9", "a.json begins with the mark of utf-8-sig and is not"),
        (b'{"a": ', "a.json is not JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "a.json is nested more than 100 lists"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "a.json is nested more than 100 lists"),
        (b"[" * 100_000, "a.json is n"),
        (b"1" * 5000, "a.json is not JSON"),
    ],
)
def test_what_is_broken_is_refused_in_one_sentence_that_names_the_file(tmp_path, data, sentence):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ValueError, match=sentence) as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_json_as_deep_as_people_write_it_is_read(tmp_path):
    (tmp_path / "a.json").write_text("[" * 100 + "]" * 100)
    assert read_json(tmp_path / "a.json")


def test_lines_are_named_in_errors(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n[1]\n')
    with pytest.raises(ValueError, match=r"a\.jsonl, line 3: no JSON object"):
        list(read_json_lines(tmp_path / "a.jsonl"))
    with pytest.raises(ValueError, match=r"line 1: nested more than"):
        list(parse_json_lines('{"a": ' + "[" * 100_000, "x"))


def test_a_list_in_place_of_lines_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"x, line 1: not JSON .*; write one object a line\."):
        list(parse_json_lines('[\n  {"a": 1}\n]\n', "x"))


def test_a_quoted_field_without_an_end_is_refused_and_other_quotes_are_read(tmp_path):
    (tmp_path / "a.csv").write_text('a,b\n1,"x\n2,y\n')
    with pytest.raises(ValueError, match=r"a\.csv cannot be read as csv: a field begins with a quotation mark and has"):
        read_csv(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text('a, b\n1,a 5" pipe\n2, "x, y"\n')
    columns, rows = read_csv(tmp_path / "a.csv")
    assert columns == ["a", "b"]
    assert [row["b"] for row in rows] == ['a 5" pipe', "x, y"]


def test_a_row_is_written_so_that_it_is_read_again(tmp_path):
    for row in ({"a": "é\u2028x"}, {"a": "caf\udce9.jpg"}):
        assert [got for _, got in parse_json_lines(json_line(row), "x")] == [row]
        json_line(row).encode()


def test_fields_of_a_csv_may_be_long_and_the_limit_of_others_stays(tmp_path):
    limit = csv.field_size_limit()
    (tmp_path / "a.csv").write_text(f'a,b\n1,"{"x" * 140_000}"\n2\n', encoding="utf-16")
    columns, rows = read_csv(tmp_path / "a.csv")
    assert columns == ["a", "b"]
    assert [len(row["b"]) for row in rows] == [140_000, 0]
    assert csv.field_size_limit() == limit
