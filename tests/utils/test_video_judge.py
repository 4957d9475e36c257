"""The judge of clips: what it says, what it learns from, and the faults that are made for it."""

import pytest
import torch

from utils.judges import VideoJudge, load_judge, save_judge
from utils.judges.clips import ClipJudgeDataset, Clips, mirror_facts, reverse_facts
from utils.judges.damage import damage
from utils.judges.video import CAMERAS, DAMAGES, FACTS, FLOW_UNIT, NUM_FEATURES, look
from utils.scenes import sample_clip
from utils.scenes.write_clips import main as write_clips


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judges") / "clips"
    options = {
        "seed": 1_000_000,
        "num_samples": 3,
        "first_frames": 3,
        "resolution": 32,
        "camera": "truck",
        "num_tracks": 2,
    }
    write_clips(["--output_dir", str(folder), *(str(part) for k, v in options.items() for part in (f"--{k}", v))])
    return Clips(folder)


def test_the_facts_are_those_of_the_clip(clips):
    clip, facts = sample_clip(1_000_001, camera="truck"), clips.facts[1]
    assert CAMERAS[facts["camera"]] == "truck"
    assert facts["camera_way"].tolist() == pytest.approx([0, clip.camera_motion.truck * 15, 0], rel=1e-5)
    assert facts["count"] == len(clip.scene.objects) - 1
    assert facts["colors"].sum() == len({solid.color for solid in clip.scene.objects})
    assert facts["direction"][0] * clip.camera_motion.truck < 0  # what is seen moves against the camera
    assert facts["motion"].expm1() > 0.05


def test_a_mirrored_clip_goes_the_other_way_across_and_a_reversed_one_in_every_way():
    facts = {
        "camera": torch.tensor(2),
        "camera_way": torch.tensor([1.0, 2.0, 3.0]),
        "direction": torch.tensor([4.0, 5.0]),
    }
    assert mirror_facts(facts)["camera_way"].tolist() == [-1, -2, 3]
    assert mirror_facts(facts)["direction"].tolist() == [-4, 5]
    assert reverse_facts(facts)["camera_way"].tolist() == [-1, -2, -3]
    assert reverse_facts(facts)["camera"] == 2


def test_the_flow_of_a_mirrored_sample_is_what_its_facts_say(clips):
    dataset = ClipJudgeDataset(clips)
    for mirrored in (False, True):
        sample = dataset.sample(0, mirrored=mirrored)
        flow = look(sample["video"][None])[0, :, 3:5] * FLOW_UNIT
        assert flow[:, 0].mean() * sample["direction"][0] > 0


def test_a_shifted_image_leaves_nothing_that_its_flow_does_not_explain():
    torch.manual_seed(0)
    wide = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 10) * 2 - 1, (64, 80), mode="bicubic").clamp(-1, 1)
    video = torch.stack([wide[0, ..., :64], wide[0, ..., 2:66]])[None]
    seen = look(video)[0, 0, :, 16:48, 16:48]
    assert seen[3].mean() * FLOW_UNIT == pytest.approx(-2, abs=0.1)
    assert seen[5:].abs().mean() < 0.2 * (video[0, 1] - video[0, 0]).abs().mean()


def test_some_samples_are_damaged_and_say_so(clips):
    torch.manual_seed(0)
    dataset = ClipJudgeDataset(clips)
    kinds = [(int(sample["damage"]), float(sample["intact"])) for sample in (dataset[0] for _ in range(60))]
    assert all(intact == (kind == 0) for kind, intact in kinds)
    assert 5 < sum(kind > 0 for kind, _ in kinds) < 35


@pytest.mark.parametrize("kind", DAMAGES[1:])
def test_a_fault_leaves_the_first_frame_and_changes_others(kind):
    torch.manual_seed(0)
    video = torch.rand(6, 3, 32, 32) * 2 - 1
    damaged = damage(video, kind)
    assert damaged.shape == video.shape and damaged.abs().max() <= 1
    torch.testing.assert_close(damaged[0], video[0], atol=1e-4, rtol=0)
    assert (damaged - video).abs().mean() > 0.02
    assert torch.equal(damage(video, "none"), video)


def test_the_judge_says_all_facts_and_has_few_features():
    judge = VideoJudge()
    said = judge(torch.zeros(2, 8, 3, 64, 64))
    assert {name: said[name].shape[1] for name in FACTS} == FACTS
    assert judge.features(torch.zeros(2, 8, 3, 64, 64)).shape == (2, NUM_FEATURES) and NUM_FEATURES <= 32
    assert sum(weight.numel() for weight in judge.parameters()) < 5e5  # 2 MB


def test_features_have_deviation_one_over_the_clips_of_the_training():
    torch.manual_seed(0)
    judge, videos = VideoJudge((8, 8, 8)), torch.rand(32, 3, 3, 32, 32)
    judge.calibrate(videos.split(10))
    features = judge.features(videos)
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(NUM_FEATURES), atol=1e-3, rtol=0)
    torch.testing.assert_close(features.std(dim=0), torch.ones(NUM_FEATURES), atol=1e-3, rtol=0)


def test_a_judge_of_clips_survives_a_file_with_the_scale_of_its_features(tmp_path):
    judge, video = VideoJudge((8, 16, 8)), torch.rand(4, 2, 3, 32, 32)
    judge.calibrate([video])
    save_judge(tmp_path / "judge.safetensors", judge)
    loaded = load_judge(tmp_path / "judge.safetensors", "video")
    assert torch.equal(judge.features(video), loaded.features(video))


def test_clips_that_do_not_say_how_things_move_are_refused(tmp_path):
    (tmp_path / "metadata.jsonl").write_text('{"video_folder": "videos/0", "fps": 8, "seed": 0}\n')
    with pytest.raises(ValueError, match="how things move"):
        Clips(tmp_path)
    with pytest.raises(FileNotFoundError, match="write_clips"):
        Clips(tmp_path / "absent")
