"""Options of loading that mean nothing are refused by themselves, not as faults of the weights."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from safesight import VLM, registry
from safesight.errors import ModelError, SafesightError
from safesight.models import placement
from safesight.models.loading import public_name
from tests.cli.test_main import fails, run


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: Any, **__: Any) -> Any:
        raise AssertionError("weights were read")

    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", no)


MAPS = [
    ({"": "cuda:9"}, "no GPU" if not torch.cuda.is_available() else "no device 'cuda:9'"),
    ({}, "does not map names of modules"),
    ({5: "cpu"}, "does not map names of modules"),
    ("moon", "no device 'moon'"),
    ("sideways", "no device 'sideways'"),
    ("disk", "no device 'disk'"),
    ("meta", "holds no weights"),
    ([1], "neither a name nor a mapping"),
    (1.5, "neither a name nor a mapping"),
    ({"": None}, "no device None"),
    ({"": -1}, "no device -1"),
    ({"": True}, "no device True"),
    ({"": "meta"}, "holds no weights"),
    ({"nosuch": "cpu", "": "cpu"}, "names 'nosuch', which is no module"),
    ({"model.language_model": "cpu", "lm_head": "cpu"}, "not where they go"),
]


@pytest.mark.parametrize(("places", "says"), MAPS)
@pytest.mark.usefixtures("no_weights")
def test_device_maps_that_cannot_be(places: Any, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        VLM.load("testbed", device_map=places)


@pytest.mark.parametrize("text", ["null", "[1]", "{}", '{"": "cuda:9"}', "moon", '{"": null}', "5"])
@pytest.mark.usefixtures("no_weights")
def test_device_maps_of_the_command_line_that_cannot_be(text: str) -> None:
    fails(run("check", "testbed", "--device-map", text), "device")


@pytest.mark.parametrize(
    "places", ["cpu", "auto", {"": "cpu"}, {"model": "cpu", "lm_head": "cpu"}, torch.device("cpu")]
)
def test_device_maps_that_can_be(places: Any) -> None:
    assert VLM.load("testbed", device_map=places).device.type == "cpu"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attn_implementation": "foo"}, "no attention called 'foo'"),
        ({"attn_implementation": ""}, "no attention called ''"),
        ({"attn_implementation": "spda"}, "Did you mean 'sdpa'"),
        ({"attn_implementation": "paged|eager"}, "no attention called"),
        ({"attn_implementation": "flash_attention_3"}, "needs the package flash_attn_interface"),
        ({"attn_implementation": "org/kernel"}, "needs the package kernels"),
        ({"dtype": "int8"}, "no weight type 'int8'"),
        ({"dtype": "float8_e4m3fn"}, "no weight type"),
        ({"dtype": torch.int8}, "no weight type"),
        ({"dtype": "__class__"}, "no weight type"),
        ({"device": "meta"}, "holds no weights"),
        ({"device": "moon"}, "no device 'moon'"),
        ({"device": "xla"}, "no device 'xla'"),
        ({"revision": "main"}, "has no revision 'main'"),
    ],
)
@pytest.mark.usefixtures("no_weights")
def test_other_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(SafesightError, match=says):
        VLM.load("testbed", **options)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tetsbed", "Did you mean 'testbed'"),
        ("nosuch", "written organization/name"),
        ("", "names no model"),
        (" ", "names no model"),
        ("a\0b", "names no model"),
        ("~nosuchuser/x", "no folder '~nosuchuser/x'"),
        ("x" * 5000, "no such folder"),
        ("x/" * 3000, "no folder"),
    ],
)
def test_names_that_are_no_model_are_refused_without_the_hub(
    name: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(*_: Any) -> Any:
        raise AssertionError("asked the hub")

    monkeypatch.setattr(socket, "getaddrinfo", no)
    with pytest.raises(ModelError, match=says) as caught:
        VLM.load(name)
    assert len(str(caught.value)) < 300
    assert public_name(name) == name


def test_a_bundled_model_behind_a_link_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(registry.load("model", "testbed"))
    assert public_name(str(tmp_path / "link")) == "testbed"


def test_a_map_is_read_from_json() -> None:
    result = run("check", "testbed", "--device-map", json.dumps({"": "cpu"}), "--json")
    assert json.loads(result.stdout)["ok"] is True


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Those that became the current one, on a machine that seems to have two."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(placement, "_usable", str)
    return chosen


def several(monkeypatch: pytest.MonkeyPatch, rank: int, count: int) -> None:
    """As `torchrun` starts one of several processes on this machine."""
    for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", count)):
        monkeypatch.setenv(name, str(value))


def test_each_process_has_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch, two_gpus: list[int]
) -> None:
    assert placement.device_of(None) == placement.device_of("cuda") == "cuda"
    several(monkeypatch, 1, 2)
    assert placement.device_of(None) == placement.device_of("cuda") == "cuda:1"
    assert two_gpus == [1, 1]
    assert [placement.device_of(name) for name in ("cpu", "cuda:0")] == ["cpu", "cuda:0"]
    several(monkeypatch, 0, 3)
    with pytest.raises(ModelError, match="3 processes on this machine and 2 GPUs"):
        placement.device_of(None)


@pytest.mark.usefixtures("no_weights")
def test_processes_that_share_a_machine_take_no_device_map(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    several(monkeypatch, 0, 2)
    with pytest.raises(ModelError, match="A device map gives one model several devices, and 2"):
        VLM.load("testbed", device_map="auto")
