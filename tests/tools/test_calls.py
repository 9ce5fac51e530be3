"""Tools and calls: what comes back, and what goes wrong as text for the model."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from safesight.errors import MissingExtraError
from safesight.testbed.tools import TOOLS as TAUGHT
from safesight.testbed.tools import zoom_call
from safesight.tools import ToolError, ToolSetup, call_text, has_call, run_call, setup_for
from safesight.tools.ocr import check_ocr, read_text
from safesight.tools.rotate import rotate
from safesight.tools.zoom import MIN_SIDE, zoom
from tests import tiny

PICTURE = tiny.picture(0, 80, 60)


def test_zoom_shows_the_region_it_was_asked_for() -> None:
    quarters = np.zeros((60, 80, 3), np.uint8)
    quarters[30:, 40:] = 255
    white = zoom(Image.fromarray(quarters), [500, 500, 1000, 1000], "thousandths")
    assert white.size == (80, 60)
    assert np.asarray(white).min() == 255
    black = zoom(Image.fromarray(quarters), [0, 0, 40, 30], "pixels")
    assert np.asarray(black).max() == 0


def test_a_small_box_grows_around_its_centre_and_stays_inside() -> None:
    dots = np.zeros((60, 80, 3), np.uint8)
    dots[30, 40] = 255
    seen = zoom(Image.fromarray(dots), [500, 500, 510, 520], "thousandths")
    assert np.asarray(seen).max() > 100
    corner = zoom(PICTURE, [990, 990, 1000, 1000], "thousandths")
    expected = PICTURE.crop((80 - MIN_SIDE, 60 - MIN_SIDE, 80, 60))
    assert np.array_equal(
        np.asarray(corner), np.asarray(expected.resize(corner.size, Image.Resampling.BICUBIC))
    )


@pytest.mark.parametrize(
    "box",
    [[0, 0, 1], "0,0,1,1", [1, 1, 1, 1], [900, 0, 100, 1000], [0, 0, None, 1], [0, 0, 1e999, 1]],
)
def test_boxes_that_are_none(box: object) -> None:
    with pytest.raises(ToolError, match="bbox_2d"):
        zoom(PICTURE, box, "thousandths")  # type: ignore[arg-type]


def test_rotate_turns_clockwise() -> None:
    corner = np.zeros((40, 40, 3), np.uint8)
    corner[:20, :20] = 255
    turned = np.asarray(rotate(Image.fromarray(corner), 90))
    assert turned[5, 35].min() == 255
    assert turned[5, 5].max() == 0
    with pytest.raises(ToolError, match="angle"):
        rotate(PICTURE, "a lot")


def test_a_call_is_run_and_its_result_is_a_picture() -> None:
    text = "let me see. " + call_text("image_zoom_in_tool", {"bbox_2d": [0, 0, 500, 500]})
    assert has_call(text)
    result = run_call(text, [PICTURE], ["zoom"], "thousandths")
    assert isinstance(result, Image.Image)
    assert result.tobytes() == zoom(PICTURE, [0, 0, 500, 500], "thousandths").tobytes()


def test_the_index_names_the_picture() -> None:
    other = tiny.picture(9, 80, 60)
    arguments = {"bbox_2d": [0, 0, 1000, 1000], "img_idx": 1}
    result = run_call(
        call_text("image_zoom_in_tool", arguments), [PICTURE, other], ["zoom"], "pixels"
    )
    assert isinstance(result, Image.Image)
    assert result.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<tool_call>not json</tool_call>", "could not be read"),
        ("<tool_call>[1]</tool_call>", "could not be read"),
        ('<tool_call>{"name": "image_zoom_in_tool", "arguments": 3}', "could not be read"),
        (call_text("rm", {}), "no tool called rm"),
        ('<tool_call>{"name": ["image_zoom_in_tool"], "arguments": {}}', "no tool called ["),
        (call_text("image_zoom_in_tool", {"bbox_2d": [0, 0, 9, 10**400]}), "Error: "),
        (call_text("image_rotate_tool", {"angle": 3}), "no tool called image_rotate_tool"),
        (call_text("image_zoom_in_tool", {}), "bbox_2d is missing"),
        (call_text("image_zoom_in_tool", {"bbox_2d": [0, 0, 9, 9], "img_idx": 7}), "img_idx"),
        (call_text("image_zoom_in_tool", {"bbox_2d": [0, 0, 9, 9], "img_idx": "0"}), "img_idx"),
    ],
)
def test_errors_are_text_for_the_model(text: str, says: str) -> None:
    result = run_call(text, [PICTURE], ["zoom"], "thousandths")
    assert isinstance(result, str)
    assert result.startswith("Error: ")
    assert says in result


def test_the_bundled_model_is_offered_what_it_was_taught() -> None:
    template = "{% if tools %}<tools>{% endif %}<tool_response>"
    setup = setup_for("plain", "thousandths", template)
    assert setup.format == "template"
    assert setup.schemas == TAUGHT
    assert setup.scripted_call(PICTURE) == zoom_call((250, 250, 750, 750))


def test_families_count_boxes_in_their_own_way() -> None:
    setup = setup_for("nous", "pixels", "{{ messages }}")
    call = json.loads(setup.scripted_call(PICTURE).split("\n")[1])
    assert call["arguments"]["bbox_2d"] == [20, 15, 60, 45]
    assert call["arguments"]["img_idx"] == 0
    one = setup.run(setup.scripted_call(PICTURE), [PICTURE])
    two = ToolSetup("plain").run(ToolSetup("plain").scripted_call(PICTURE), [PICTURE])
    assert isinstance(one, Image.Image)
    assert isinstance(two, Image.Image)
    assert one.tobytes() == two.tobytes()


def test_ocr_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safesight.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"safesight\[ocr\]"):
        check_ocr()


def test_ocr_reads() -> None:
    page = Image.new("RGB", (400, 120), "white")
    font = ImageFont.load_default(size=48)
    ImageDraw.Draw(page).text((20, 30), "hello world", fill="black", font=font)
    assert read_text(page).lower() == "hello world"
    assert "no text" in read_text(Image.new("RGB", (96, 96), "white"))
    assert "rapidocr" in sys.modules
