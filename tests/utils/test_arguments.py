import argparse

import pytest

from utils.arguments import finite_float, parse_args, positive_float, run_script, seed, weight
from utils.training.loop import add_training_arguments


def parse(tmp_path, text, *argv):
    parser = argparse.ArgumentParser()
    add_training_arguments(parser)
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--flip", action=argparse.BooleanOptionalAction, default=True)
    (tmp_path / "config.yaml").write_text(text)
    return parse_args(parser, ["--config", str(tmp_path / "config.yaml"), *argv])


def test_a_file_gives_values_of_every_kind(tmp_path):
    text = "output_dir: out\nlearning_rate: 1e-4\nuse_ema: true\nsizes: [64, 96]\nflip: false\nseed: 3\n"
    args = parse(tmp_path, text)
    assert (args.output_dir, args.learning_rate, args.use_ema, args.sizes) == ("out", 1e-4, True, [64, 96])
    assert (args.flip, args.seed) == (False, 3)


def test_values_are_read_as_they_are_written(tmp_path):
    args = parse(tmp_path, "output_dir: 2026-01-01\nseed: 010\n")
    assert (args.output_dir, args.seed) == ("2026-01-01", 10)


def test_one_file_is_given_by_its_whole_flag(tmp_path, capsys):
    with pytest.raises(ValueError, match="--config is given for .*config.yaml and b.yaml: pass one file"):
        parse(tmp_path, "seed: 1", "--config", "b.yaml")
    with pytest.raises(SystemExit):
        parse(tmp_path, "seed: 1", "--conf", "b.yaml")
    assert "--conf" in capsys.readouterr().err
    (tmp_path / "config.yaml").unlink()
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(FileNotFoundError, match="--config .*config.yaml is no file: name a YAML file"):
        parse_args(argparse.ArgumentParser(), ["--config", str(tmp_path / "config.yaml")])


@pytest.mark.parametrize(
    ("kind", "text"),
    [(seed, "-1"), (seed, str(2**63)), (finite_float, "1e39"), (weight, "1e39"), (positive_float, "1e39")],
)
def test_numbers_that_nothing_can_use_are_refused(kind, text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is not"):
        kind(text)


def test_the_command_line_wins_over_the_file(tmp_path):
    args = parse(tmp_path, "output_dir: out\nlearning_rate: 1e-4\n", "--learning_rate", "2e-3")
    assert (args.output_dir, args.learning_rate) == ("out", 2e-3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("learning_rat: 1", "unknown key 'learning_rat'; did you mean 'learning_rate'"),
        ("output_dir: no", "output_dir is False, which is no value of it: put text in quotes"),
        ("sizes: [1, yes]", "sizes is True, which is no value of it: put text in quotes"),
        ("sizes: [[1]]", "which is no value of it: write one value, or a list of values"),
        ("seed: [1, 2]", "seed takes one value, not the list"),
        ("sizes: []", "sizes takes a value or more, not the list"),
        ("seed: 1\nseed: 2", "config.yaml is not YAML: seed is there twice"),
        ("config: other.yaml", "config names another file"),
        ("use_ema: 1", "use_ema is a switch and takes true or false, not 1"),
        ("seed: {a: 1}", "seed must be one value or a list"),
        ("- seed", "expected a mapping"),
        ("seed: [1,\nlearning_rate: }", "config.yaml is not YAML: while parsing .* line 2"),
    ],
)
def test_a_file_with_a_mistake_is_refused_in_one_sentence(tmp_path, text, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        parse(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_values_of_the_file_are_checked_like_typed_ones(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse(tmp_path, "output_dir: out\nlr_scheduler: steep\n")
    assert "invalid choice: 'steep'" in capsys.readouterr().err


def test_defaults_of_a_script_replace_those_of_the_loop_and_a_wrong_name_is_refused():
    parser = argparse.ArgumentParser()
    add_training_arguments(parser, learning_rate=3e-5)
    assert parse_args(parser, ["--output_dir", "out"]).learning_rate == 3e-5
    with pytest.raises(ValueError, match="'learning_rte'"):
        add_training_arguments(argparse.ArgumentParser(), learning_rte=1)


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError, ImportError])
def test_what_a_script_refuses_or_lacks_ends_it_with_one_line(error):
    def main():
        raise error("choose another")

    with pytest.raises(SystemExit, match="^error: choose another$"):
        run_script(main)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_a_file_is_read_in_the_encodings_that_people_save_in(tmp_path, encoding):
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompt")
    (tmp_path / "config.yaml").write_bytes("prompt: ein Käfer\r\n".encode(encoding))
    assert parse_args(parser, ["--config", str(tmp_path / "config.yaml")]).prompt == "ein Käfer"


def test_a_file_that_is_nested_too_deep_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="config.yaml has lists or mappings nested too deep"):
        parse(tmp_path, "seed: " + "[" * 5000 + "]" * 5000)
