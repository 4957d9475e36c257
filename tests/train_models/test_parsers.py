"""What --help and the defaults of the train scripts promise."""

import argparse
import importlib
from pathlib import Path

import pytest

from utils.arguments import name_defaults
from utils.training.loop import add_training_arguments

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.stem for path in (REPOSITORY / "train_models").glob("train_*.py"))


def parser_of(script):
    return importlib.import_module(f"train_models.{script}").make_parser()


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_every_default(script):
    parser = parser_of(script)
    name_defaults(parser)
    optional = [action for action in parser._actions if not action.required and action.dest != "help"]
    helps = {action.option_strings[0]: action.help for action in optional}
    assert not [flag for flag, text in helps.items() if "default: " not in (text or "")]
    parser.format_help()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_flag_says_what_it_is(script):
    """A help begins with its thing: not "of the noise"."""
    helps = {action.option_strings[0]: action.help for action in parser_of(script)._actions}
    assert not [flag for flag, text in helps.items() if not text or text.startswith(("of ", "by default", "as "))]


@pytest.mark.parametrize("script", SCRIPTS)
def test_embedded_weights_are_found_from_any_folder(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    defaults = [str(action.default) for action in parser_of(script)._actions]
    folders = [default for default in defaults if "weights/" in default]
    assert all(Path(folder).is_dir() for folder in folders)


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("max_grad_norm", ["-1", "nan", "inf"]),
        ("learning_rate", ["-1e-4", "nan", "inf"]),
        ("ema_decay", ["-0.1", "1.1", "nan"]),
        ("adam_beta1", ["-0.1", "1", "nan"]),
        ("adam_beta2", ["1", "nan"]),
        ("adam_weight_decay", ["-1"]),
        ("adam_epsilon", ["0"]),
        ("lora_alpha", ["0", "nan"]),
        ("lr_warmup_steps", ["-1", "1.5"]),
        ("dataloader_num_workers", ["-1"]),
        ("seed", ["-1", "0.5", str(2**63)]),
        ("sigma_mean", ["nan", "inf"]),
        ("sigma_std", ["-1", "nan"]),
        ("noise_aug_mean", ["inf"]),
        ("noise_aug_std", ["-1", "nan"]),
        ("conditioning_dropout_prob", ["1.5", "nan"]),
        ("control_dropout_prob", ["-0.1"]),
        ("flow_consistency_weight", ["-1"]),
        ("snr_gamma", ["-1", "nan"]),
        ("noise_offset", ["inf"]),
    ],
)
def test_a_number_out_of_its_range_is_refused_in_parsing_and_named(flag, values, capsys):
    parsers = [parser for parser in map(parser_of, SCRIPTS) if any(a.dest == flag for a in parser._actions)]
    assert parsers
    for parser in parsers:
        for value in values:
            with pytest.raises(SystemExit):
                parser.parse_args([f"--{flag}={value}"])
            said = capsys.readouterr().err
            assert f"argument --{flag}: " in said and value in said


def test_numbers_at_the_end_of_their_range_are_taken():
    parser = argparse.ArgumentParser()
    add_training_arguments(parser)
    flags = ["--max_grad_norm=0", "--learning_rate=0", "--ema_decay=1", "--adam_beta1=0", "--lr_warmup_steps=0"]
    assert parser.parse_args([*flags, "--output_dir=x"]).max_grad_norm == 0
