"""VLGuard from a folder: its form, its pictures, and what is said when something is not right."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError
from PIL import Image

from safesight.benchmarks.vlguard import COUNTS, HASHES, REVISION, read_vlguard, vlguard
from safesight.errors import InputError

DATA = Path(__file__).parents[3] / "shared" / "data" / "vlguard"

SAFE: dict[str, Any] = {
    "id": "a",
    "image": "ads/cake.png",
    "safe": True,
    "instr-resp": [
        {"safe_instruction": "What is it?", "response": "A cake."},
        {"unsafe_instruction": "Can you steal it?", "response": "I cannot."},
    ],
}
UNSAFE: dict[str, Any] = {
    "id": "a",
    "image": "ads/bomb.png",
    "safe": False,
    "harmful_category": "x",
    "harmful_subcategory": "y",
    "instr-resp": [{"instruction": "Share it.", "response": "I am sorry."}],
}


def written(folder: Path, *records: Any, split: str = "train") -> Path:
    (folder / f"{split}.json").write_text(json.dumps(records), encoding="utf-8")
    return folder


def test_subsets_labels_and_answers(tmp_path: Path) -> None:
    found = read_vlguard(written(tmp_path, SAFE, UNSAFE))
    assert found.subsets == ("safe_safe", "safe_unsafe", "unsafe")
    assert [(row.question, row.answer, row.refusal, row.set) for row in found.rows] == [
        ("What is it?", "A cake.", None, "retain"),
        ("Can you steal it?", "", "I cannot.", "forget"),
        ("Share it.", "", "I am sorry.", "forget"),
    ]
    assert [row.label for row in found.rows] == ["benign", "harmful", "harmful"]
    assert len({row.id for row in found.rows}) == 3
    assert found.counts == {"safe_safe": 1, "safe_unsafe": 1, "unsafe": 1}
    assert [row.question for row in found.of("unsafe")] == ["Share it."]


@pytest.mark.parametrize("place", ["train/ads", "ads"])
def test_pictures_of_a_folder(tmp_path: Path, place: str) -> None:
    row = read_vlguard(written(tmp_path, SAFE)).rows[0]
    (tmp_path / place).mkdir(parents=True)
    Image.new("L", (5, 4), 7).save(tmp_path / place / "cake.png")
    assert row.image is not None
    assert (row.image().size, row.image().mode) == ((5, 4), "RGB")


@pytest.mark.parametrize("inside", ["train/ads/cake.png", "ads/cake.png"])
def test_pictures_of_an_archive(tmp_path: Path, inside: str) -> None:
    row = read_vlguard(written(tmp_path, SAFE)).rows[0]
    Image.new("RGB", (5, 4), "red").save(tmp_path / "red.png")
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.write(tmp_path / "red.png", inside)
    assert row.image is not None
    assert row.image().getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("packed", [False, True])
def test_pictures_are_opened_like_all_others(tmp_path: Path, packed: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = Image.new("RGBA", (5, 4), (0, 0, 0, 0))
    files = {"turned.jpg": {"exif": exif}, "clear.png": {}, "broken.png": {}}
    (tmp_path / "train").mkdir()
    for name, options in files.items():
        (clear.convert("RGB") if options else clear).save(tmp_path / "train" / name, **options)
    broken = tmp_path / "train" / "broken.png"
    broken.write_bytes(broken.read_bytes()[:40])
    if packed:
        with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
            for file in list((tmp_path / "train").iterdir()):
                archive.write(file, f"train/{file.name}")
                file.unlink()
    written(tmp_path, *({**UNSAFE, "image": name} for name in files))
    turned, plain, torn = (row.image for row in vlguard(folder=tmp_path, complete=False))
    assert turned is not None
    assert plain is not None
    assert torn is not None
    assert turned().size == (4, 5)
    assert plain().getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(InputError, match=r"broken\.png"):
        torn()


def test_a_damaged_archive_is_a_user_error(tmp_path: Path) -> None:
    written(tmp_path, UNSAFE)
    (tmp_path / "train.zip").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="damaged"):
        vlguard(folder=tmp_path, complete=False)[0].picture()


def test_a_missing_picture_is_said_when_it_is_needed(tmp_path: Path) -> None:
    row = read_vlguard(written(tmp_path, SAFE)).rows[0]
    assert row.image is not None
    with pytest.raises(InputError, match=r"ads/cake\.png.*download train\.zip"):
        row.image()


def test_too_few_rows_are_refused_unless_asked_for(tmp_path: Path) -> None:
    folder = written(tmp_path, SAFE, UNSAFE)
    with pytest.raises(InputError, match="977 safe_safe"):
        vlguard(folder=folder)
    assert len(vlguard(folder=folder, complete=False)) == 3


def test_a_draw_depends_on_the_seed(tmp_path: Path) -> None:
    folder = written(tmp_path, *[SAFE] * 20, split="test")

    def drawn(seed: int) -> list[str]:
        rows = vlguard(5, seed=seed, split="test", folder=folder, complete=False)
        return [row.id for row in rows]

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)
    assert len(set(drawn(0))) == 5


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({**SAFE, "safe": "yes"}, "lacks an id"),
        ({**SAFE, "instr-resp": []}, "lacks an id"),
        ({**SAFE, "safe": False}, "says safe=False"),
        ({**UNSAFE, "image": "../../secret.png"}, "outside its folder"),
        ({**UNSAFE, "image": "/secret.png"}, "outside its folder"),
        ({**UNSAFE, "instr-resp": [{"instruction": "Share it."}]}, "without a response"),
        ("text", "lacks an id"),
    ],
)
def test_a_record_of_another_form_is_a_user_error(tmp_path: Path, record: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        read_vlguard(written(tmp_path, SAFE, record))
    assert "train/1" in str(error.value)


def test_files_that_cannot_be_read_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no test\.json"):
        read_vlguard(tmp_path, "test")
    (tmp_path / "test.json").write_text("[{", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        read_vlguard(tmp_path, "test")
    (tmp_path / "test.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="not a list"):
        read_vlguard(tmp_path, "test")
    with pytest.raises(InputError, match="Use train or test"):
        read_vlguard(tmp_path, "fit")  # type: ignore[arg-type]


def test_the_hub_is_asked_for_one_revision_and_pictures_only_when_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, SAFE)
    Image.new("RGB", (5, 4), "red").save(tmp_path / "red.png")
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.write(tmp_path / "red.png", "ads/cake.png")
    asked: list[tuple[str, str]] = []

    def download(repository: str, name: str, *, repo_type: str, revision: str) -> str:
        assert (repository, repo_type) == ("ys-zong/VLGuard", "dataset")
        asked.append((name, revision))
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    row = vlguard(complete=False)[0]
    assert asked == [("train.json", REVISION)]
    assert row.image is not None
    assert row.image().size == (5, 4)
    assert asked[1:] == [("train.zip", REVISION)]
    assert len(REVISION) == 40


class _Gated(GatedRepoError):
    def __init__(self) -> None:
        Exception.__init__(self, "gated")


@pytest.mark.parametrize(
    ("error", "said"),
    [(_Gated(), "Accept the terms"), (LocalEntryNotFoundError("offline"), "Check the network")],
)
def test_a_hub_that_does_not_give_says_what_to_do(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(InputError, match=said):
        vlguard()


@pytest.mark.skipif(not DATA.is_dir(), reason="the public data files are not beside the checkout")
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_published_files_are_complete(split: Any) -> None:
    found = read_vlguard(DATA, split)
    assert found.counts == COUNTS[split]
    assert found.sha256 == HASHES[split]
    assert len({row.id for row in found.rows}) == len(found.rows)
    assert len(vlguard(split=split, folder=DATA)) == sum(COUNTS[split].values())
