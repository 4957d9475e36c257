"""Flow on disk and as images."""

import cv2
import numpy as np
import pytest
import torch

from utils.flow import FlowEncoding, color_flow, draw_arrows, read_flo, read_kitti, write_flo, write_kitti


@pytest.fixture
def flow():
    values = np.random.default_rng(0).normal(0, 5, (2, 6, 9)).astype(np.float32)
    values[:, 2, 3] = np.nan
    return values


def test_flo_files_keep_every_bit_and_the_unknown(tmp_path, flow):
    write_flo(tmp_path / "a.flo", flow)
    assert np.array_equal(read_flo(tmp_path / "a.flo"), flow, equal_nan=True)


def test_flo_files_are_those_of_opencv(tmp_path, flow):
    write_flo(tmp_path / "a.flo", flow)
    values = cv2.readOpticalFlow(str(tmp_path / "a.flo")).transpose(2, 0, 1)
    known = np.isfinite(flow)
    assert (values[known] == flow[known]).all()


def test_a_published_flo_file_is_read(shared_media):
    flow = read_flo(shared_media / "rubberwhale_gt.flo")
    assert flow.shape == (2, 388, 584)
    assert 0.9 < np.isfinite(flow).mean() < 1
    assert np.nanmax(np.abs(flow)) < 10


def test_kitti_files_keep_a_64th_of_a_pixel_and_the_unknown(tmp_path, flow):
    write_kitti(tmp_path / "a.png", flow)
    back = read_kitti(tmp_path / "a.png")
    assert np.array_equal(np.isnan(back), np.isnan(flow))
    assert np.nanmax(np.abs(back - flow)) <= 1 / 128
    values = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert values.dtype == np.uint16
    assert values[0, 0, 2] == round(float(flow[0, 0, 0]) * 64) + 2**15, "red holds x"


def test_damaged_files_are_named(tmp_path, flow):
    write_flo(tmp_path / "a.flo", flow)
    (tmp_path / "short.flo").write_bytes((tmp_path / "a.flo").read_bytes()[:-5])
    (tmp_path / "text.flo").write_text("hello there, no flow")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match="short.flo has 439 bytes"):
        read_flo(tmp_path / "short.flo")
    with pytest.raises(ValueError, match="is no .flo file"):
        read_flo(tmp_path / "text.flo")
    with pytest.raises(ValueError, match="is no KITTI flow"):
        read_kitti(tmp_path / "text.png")
    (tmp_path / "header.flo").write_bytes(b"PIEH")
    with pytest.raises(ValueError, match="header.flo is cut short: it has 4 bytes"):
        read_flo(tmp_path / "header.flo")
    (tmp_path / "empty.png").touch()
    cv2.imwrite(str(tmp_path / "four.png"), np.zeros((4, 4, 4), np.uint16))
    for name in ("empty", "four"):
        with pytest.raises(ValueError, match=f"{name}.png is no KITTI flow"):
            read_kitti(tmp_path / f"{name}.png")
    with pytest.raises(FileNotFoundError, match="no flow file"):
        read_flo(tmp_path / "none.flo")
    with pytest.raises(ValueError, match="hold up to 512 px"):
        write_kitti(tmp_path / "b.png", np.full((2, 2, 2), 600.0))


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_a_flow_image_is_read_back(power):
    picture = FlowEncoding(max_flow=16, power=power)
    flow = torch.randn(3, 2, 8, 8) * 4
    encoded = picture.encode(flow)
    assert encoded.shape == (3, 3, 8, 8)
    assert encoded.abs().max() <= 1
    torch.testing.assert_close(picture.decode(encoded), flow.clamp(-16, 16), atol=1e-4, rtol=1e-5)


def test_standing_is_gray_and_fast_motion_is_clipped():
    picture = FlowEncoding(max_flow=4)
    assert picture.encode(torch.zeros(2, 1, 1)).flatten().tolist() == [0, 0, 0]
    assert picture.decode(picture.encode(torch.full((2, 1, 1), 9.0))).flatten().tolist() == [4, 4]
    with pytest.raises(ValueError, match="max_flow=0"):
        FlowEncoding(max_flow=0)


def test_colours_are_middleburys():
    def color(x, y):
        return color_flow(np.full((2, 1, 1), [[[x]], [[y]]], np.float32), max_flow=1)[0, 0].tolist()

    assert color(0, 0) == [255, 255, 255]
    assert color(1, 0) == [255, 0, 0]
    assert color(-1, 0)[0] == 0
    assert color(0.5, 0) == [255, 128, 128]
    assert color(float("nan"), 0) == [0, 0, 0]
    down, up = color(0, 1), color(0, -1)
    assert down[0] > 200 and down[1] > 200 and down[2] < 60, "down is yellow"
    assert up[2] > 200, "up is blue to purple"


def test_arrows_are_drawn_where_something_moves():
    image = np.zeros((32, 32, 3), np.uint8)
    flow = np.zeros((2, 32, 32))
    flow[0, :, 16:] = 6
    drawn = draw_arrows(image, flow)
    assert (image == 0).all()
    assert drawn[:, 26:].any()
    assert not drawn[:, :7].any()
