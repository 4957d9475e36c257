"""PascalVOC: images of any suffix, and captions of whatever their annotations hold."""

import numpy as np
import pytest
from PIL import Image

from utils.data.plurals import plural
from utils.data.records import read_records
from utils.depth import write_disparity

BUS = "<object><name>bus</name></object>"


@pytest.fixture
def voc(tmp_path):
    for name in ("JPEGImages", "Annotations", "Depth"):
        (tmp_path / name).mkdir()
    return tmp_path


def add_image(voc, name, annotation=None, encoding="utf-8"):
    Image.new("RGB", (4, 3)).save(voc / "JPEGImages" / name, format="JPEG")
    if annotation is not None:
        path = voc / "Annotations" / f"{name.partition('.')[0]}.xml"
        path.write_bytes(annotation.encode(encoding))


def caption_of(voc, annotation, encoding="utf-8"):
    add_image(voc, "a.jpg", annotation, encoding)
    return read_records(voc)[0].caption


def test_images_of_any_suffix_are_listed_in_natural_order_and_leftovers_are_not(voc):
    for name in ("img_10.JPG", "img_2.jpeg", "img_1.jpg", "img_3.Jpg"):
        add_image(voc, name)
    for name in ("._img_1.jpg", ".DS_Store", "Thumbs.db", "img_1.jpg~"):
        (voc / "JPEGImages" / name).write_bytes(b"no image")
    write_disparity(voc / "Depth" / "img_2.PNG", np.zeros((3, 4)))
    (voc / "Depth" / "._img_1.png").write_bytes(b"no image")
    records = read_records(voc)
    assert [record.image.name for record in records] == ["img_1.jpg", "img_2.jpeg", "img_3.Jpg", "img_10.JPG"]
    assert [record.depth and record.depth.name for record in records] == [None, "img_2.PNG", None, None]


@pytest.mark.parametrize(
    ("objects", "caption"),
    [
        (BUS * 2, "a photo of 2 buses"),
        ("<object><name>sheep</name></object>" * 3 + BUS, "a photo of 3 sheep and bus"),
        (f"<object><pose>Left</pose></object>{BUS}", "a photo of bus"),
        ("<object/>", ""),
        ("<object><name/></object>", ""),
        ("<object><name> \n</name></object>", ""),
        ("<object><name> bus\n</name></object>", "a photo of bus"),
        (f"<object><part><name>wheel</name></part><name>bus</name></object>{BUS}", "a photo of 2 buses"),
        ("", ""),
    ],
)
def test_a_caption_names_the_objects_that_have_names(voc, objects, caption):
    assert caption_of(voc, f"<annotation>{objects}</annotation>") == caption


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_annotations_are_read_in_the_encodings_of_all_text(voc, encoding):
    assert caption_of(voc, "<annotation><object><name>Käfer</name></object></annotation>", encoding)[11:] == "Käfer"


def test_annotations_are_read_in_the_encoding_that_they_declare(voc):
    for encoding in ("gb2312", "shift_jis", "utf-16-le", "iso-8859-5", "nonsense"):
        name = "car" if encoding == "nonsense" else "犬" if encoding == "shift_jis" else "Жук"
        said = "utf-16" if encoding == "utf-16-le" else encoding
        text = f'<?xml version="1.0" encoding="{said}"?><annotation><object><name>{name}</name></object></annotation>'
        assert caption_of(voc, text, "utf-8" if encoding == "nonsense" else encoding)[11:] == name, encoding


def test_namespaces_lines_within_names_and_suffixes_of_annotations_in_capitals_are_read(voc):
    objects = "<object><name>wine\n  glass</name></object>"
    assert caption_of(voc, f'<annotation xmlns="urn:voc">{objects}</annotation>') == "a photo of wine glass"
    (voc / "Annotations" / "a.xml").rename(voc / "Annotations" / "a.XML")
    assert read_records(voc)[0].caption == "a photo of wine glass"


@pytest.mark.parametrize("text", ["", "no XML", "<annotation><object>", "<a></b>", "<annotation>&x;</annotation>"])
def test_a_broken_annotation_is_named_in_one_sentence(voc, text):
    with pytest.raises(ValueError, match=r"Annotations/a\.xml is not XML .*; repair or remove it") as caught:
        caption_of(voc, text)
    assert "\n" not in str(caught.value)


def test_two_images_that_would_share_a_depth_image_are_refused(voc):
    for name in ("a.jpg", "a.JPG"):
        add_image(voc, name)
    assert len(read_records(voc)) == 2
    write_disparity(voc / "Depth" / "a.png", np.zeros((3, 4)))
    with pytest.raises(ValueError, match="2 images of .* would share .*a.png"):
        read_records(voc)


@pytest.mark.parametrize(
    ("name", "many"),
    [
        ("aeroplane", "aeroplanes"),
        ("bus", "buses"),
        ("couch", "couches"),
        ("brush", "brushes"),
        ("box", "boxes"),
        ("person", "persons"),
        ("sheep", "sheep"),
        ("scissors", "scissors"),
        ("tvmonitor", "tvmonitors"),
        ("baby", "babies"),
        ("monkey", "monkeys"),
        ("mouse", "mice"),
        ("knife", "knives"),
        ("giraffe", "giraffes"),
        ("fireman", "firemen"),
        ("human", "humans"),
        ("potato", "potatoes"),
        ("sofa", "sofas"),
        ("wine glass", "wine glasses"),
        ("Bus", "Buses"),
        ("child", "children"),
    ],
)
def test_plurals_are_english(name, many):
    assert plural(name) == many
