"""Sealing, verifying, finding and rotating checkpoint folders: plain files, no training."""

import json
import os

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.training.checkpoints import (
    MANIFEST,
    STAGING,
    clean_staging,
    newest_complete,
    publish,
    rotate,
    seal,
    verify,
)


def checkpoint(run, step, *, sealed=True):
    """A folder as a trainer leaves it, with a file in a folder of its own, as DeepSpeed writes them."""
    folder = run / f"checkpoint-{step}"
    (folder / "global").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(200)))
    (folder / "optimizer.pt").write_bytes(b"optimizer" * 20)
    (folder / "global" / "shard.pt").write_bytes(b"shard")
    if sealed:
        seal(folder, step=step)
    return folder


def test_manifest_names_every_file_with_size_and_hash(tmp_path):
    folder = checkpoint(tmp_path, 3)
    manifest = verify(folder)
    assert set(manifest["files"]) == {"model.safetensors", "optimizer.pt", "global/shard.pt"}
    assert manifest["step"] == 3
    assert manifest["files"]["global/shard.pt"]["size"] == 5


def test_an_empty_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(SemiHVError, match="holds no file"):
        seal(tmp_path)


def truncate(folder):
    os.truncate(folder / "model.safetensors", 100)


def flip(folder):
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[77] ^= 1
    (folder / "model.safetensors").write_bytes(raw)


def lose_optimizer(folder):
    (folder / "optimizer.pt").unlink()


def lose_shard(folder):
    (folder / "global" / "shard.pt").unlink()


def lose_manifest(folder):
    (folder / MANIFEST).unlink()


def cut_manifest(folder):
    os.truncate(folder / MANIFEST, 40)


def newer_format(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "format": 99}))


DAMAGE = [
    (truncate, "model.safetensors has 100 of 200 bytes"),
    (flip, "the content of model.safetensors is not what was written"),
    (lose_optimizer, "optimizer.pt is missing"),
    (lose_shard, "global/shard.pt is missing"),
    (lose_manifest, "it has no manifest COMPLETE"),
    (cut_manifest, "its manifest COMPLETE is damaged"),
    (newer_format, "its manifest has format 99, known is 1"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGE, ids=[item[0].__name__ for item in DAMAGE])
def test_a_torn_checkpoint_is_passed_over_with_its_reason(tmp_path, damage, reason):
    older, newer = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    assert newest_complete(tmp_path) == (newer, [])
    damage(newer)
    found = newest_complete(tmp_path)
    assert found.path == older
    assert [str(item) for item in found.skipped] == [f"checkpoint-10: {reason}"]
    with pytest.raises(SemiHVError) as raised:
        verify(newer)
    assert reason in raised.value.what


def test_steps_are_numbers_and_other_folders_are_none_of_them(tmp_path):
    checkpoint(tmp_path, 9)
    ten = checkpoint(tmp_path, 10)
    (tmp_path / "checkpoint-final").mkdir()
    (tmp_path / "checkpoint-11").write_text("a file")
    assert newest_complete(tmp_path) == (ten, [])
    assert newest_complete(tmp_path / "nowhere") == (None, [])


def test_weights_alone_cannot_be_resumed(tmp_path):
    folder = checkpoint(tmp_path, 4, sealed=False)
    seal(folder, step=4, resumable=False)
    assert newest_complete(tmp_path).path == folder
    found = newest_complete(tmp_path, resumable=True)
    assert found.path is None
    assert found.skipped[0].reason == "it holds weights only, no optimizer"


def test_rotation_counts_complete_ones_and_keeps_newest_and_best(tmp_path):
    for step in (1, 2, 3, 4, 5):
        checkpoint(tmp_path, step)
    checkpoint(tmp_path, 6, sealed=False)
    assert rotate(tmp_path, None) == []
    assert rotate(tmp_path, 3, best=tmp_path / "checkpoint-1") == ["checkpoint-2", "checkpoint-3"]
    # One is asked for, but the newest complete one and the best both stay; the torn one does not count.
    assert rotate(tmp_path, 1, best=tmp_path / "checkpoint-1") == ["checkpoint-4"]
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-1",
        "checkpoint-5",
        "checkpoint-6",
    ]
    assert rotate(tmp_path, 1) == ["checkpoint-1"]
    assert newest_complete(tmp_path).path.name == "checkpoint-5"


def test_a_sealed_folder_replaces_a_torn_one_of_its_step(tmp_path):
    torn = checkpoint(tmp_path, 7)
    truncate(torn)
    staged = checkpoint(tmp_path / STAGING, 7)
    assert publish(staged, tmp_path) == torn
    assert newest_complete(tmp_path) == (torn, [])
    assert not staged.exists()


def test_leftovers_are_removed_and_a_checkpoint_between_two_renames_comes_back(tmp_path):
    checkpoint(tmp_path / STAGING, 8, sealed=False)
    checkpoint(tmp_path / STAGING / "deleted", 2)
    checkpoint(tmp_path / STAGING / "replaced", 5)
    assert clean_staging(tmp_path) == ["checkpoint-8", "deleted/checkpoint-2"]
    assert newest_complete(tmp_path).path == tmp_path / "checkpoint-5"
    assert not (tmp_path / STAGING).exists()
    assert clean_staging(tmp_path) == []
