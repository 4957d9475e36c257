"""The benchmark of the patch: its table is complete, and its forms are what they are called."""

import json

import pytest
import torch

import patch
from benchmarks.bench_patch import PARTS, main
from benchmarks.patch_forms import (
    Setting,
    condition_forms,
    inference_forms,
    make_base,
    parameter_counts,
    sampling_forms,
    training_forms,
)
from benchmarks.timing import Form, Samples, compare, count_flops, time_in_turns, whole_runs
from tests.flags import flags

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def setting():
    return Setting(make_base("tiny_sd", "cpu", torch.float32), latent_size=4, rank=2, compiled=False)


@pytest.fixture(scope="module")
def forms(setting):
    return {form.name: form for form in [*inference_forms(setting), *condition_forms(setting, 2)]}


def test_the_command_measures_what_the_file_lacks(read, tmp_path, capsys):
    output = tmp_path / "bench.json"
    values = {"models": "tiny_sd", "latent_size": 4, "rank": 2, "num_inference_steps": 2, "conditions": 2, "repeats": 2}
    command = flags(**values, training_repeats=1, output=output)
    main([*command, "--parts", "inference"])
    before = read(tmp_path, output.name)
    main(command)
    results, table = read(tmp_path, output.name), capsys.readouterr().out
    assert before.items() <= results.items()
    content = json.loads(output.read_text())
    assert list(content["settings"]) == [f"tiny_sd, {part}" for part in PARTS] and len(content["runs"]) == 2
    for name, row in results.items():
        part, form = name.split(": ")
        held = content["settings"][part]
        assert held["latent_size"] == 4 and row["wall_seconds"] > 0
        assert f"{part}: {held['references'][form]}" in results and f"\n{form} " in table
    assert results["tiny_sd, inference: base, 4 rows"]["wall_ratio"]["median"] == 1
    with pytest.raises(ValueError, match="holds inference of tiny_sd with rank=2, not 3: choose another --output"):
        main([*command, "--rank", "3"])


def test_a_file_of_another_shape_is_refused(tmp_path):
    (tmp_path / "old.json").write_text('{"tiny_sd": {"inference": {}}}')
    with pytest.raises(ValueError, match="old.json is no results file of this version: choose another --output, or"):
        main(["--output", str(tmp_path / "old.json")])


@torch.no_grad()
def test_the_forms_are_what_they_are_called(forms):
    outputs = {}
    for name, form in forms.items():
        with form.around():
            outputs[name] = form.run()
    base = outputs["base, 4 rows"]
    assert torch.equal(outputs["patched, no pairs"], base)
    for name in ("disabled", "disabled, fused"):
        torch.testing.assert_close(outputs[name][:2], base[:2], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(outputs[name][2:], base[2:], atol=1e-5)
    for name in ("joint", "cached, fused"):
        assert not torch.allclose(outputs[name], base[: len(outputs[name])], atol=1e-5)
    two = {name for name, out in outputs.items() if len(out) == 2}
    assert two == {"base, 2 rows", "cached, fused", "cached, fused, 2 conditions"}
    with pytest.raises(ValueError, match="fused already"):
        patch.fuse(forms["joint, fused"].net)


def test_counted_arithmetic_orders_the_forms(forms):
    flops = {}
    for name, form in forms.items():
        with form.around():
            flops[name] = count_flops(form.run)
    assert flops["base, 4 rows"] == 2 * flops["base, 2 rows"] == flops["patched, no pairs"]
    assert (
        flops["base, 4 rows"] < flops["disabled, fused"] <= flops["disabled"] < flops["joint, fused"] < flops["joint"]
    )
    assert flops["base, 2 rows"] < flops["cached, fused"] < flops["cached, fused, 2 conditions"] < flops["joint"]


def test_parameters_are_those_of_the_adapters_and_of_what_is_kept(forms):
    joint, fused = (parameter_counts(forms[name].net) for name in ("joint", "joint, fused"))
    assert (
        joint["trained"]
        == joint["stored"]
        == sum(p.numel() for p in patch.joint_parameters(forms["joint"].net, "depth"))
    )
    assert joint["kept"] == 0 < fused["kept"] < parameter_counts(forms["cached, fused"].net)["kept"]


def test_all_networks_share_the_weights_of_the_base(setting):
    twin = setting.joint()
    base = dict(setting.base.named_parameters())
    shared = {name.replace(".base_layer", ""): p for name, p in twin.named_parameters() if "lora_" not in name}
    assert all(shared[name].data_ptr() == p.data_ptr() for name, p in base.items())


def test_a_whole_run_has_the_given_side_once(setting):
    forms = sampling_forms(setting)
    rows = whole_runs(forms, time_in_turns(forms, 3, CPU, "test"))
    assert rows.keys() == {f"{mode}, whole run" for mode in ("image and depth", "depth to image", "image to depth")}
    assert (
        rows["image and depth, whole run"]["wall_once_seconds"]
        == 0
        < rows["depth to image, whole run"]["wall_once_seconds"]
    )
    for name in ("depth to image, whole run", "image to depth, whole run"):
        assert 4 / 3 < rows[name]["counted_ratio"] < 4.8 / 3  # a pass more than the steps


def test_a_training_step_changes_adapters_alone(setting):
    for form in training_forms(setting):
        form.run()
    assert not any(p.requires_grad for p in setting.base.parameters())


def test_ratios_are_taken_within_a_round():
    samples = {
        "a": Samples(0, None, wall=[1.0, 2.0, 8.0], cpu=[1.0] * 3),
        "b": Samples(
            0, None, wall=[2.0, 4.0, 8.0], cpu=[3.0] * 3, once=Samples(7, None, wall=[9.0, 5.0, 1.0], cpu=[3.0] * 3)
        ),
    }
    forms = [Form("a", "a", lambda: None), Form("b", "a", lambda: None)]
    row = compare(forms, samples)["b"]
    assert row["wall_ratio"] == {"median": 2, "low": 1.5, "high": 2}
    assert row["cpu_ratio"]["median"] == 3 and row["wall_seconds"] == 4
    run = whole_runs(forms, samples)["b, whole run"]
    assert run["wall_ratio"] == 19 / 11 and run["cpu_ratio"] == 4 and run["peak_bytes"] == 7


def test_forms_run_in_turns_after_two_runs_that_are_left_out():
    order = []
    forms = [Form(name, "a", lambda name=name: order.append(name)) for name in "ab"]
    forms.append(Form("c", "a", lambda: order.append("c"), once=lambda: order.append("C")))
    samples = time_in_turns(forms, 2, CPU, "test")
    assert "".join(order) == "aabbCcc" + 2 * "abCc"
    assert len(samples["a"].wall) == len(samples["c"].wall) == len(samples["c"].once.wall) == 2


def test_the_peak_is_what_a_run_takes_beyond_what_is_there():
    form = Form("a", "a", lambda: torch.ones(10_000_000))
    assert 0.9 < time_in_turns([form], 1, CPU, "test")["a"].peak / 40e6 < 1.5


def test_the_peak_leaves_out_what_a_first_run_allocates_for_good():
    kept = {}

    def run(name):
        if name not in kept:
            kept[name] = torch.ones(10_000_000)
        return torch.ones(1_000_000)

    forms = [Form(name, "a", lambda name=name: run(name)) for name in "ab"]
    samples = time_in_turns(forms, 1, CPU, "test")
    assert samples["a"].peak < 20e6 and samples["b"].peak < 20e6
