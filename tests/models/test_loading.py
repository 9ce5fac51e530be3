from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers as hf
from accelerate import cpu_offload
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from safesight.errors import MissingExtraError, ModelError
from safesight.models import VLM, loading, quantized
from safesight.models.families import UNSUPPORTED, family_of
from tests import tiny, zoo


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    return tiny.save("llava", tmp_path_factory.mktemp("llava"))


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def refusal(name, **kwargs) -> str:
    """The message of the ModelError; one paragraph without a traceback in it."""
    with pytest.raises(ModelError) as caught:
        VLM.load(str(name), **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_missing_folder(tmp_path):
    assert "There is no folder" in refusal(tmp_path / "nowhere")
    assert "There is no folder" in refusal("./nowhere")
    assert "Pass the folder" in refusal(__file__)


def test_a_hub_model_without_network():
    message = refusal("some-organisation/some-model")
    assert "neither a folder nor a model that can be downloaded" in message


def test_torn_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "cannot be read" in (message := refusal(folder))
    assert "download it again" in message
    weights.write_bytes(b"")
    assert "cannot be read" in refusal(folder)


def test_pickled_weights_are_never_opened(folder):
    (folder / "model.safetensors").unlink()
    assert "holds no weights" in refusal(folder)

    class Trap:
        def __reduce__(self):
            return pytest.fail, ("a pickle was opened",)

    torch.save(Trap(), folder / "pytorch_model.bin")
    assert "only pickled weights (pytorch_model.bin)" in refusal(folder)


def test_pickled_weights_beside_a_stray_safetensors_file_are_never_opened(folder):
    (folder / "model.safetensors").rename(folder / "adapter.safetensors")
    torch.save(tiny.build("llava")[0].state_dict(), folder / "pytorch_model.bin")
    assert "The weights of" in refusal(folder)


def test_incomplete_weights(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    head = next(name for name in tensors if name.endswith("lm_head.weight"))
    tensors.pop(head)
    save_file(tensors, path, {"format": "pt"})
    assert "lack 1 of the model's tensors, including 'lm_head.weight'" in refusal(folder)


def test_a_missing_shard(folder):
    shutil.rmtree(folder)
    model, processor = tiny.build("llava")
    model.save_pretrained(folder, max_shard_size="50KB")
    processor.save_pretrained(folder)
    assert VLM.load(str(folder)).identity == tiny.vlm("llava").identity
    min(folder.glob("model-*.safetensors")).unlink()
    assert "cannot be used" in refusal(folder)


def test_weights_of_another_shape(folder):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 72
    (folder / "config.json").write_text(json.dumps(config))
    assert "weights" in refusal(folder)


def test_a_text_only_model(tmp_path):
    words = tiny.tokenizer()
    config = hf.LlamaConfig(**tiny.text_config(words))
    hf.LlamaForCausalLM(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    assert "(model type 'llama') takes no pictures" in refusal(tmp_path)


def test_a_text_only_model_that_brings_its_own_code_needs_trust(tmp_path):
    words = tiny.tokenizer()
    config = hf.LlamaConfig(**tiny.text_config(words))
    hf.LlamaForCausalLM(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    edit_json(tmp_path / "config.json", auto_map={"AutoModelForImageTextToText": "code.Model"})
    assert "takes no pictures" in refusal(tmp_path)
    # Trusted, it gets past that check, and fails for want of the rest.
    assert "takes no pictures" not in refusal(tmp_path, trust_remote_code=True)


def test_remote_code_is_not_run_unless_asked(folder):
    (folder / "code.py").write_text("raise SystemExit('remote code was run')")
    edit_json(
        folder / "config.json",
        model_type="homemade",
        auto_map={"AutoConfig": "code.Config", "AutoModelForImageTextToText": "code.Model"},
    )
    assert "trust_remote_code=True if you trust it" in refusal(folder)


def test_a_model_without_chat_template(folder):
    (folder / "chat_template.jinja").unlink()
    assert "no chat template" in refusal(folder)


def test_a_config_that_is_not_json(folder):
    (folder / "config.json").write_text("{")
    assert "The config of" in refusal(folder)


def test_a_folder_without_processor(folder):
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    assert "The processor of" in refusal(folder)


def test_options_that_do_not_exist(saved):
    assert "no weight type 'int3'" in refusal(saved, dtype="int3")
    assert "no weight type 'cuda'" in refusal(saved, dtype="cuda")
    assert "no device 'warp'" in refusal(saved, device="warp")
    if not torch.cuda.is_available():
        assert "no GPU" in refusal(saved, device="cuda:1")


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, "auto", None])
def test_weight_types(folder, dtype):
    model, processor = tiny.fresh("llava")
    model.bfloat16().save_pretrained(folder)
    processor.save_pretrained(folder)
    # A CPU computes in float32 unless asked otherwise, whatever the checkpoint holds.
    expected = torch.float32 if dtype is None else torch.bfloat16
    assert VLM.load(str(folder), device="cpu", dtype=dtype).dtype == expected


def test_loading_and_asking_say_nothing(saved, capfd):
    level = hf.utils.logging.get_verbosity()
    vlm = VLM.load(str(saved))
    vlm.answer([tiny.ask("hi"), tiny.ask("and this?", tiny.picture(0))], max_new_tokens=2)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert hf.utils.logging.get_verbosity() == level
    assert hf.utils.logging.is_progress_bar_enabled()


def test_the_bundled_model_loads_by_name_and_with_plain_transformers():
    from safesight.testbed import WEIGHTS

    vlm = VLM.load()
    assert vlm.name == "testbed"
    plain = hf.LlavaForConditionalGeneration.from_pretrained(WEIGHTS)
    assert type(vlm.model) is type(plain)
    assert (
        VLM.wrap(plain.float(), hf.AutoProcessor.from_pretrained(WEIGHTS)).identity == vlm.identity
    )


def test_models_that_transformers_itself_cannot_load_without_torchvision_load(tmp_path):
    for family in ("qwen2_5_vl", "mistral3"):
        folder = tiny.save(family, tmp_path / family)
        assert VLM.load(str(folder)).family.name == family


def test_a_device_map_spreads_and_offloads(saved, tmp_path):
    places = {
        "model.vision_tower": "disk",
        "model.multi_modal_projector": "cpu",
        "model.language_model": "cpu",
        "lm_head": "disk",
    }
    vlm = VLM.load(str(saved), device_map=places, offload_folder=str(tmp_path))
    plain = VLM.load(str(saved), device="cpu")
    assert sum(parameter.is_meta for parameter in vlm.model.parameters()) > 10
    assert vlm.device.type == "cpu"
    assert vlm.identity == plain.identity
    question = [tiny.ask("hi", tiny.picture())]
    assert vlm.answer(question, max_new_tokens=4) == plain.answer(question, max_new_tokens=4)
    assert VLM.load(str(saved), device_map="auto").identity == plain.identity


def test_attention_and_more_go_to_transformers(saved):
    vlm = VLM.load(str(saved), attn_implementation="eager", local_files_only=True)
    assert vlm.model.config._attn_implementation == "eager"
    assert "cannot be used" in refusal(saved, no_such_option=1)


def test_every_file_is_fetched_with_the_same_token_and_revision(saved, tmp_path, monkeypatch):
    seen = {}
    cache = tmp_path / "models--org--model"  # as the hub's own cache would hold it
    shutil.copytree(saved, cache / "snapshots/abc")
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text("abc")

    def watched(of):
        plain = of.from_pretrained

        def from_pretrained(place, **given):
            seen.setdefault(of.__name__, given)  # transformers calls some again itself
            return plain(place, **given)

        monkeypatch.setattr(of, "from_pretrained", from_pretrained)

    for of in (hf.AutoConfig, hf.AutoProcessor, hf.AutoModelForImageTextToText):
        watched(of)
    common = {"token": "secret", "revision": "main", "cache_dir": str(tmp_path)}
    VLM.load("org/model", **common, local_files_only=True, max_memory=None)
    assert len(seen) == 3
    for given in seen.values():
        assert common.items() <= given.items()
    model = seen.pop("AutoModelForImageTextToText")
    assert model["use_safetensors"] is True
    assert "max_memory" in model
    assert not any("max_memory" in given for given in seen.values())


def test_options_that_do_not_go_together(saved):
    assert "Give one of them" in refusal(saved, device="cpu", device_map="auto")
    assert "sets use_safetensors itself" in refusal(saved, use_safetensors=False)
    assert "no quantization 'int3'" in refusal(saved, quantization_config="int3")


def test_a_peft_adapter_is_not_a_model(tmp_path):
    model, _ = tiny.fresh("llava")
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path)
    assert "holds a PEFT adapter" in refusal(tmp_path)


def test_a_model_whose_weights_have_no_value_has_no_identity():
    model, processor = tiny.fresh("llava")
    vlm = VLM.wrap(model.to("meta"), processor)
    with pytest.raises(ModelError, match="has no value"):
        _ = vlm.identity


def test_a_shared_weight_counts_once_wherever_it_is(tmp_path):
    model, processor = tiny.fresh("gemma3")
    assert model.lm_head.weight is model.get_input_embeddings().weight
    plain = VLM.wrap(model, processor).identity
    assert VLM.wrap(cpu_offload(model, execution_device="cpu"), processor).identity == plain


@pytest.mark.parametrize("kind", zoo.NEED_TORCHVISION)
def test_a_model_that_needs_torchvision_says_so(kind, folder, monkeypatch):
    monkeypatch.setattr(loading, "is_torchvision_available", lambda: False)
    CONFIG_MAPPING[kind]().save_pretrained(folder)
    with pytest.raises(MissingExtraError, match=r"needs torchvision.*safesight\[vision\]"):
        VLM.load(str(folder))


@pytest.mark.parametrize("package", ["timm", "librosa"])
def test_a_package_that_transformers_misses_is_named(package, folder, monkeypatch):
    """However long the message is, and wherever in it the package comes."""

    def fail(*_, **__):
        raise ImportError(
            f"\n{'X' * 300}Model requires the {package} library but it was not found in your "
            "environment. You can install it with pip."
        )

    monkeypatch.setattr(loading.AutoProcessor, "from_pretrained", fail)
    assert f"needs the package {package}, which is not installed" in refusal(folder)


def test_an_omni_model_is_loaded_without_the_part_that_speaks(tmp_path):
    """Its config names no picture task; its thinker's does, and transformers loads that part."""
    model, processor = tiny.build("qwen3_omni_moe_thinker")
    processor.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    config = hf.Qwen3OmniMoeConfig(thinker_config=model.config.to_dict())
    config.save_pretrained(tmp_path)
    loaded = VLM.load(str(tmp_path))
    assert loaded.family.name == "qwen3_omni_moe_thinker"
    row = [tiny.ask("hi", tiny.picture())]
    assert loaded.answer(row, max_new_tokens=3) == VLM.wrap(model, processor).answer(
        row, max_new_tokens=3
    )


def test_a_model_that_sees_but_is_not_listed_is_not_said_to_take_no_pictures(folder):
    hf.Phi4MultimodalConfig().save_pretrained(folder)
    message = refusal(folder)
    assert "takes pictures, but transformers does not list it" in message
    hf.Qwen2AudioConfig().save_pretrained(folder)
    assert "takes no pictures" in refusal(folder)


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_architectures_that_cannot_be_used_are_refused_with_the_reason(kind):
    model = SimpleNamespace(config=SimpleNamespace(model_type=kind))
    with pytest.raises(ModelError, match=f"{kind}.*cannot be used: it"):
        family_of(model)


@pytest.mark.parametrize("first", ["transformers", "safesight.models.no_torchvision"])
def test_processors_load_whoever_imports_transformers_first(first):
    """One of its modules puts a second copy of transformers in its place."""
    code = f"import {first}\nfrom tests import tiny\ntiny.fresh('qwen3_vl')"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


def test_a_build_of_kernels_that_was_killed_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "library/extensions/cpp/build"
    folder.mkdir(parents=True)
    found = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(quantized, "find_spec", lambda name: found)
    assert quantized.quantization_config("int4")
    (folder / "lock").touch()
    assert quantized.quantization_config("int4"), "somebody is building"
    os.utime(folder / "lock", (0, 0))
    with pytest.raises(ModelError, match=r"remove .*lock"):
        quantized.quantization_config("int4")
