"""The benchmark of the patch: its table is complete, and its forms are what they are called."""

import json

import pytest
import torch

import patch
from benchmarks.bench_patch import main
from benchmarks.patch_forms import Setting, inference_forms, make_base, sampling_forms, training_forms
from benchmarks.timing import Form, compare, count_flops, time_in_turns

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def setting():
    return Setting(make_base("tiny_sd", "cpu", torch.float32), latent_size=4, rank=2, compiled=False)


def test_the_command_measures_all_parts_and_overwrites_nothing(tmp_path, capsys):
    output = tmp_path / "bench.json"
    size = ["--model", "tiny_sd", "--latent_size", "4", "--rank", "2", "--num_inference_steps", "1"]
    arguments = [*size, "--repeats", "2", "--sampling_repeats", "1", "--output", str(output)]
    main(arguments)
    results, table = json.loads(output.read_text()), capsys.readouterr().out
    assert results["arguments"]["latent_size"] == 4
    assert results["inference"]["base, 4 rows"]["wall_ratio"] == 1
    assert results["inference"]["joint, fused"]["parameters"]["fused"] > 0
    for part in ("inference", "sampling", "training"):
        for name, row in results[part].items():
            assert row["wall_seconds"] > 0 and row["reference"] in results[part], name
            assert f"\n{name} " in table
    with pytest.raises(FileExistsError, match="bench.json exists: choose another --output"):
        main(arguments)


def test_the_forms_are_what_they_are_called(setting):
    forms, nets = inference_forms(setting, conditions=2)
    forms = {form.name: form for form in forms}
    outputs = {}
    for name, form in forms.items():
        form.prepare()
        outputs[name] = form.run()
    assert torch.equal(outputs["patched, no pairs"], outputs["base, 4 rows"])
    torch.testing.assert_close(outputs["disabled"][:2], outputs["base, 4 rows"][:2], atol=1e-5, rtol=1e-5)
    for name in ("joint", "cached"):
        rows = len(outputs[name])
        assert not torch.allclose(outputs[name], outputs["base, 4 rows"][:rows], atol=1e-5)
    assert {name: len(out) for name, out in outputs.items() if len(out) == 2}.keys() == {
        "base, 2 rows",
        "cached",
        "cached, 2 conditions",
    }
    with pytest.raises(ValueError, match="fused already"):
        patch.fuse(nets["joint, fused"])


def test_counted_arithmetic_orders_the_forms(setting):
    forms, _ = inference_forms(setting, conditions=2)
    flops = {form.name: count_flops(form) for form in forms}
    assert flops["base, 4 rows"] == 2 * flops["base, 2 rows"] == flops["patched, no pairs"]
    assert flops["disabled"] < flops["joint, fused"] < flops["joint"]
    assert flops["base, 2 rows"] < flops["cached"] < flops["cached, 2 conditions"] < flops["joint"]


def test_all_networks_share_the_weights_of_the_base(setting):
    twin = setting.joint("depth")
    base = dict(setting.base.named_parameters())
    shared = {name.replace(".base_layer", ""): p for name, p in twin.named_parameters() if "lora_" not in name}
    assert all(shared[name].data_ptr() == p.data_ptr() for name, p in base.items())


def test_sampling_with_a_given_condition_runs_it_once(setting):
    forms = {form.name: form for form in sampling_forms(setting, steps=3)}
    flops = {name: count_flops(form) for name, form in forms.items()}
    assert flops["image alone, base"] < flops["depth to image"] < flops["depth to image, not cached"]
    assert flops["depth to image"] < 4.8 / 3 * flops["image alone, base"]


def test_a_training_step_changes_adapters_alone(setting):
    for form in training_forms(setting):
        form.run()
    assert not any(p.requires_grad for p in setting.base.parameters())


def test_ratios_are_taken_within_a_round():
    times = {"a": {"wall": [1.0, 2.0, 8.0], "cpu": [1.0] * 3}, "b": {"wall": [2.0, 4.0, 8.0], "cpu": [3.0] * 3}}
    forms = [Form("a", "a", lambda: None), Form("b", "a", lambda: None)]
    row = compare(forms, times)["b"]
    assert row["wall_ratio"] == 2 and row["cpu_ratio"] == 3 and row["wall_seconds"] == 4


def test_forms_run_in_turns_and_the_first_round_is_left_out():
    order = []
    forms = [Form(name, "a", lambda name=name: order.append(name)) for name in "ab"]
    times = time_in_turns(forms, 2, CPU, "test")
    assert order == list("ababab") and len(times["a"]["wall"]) == 2
