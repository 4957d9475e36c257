"""What the tests of evaluations share."""

import json

import pytest

from tests.flags import flags


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """Folder of rendered clips and scenes."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def four_clips(judges_dir, cache_dir, tmp_path):
    """Arguments of an evaluation of four clips of three frames in one step: `four_clips(**others)(*more)`."""

    def command(**others):
        values = {"judges_dir": judges_dir, "cache_dir": cache_dir, "output_dir": tmp_path / "out", **others}
        values |= {"num_clips": 4, "num_frames": 3, "batch_size": 3, "num_inference_steps": 1, "max_guidance_scale": 1}
        return lambda *more: [*flags(**values), *map(str, more)]

    return command


@pytest.fixture
def read():
    """From a folder of results, in the shape of `benchmarks/protocol/record.py`, to figures by row and name."""

    def from_folder(folder, name="results.json"):
        content = json.loads((folder / name).read_text())
        assert list(content) == ["evaluation", "runs", "settings", "counts", "results"]
        assert all(list(made) == ["date", "command", "machine"] for made in content["runs"])
        figures = [figure for row in content["results"].values() for figure in row.values()]
        assert all(isinstance(figure, int | float) or is_interval(figure) for figure in figures)
        assert content["counts"].keys() <= content["results"].keys()
        return content["results"]

    return from_folder


def is_interval(figure):
    return list(figure)[1:] == ["low", "high"] and next(iter(figure)) in ("mean", "median")


@pytest.fixture
def stop_once(monkeypatch):
    """Makes an entry of a dict of tasks stop with KeyboardInterrupt in its second call; returns its indices."""

    def replace(tasks, name):
        compute, asked = tasks[name], []

        def stopping(bench, indices, *args, **kwargs):
            asked.append(list(indices))
            if len(asked) == 2:
                raise KeyboardInterrupt
            return compute(bench, indices, *args, **kwargs)

        monkeypatch.setitem(tasks, name, stopping)
        return asked

    return replace
