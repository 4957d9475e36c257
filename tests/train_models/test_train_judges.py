"""Training of the judges: it learns, and leaves files that load and a card that says how good they are."""

import pytest
import torch
from diffusers import AutoencoderKL

from train_models.train_judges import attribute_loss, depth_loss, main, video_loss
from utils.judges import AttributeJudge, DepthJudge, VideoJudge, load_judge
from utils.judges.clips import ClipJudgeDataset, Clips
from utils.judges.data import JudgeDataset, Scenes
from utils.judges.measures import attribute_metrics, depth_metrics


@pytest.fixture
def vae(tmp_path):
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


def test_both_judges_are_trained_measured_and_described(scenes, vae, tmp_path):
    out = tmp_path / "out"
    arguments = ["--train_data_dir", scenes, "--vae", vae, "--output_dir", out, "--max_train_steps", 2]
    arguments = [*arguments, "--train_batch_size", 2, "--num_validation_samples", 2]
    main(list(map(str, arguments)))
    assert isinstance(load_judge(out / "depth.safetensors"), DepthJudge)
    assert isinstance(load_judge(out / "attributes.safetensors"), AttributeJudge)
    card = (out / "README.md").read_text()
    assert "| images | abs_rel | delta1 |" in card and "| images | color | shape | count |" in card
    assert card.count("| reconstructions |") == 2
    with pytest.raises(FileExistsError):
        main(list(map(str, arguments)))


def test_a_validation_part_that_leaves_nothing_is_refused(scenes, vae, tmp_path):
    arguments = ["--train_data_dir", str(scenes), "--vae", str(vae), "--output_dir", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="lower --num_validation_samples"):
        main([*arguments, "--num_validation_samples", "8"])


@pytest.mark.parametrize(
    ("make", "loss", "metrics", "better"),
    [
        (DepthJudge, depth_loss, depth_metrics, lambda m: m["abs_rel"] < 0.15),
        (AttributeJudge, lambda *a: attribute_loss(*a)[0], attribute_metrics, lambda m: m["color"] == m["shape"] == 1),
    ],
)
def test_a_judge_learns_a_few_scenes_by_heart(scenes, make, loss, metrics, better):
    torch.manual_seed(0)
    scenes = Scenes(scenes)
    dataset = JudgeDataset(scenes, scenes.images)
    batch = torch.utils.data.default_collate([dataset.sample(i, 0, False) for i in range(3)])
    judge = make((8, 32, 32))
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-2)
    assert not better(metrics(judge, dataset, range(3), 0))
    for _ in range(60):
        optimizer.zero_grad()
        loss(judge, batch).backward()
        optimizer.step()
    assert better(metrics(judge, dataset, range(3), 0))


@pytest.fixture(scope="module")
def clips_dir(make_clips):
    return make_clips(num_samples=5, seed=1_000_000, first_frames=3)


def test_the_judge_of_clips_is_trained_measured_and_described(clips_dir, tmp_path):
    out = tmp_path / "out"
    arguments = ["--judges", "video", "--clips_dir", clips_dir, "--output_dir", out, "--max_train_steps", 2]
    main(list(map(str, [*arguments, "--train_batch_size", 2, "--num_validation_samples", 2])))
    assert isinstance(load_judge(out / "video.safetensors"), VideoJudge)
    card = (out / "README.md").read_text()
    assert "| clips | camera | count | colors | motion | damage |" in card and "from 3 clips" in card


def test_a_judge_without_what_it_learns_from_is_refused(scenes, tmp_path):
    with pytest.raises(ValueError, match="--judges video needs --clips_dir"):
        main(["--judges", "video", "--output_dir", str(tmp_path / "out")])
    with pytest.raises(ValueError, match="--judges depth needs --vae"):
        main(["--judges", "depth", "--train_data_dir", str(scenes), "--output_dir", str(tmp_path / "out")])


@pytest.mark.parametrize("name", ["video.safetensors", "README.md"])
def test_what_a_judge_would_replace_is_refused_before_any_work(clips_dir, tmp_path, name):
    (tmp_path / name).write_text("# Mine")
    arguments = ["--judges", "video", "--clips_dir", clips_dir, "--output_dir", tmp_path, "--max_train_steps", 1]
    arguments = list(map(str, [*arguments, "--train_batch_size", 2, "--num_validation_samples", 2]))
    with pytest.raises(FileExistsError, match=f"{name} exists and would be replaced; pass --overwrite"):
        main(arguments)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    main([*arguments, "--overwrite"])
    main([*arguments, "--resume_from_checkpoint", "latest"])


def test_the_judge_of_clips_learns_a_few_clips_by_heart(clips_dir):
    torch.manual_seed(0)
    dataset = ClipJudgeDataset(Clips(clips_dir))
    batch = torch.utils.data.default_collate([dataset.sample(i) for i in range(4)])
    judge = VideoJudge((8, 16, 16))
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-2)
    first = video_loss(judge, batch)[0].item()
    for _ in range(80):
        optimizer.zero_grad()
        loss, facts = video_loss(judge, batch)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * first
    assert facts["colors"].item() < 0.2 and facts["camera"].item() < 0.1


def test_facts_of_damaged_clips_do_not_count(clips_dir):
    torch.manual_seed(0)
    dataset = ClipJudgeDataset(Clips(clips_dir))
    judge = VideoJudge((8, 8, 8)).eval()
    damaged = torch.utils.data.default_collate([dataset.sample(i, kind=1) for i in range(3)])
    facts = video_loss(judge, damaged)[1]
    assert facts.pop("damage") > 0
    assert all(value == 0 for value in facts.values())
