"""The export to ONNX: the files compute what PyTorch computes, at sizes that they were not traced with."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from models.onnx_networks import RANDOM_SIZES, random_networks
from models.onnx_parts import Part, gather_weights, largest_error
from run_models.export_onnx import main
from utils.diffusion.svd_condition import ConditionEncoder
from utils.pretrained import shipped

REPOSITORY = Path(__file__).resolve().parents[2]
onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A Stable Video Diffusion pipeline and the folder of its four parts."""
    from tests.tiny_video_pipeline import tiny_video_pipeline

    folder, pipe = tmp_path_factory.mktemp("svd"), tiny_video_pipeline()
    pipe.save_pretrained(folder / "model")
    parts = ["unet", "decoder", "encoder", "image_encoder"]
    main(["--model_dir", str(folder / "model"), "--output_dir", str(folder / "onnx"), "--part", *parts])
    return pipe, folder / "onnx"


def run(folder, part, *inputs):
    session = onnxruntime.InferenceSession(folder / part / "model.onnx", providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    found = session.run(None, {name: values.numpy() for name, values in zip(names, inputs, strict=True)})
    return torch.from_numpy(found[0])


def test_video_unet_takes_any_batch_frames_and_size(exported):
    pipe, folder = exported
    inputs = (
        torch.randn(1, 5, 8, 16, 24),
        torch.tensor([0.3]),
        torch.randn(1, 1, 16),
        torch.tensor([[6.0, 127, 0.02]]),
    )
    expected = pipe.unet(*inputs, return_dict=False)[0]
    torch.testing.assert_close(run(folder, "unet", *inputs), expected, rtol=0, atol=1e-4)


def test_decoder_takes_the_latents_that_the_unet_knows(exported):
    pipe, folder = exported
    latents = torch.randn(1, 3, 4, 8, 8)
    expected = pipe.decode_latents(latents, 3, 3).transpose(1, 2)
    torch.testing.assert_close(run(folder, "decoder", latents), expected, rtol=0, atol=1e-4)


def test_encoders_give_the_condition_of_the_pipeline(exported):
    pipe, folder = exported
    encoder = ConditionEncoder(pipe.vae, pipe.image_encoder, pipe.feature_extractor)
    image = torch.randn(1, 3, 32, 32).clamp(-1, 1)
    latents = run(folder, "encoder", image)
    torch.testing.assert_close(latents, encoder.encode_latents(image), rtol=0, atol=1e-4)
    pixels = torch.randn(2, 3, 224, 224)
    embeddings = pipe.image_encoder(pixels).image_embeds[:, None]
    torch.testing.assert_close(run(folder, "image_encoder", pixels), embeddings, rtol=0, atol=1e-4)


def test_sizes_that_may_change_have_names_in_the_file(exported):
    _, folder = exported
    session = onnxruntime.InferenceSession(folder / "unet/model.onnx", providers=["CPUExecutionProvider"])
    shapes = {value.name: value.shape for value in session.get_inputs()}
    assert shapes["sample"] == ["batch", "frames", 8, "height", "width"]
    assert shapes["encoder_hidden_states"] == ["batch", "tokens", 16]


def test_a_stable_diffusion_folder_is_exported_with_its_error(folders, tmp_path, capsys):
    main(["--model_dir", str(folders.model), "--output_dir", str(tmp_path), "--opset", "18"])
    assert capsys.readouterr().out.count("largest error") == 2
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["decoder/model.onnx", "decoder/run.json", "unet/model.onnx", "unet/run.json"]
    assert onnx.load(tmp_path / "unet/model.onnx").opset_import[0].version == 18
    record = json.loads((tmp_path / "unet/run.json").read_text())
    assert record["part"] == "unet" and record["files"] == ["model.onnx"] and record["weights"]


def test_a_part_that_differs_too_much_is_refused_and_leaves_nothing(folders, tmp_path):
    arguments = ["--model_dir", str(folders.model), "--output_dir", str(tmp_path), "--part", "decoder"]
    with pytest.raises(ValueError, match="more than --tolerance 1e-12"):
        main([*arguments, "--tolerance", "1e-12"])
    assert not list(tmp_path.iterdir())


def test_error_is_the_largest_difference_of_all_examples(exported):
    pipe, folder = exported
    latents = torch.randn(1, 2, 4, 8, 8)
    right = pipe.decode_latents(latents, 2, 2).transpose(1, 2)
    wrong = right.clone()
    wrong[0, 1, 2, 3, 4] += 0.5
    path = folder / "decoder/model.onnx"
    assert largest_error(path, [((latents,), right), ((latents,), wrong)]) == pytest.approx(0.5, abs=1e-4)
    with pytest.raises(ValueError, match="onnxruntime does not run"):
        largest_error(path, [((latents[:, :, :3],), right)])


def test_weights_in_many_files_are_brought_into_one(tmp_path):
    weights = np.arange(2048, dtype=np.float32).reshape(2, 1024)  # onnx keeps less than 1 kB in the model
    tensors = [onnx.numpy_helper.from_array(weights + i, f"w{i}") for i in range(2)]
    nodes = [onnx.helper.make_node("MatMul", ["x", "w0"], ["y"]), onnx.helper.make_node("Add", ["y", "w1"], ["z"])]
    values = [onnx.helper.make_tensor_value_info(name, 1, [2, width]) for name, width in (("x", 2), ("z", 1024))]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    path = tmp_path / "model.onnx"
    scattered = {"save_as_external_data": True, "all_tensors_to_one_file": False, "size_threshold": 0}
    onnx.save_model(model, path, **scattered)
    assert len(list(tmp_path.iterdir())) == 3
    gather_weights(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1, "who may read one may read the other"
    x = torch.eye(2)
    assert largest_error(path, [((x,), torch.from_numpy(weights + weights + 1))]) == 0


def test_the_random_sizes_are_the_published_ones():
    with torch.device("meta"):
        counts = {size: count(random_networks(size)["unet"]()) for size in RANDOM_SIZES}
    assert counts == {"sd15": 859_520_964, "svd": 1_524_623_082}


def count(part: Part) -> int:
    return sum(parameter.numel() for parameter in part.module.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--part", "image_encoder"], "--part image_encoder: this model has none to export; take unet, decoder"),
        (
            ["--model_dir", shipped("trajectory")],
            "is a ControlNet .*; a Stable Diffusion or Stable Video Diffusion base",
        ),
        (["--model_dir", "none"], "There is no --model_dir none; a Stable Diffusion"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(folders, tmp_path, arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main(["--model_dir", str(folders.model), "--output_dir", str(tmp_path / "out"), *arguments])
    assert not (tmp_path / "out").exists()


def test_what_exists_is_not_overwritten(folders, tmp_path):
    (tmp_path / "unet").mkdir()
    with pytest.raises(FileExistsError, match="pass --overwrite"):
        main(["--model_dir", str(folders.model), "--output_dir", str(tmp_path)])
    (tmp_path / "unet/diffusion_pytorch_model.safetensors").touch()
    with pytest.raises(FileExistsError, match="model.safetensors is of no export and would be lost"):
        main(["--model_dir", str(folders.model), "--output_dir", str(tmp_path), "--overwrite"])
    assert (tmp_path / "unet/diffusion_pytorch_model.safetensors").exists()


def test_a_folder_that_is_no_such_model_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="is an empty folder; a Stable Diffusion or Stable Video Diffusion base is needed"
    ):
        main(["--model_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")])
    (tmp_path / "model_index.json").write_text('{"transformer": ["diffusers", "PixArtTransformer2DModel"]}')
    with pytest.raises(ValueError, match="is a pipeline; a Stable Diffusion or"):
        main(["--model_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")])


def test_a_missing_package_is_named(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'The export needs onnx: pip install -e "\.\[export\]"'):
        main(["--model_dir", str(folders.model), "--output_dir", str(tmp_path)])


def test_the_loop_in_the_docs_draws_what_pytorch_draws(exported, tmp_path, monkeypatch):
    _, folder = exported
    for path, target in (("outputs/onnx/tiny_svd", folder), ("weights/tiny_svd", folder.parent / "model")):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", (REPOSITORY / "docs/deploy.md").read_text(), re.DOTALL).group(1)
    names = {"image": torch.rand(1, 3, 64, 64) * 2 - 1}
    exec(code, names)  # noqa: S102
    expected = names["pipe"].denoise(names["inputs"])
    torch.testing.assert_close(names["latents"], expected, rtol=1e-3, atol=1e-3)
