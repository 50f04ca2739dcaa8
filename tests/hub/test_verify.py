"""A checkpoint is checked before it is loaded; the code beside weights needs nothing but a few known packages."""

import ast
import json
import struct
import sys

import pytest

from semihv_hf.errors import SemiHVError
from semihv_hf.hub.verify import installed_code, verify
from semihv_hf.models.pmc_cambrian.saving_pmc_cambrian import code_digests, hide_places, write_code_manifest

ALLOWED = {"transformers", "torch", "torchvision", "numpy", "PIL"}


@pytest.fixture
def folder(tmp_path, root):
    """Weights of one number with the package's own code."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in remote_code(root):
        (folder / path.name).write_bytes(path.read_bytes())
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "modeling_pmc_cambrian.PMCCambrianModel"}}')
    write_code_manifest(folder)
    return folder


def remote_code(root):
    files = sorted((root / "semihv_hf" / "models" / "pmc_cambrian").glob("*_pmc_cambrian.py"))
    assert len(files) >= 10
    return files


def wrong(folder, **options) -> dict[str, str]:
    return {file.name: file.said for file in verify(folder, **options).wrong}


def test_what_was_saved_passes_and_every_file_is_reported(folder):
    found = verify(folder, trust_manifest_of="semihv-hf")
    assert found.ok and wrong(folder) == {}
    assert {file.name for file in found.files} == {path.name for path in folder.iterdir()}
    said = {file.name: file.said for file in found.files}
    assert said["model.safetensors"] == "safetensors, 1 tensors"
    assert said["modeling_pmc_cambrian.py"].endswith("the manifest and the installed package")


def test_a_changed_a_foreign_and_a_missing_code_file_are_wrong(folder):
    (folder / "modeling_pmc_cambrian.py").write_text("x = 1\n")
    (folder / "extra.py").write_text("")
    (folder / "towers_pmc_cambrian.py").unlink()
    found = wrong(folder)
    assert set(found) == {"modeling_pmc_cambrian.py", "extra.py", "towers_pmc_cambrian.py"}
    assert "differs" in found["modeling_pmc_cambrian.py"] and "does not list" in found["extra.py"]
    assert "missing" in found["towers_pmc_cambrian.py"]


def test_a_checkpoint_inside_a_run_has_a_manifest_of_its_own(folder):
    inner = folder / "checkpoint-20"
    inner.mkdir()
    for name in ("modeling_pmc_cambrian.py", "model.safetensors"):
        (inner / name).write_bytes((folder / name).read_bytes())
    assert "does not list" in wrong(folder)["checkpoint-20/modeling_pmc_cambrian.py"]
    write_code_manifest(inner)
    write_code_manifest(folder)
    assert not [name for name in json.loads((folder / "code_manifest.json").read_text())["sha256"] if "/" in name]
    assert wrong(folder) == wrong(folder, trust_manifest_of="semihv-hf") == {}
    (inner / "modeling_pmc_cambrian.py").write_text("x = 1\n")
    assert "differs" in wrong(folder)["checkpoint-20/modeling_pmc_cambrian.py"]


def test_settings_do_not_keep_the_folders_that_parts_were_loaded_from(tmp_path):
    (tmp_path / "part").mkdir()
    place = str(tmp_path / "part")
    settings = {
        "text_config": {"_name_or_path": place},
        "towers": [{"name_or_path": "/nowhere/tower"}],
        "base": "org/x",
    }
    (tmp_path / "config.json").write_text(json.dumps(settings | {"name_or_path": "org/x"}))
    hide_places(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "text_config": {"_name_or_path": "part"},
        "towers": [{"name_or_path": "tower"}],
        "base": "org/x",
        "name_or_path": "org/x",
    }


def test_a_strangers_manifest_does_not_help_against_the_installed_package(folder):
    (folder / "modeling_pmc_cambrian.py").write_text("x = 1\n")
    (folder / "extra.py").write_text("")
    write_code_manifest(folder)
    assert wrong(folder) == {}, "the manifest alone agrees with itself"
    found = wrong(folder, trust_manifest_of="semihv_hf")
    assert "differs" in found["modeling_pmc_cambrian.py"] and "not part of" in found["extra.py"]


def test_code_of_another_repository_is_wrong(folder):
    (folder / "config.json").write_text('{"text_config": {"auto_map": {"AutoModel": "evil/x--m.M"}}}')
    assert "another repository" in wrong(folder)["config.json"]


def test_a_repository_needs_a_commit():
    for revision in (None, "main", "0123abc", "v1"):
        with pytest.raises(SemiHVError, match="40 hexadecimal digits"):
            verify("name/model", revision)


def test_wrong_calls_are_clear(folder, tmp_path):
    with pytest.raises(SemiHVError, match="has no revision"):
        verify(folder, "a" * 40)
    (tmp_path / "none").mkdir()
    with pytest.raises(SemiHVError, match="is empty"):
        verify(tmp_path / "none")
    with pytest.raises(SemiHVError, match="no model code"):
        verify(folder, trust_manifest_of="requests")


def test_the_command_reports_each_file_and_fails_for_a_wrong_one(folder, semihv):
    done = semihv("verify", folder)
    assert done.returncode == 0 and "All " in done.stdout and "model.safetensors" in done.stdout
    (folder / "extra.py").write_text("")
    done = semihv("verify", folder, "--trust-manifest-of", "semihv-hf")
    assert done.returncode == 1 and "wrong  extra.py" in done.stdout and "do not load" in done.stdout


def test_the_manifest_lists_all_code_of_the_package(root):
    assert {path.name for path in remote_code(root)} <= set(installed_code("semihv-hf"))
    assert all(len(digest) == 64 for digest in code_digests(root / "semihv_hf" / "models" / "pmc_cambrian").values())


def imports_of(tree: ast.AST) -> set[str]:
    """Top-level packages that a module imports anywhere, relative ones aside."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


def test_remote_code_imports_nothing_else(root):
    seen = set()
    for path in remote_code(root):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        foreign = imports_of(tree) - ALLOWED - set(sys.stdlib_module_names)
        assert foreign == set(), f"{path.name} imports {foreign}"
        seen |= imports_of(tree) & ALLOWED
    assert {"torch", "transformers", "numpy"} <= seen


def test_remote_code_runs_no_text_and_no_program(root):
    forbidden = {"eval", "exec", "compile", "__import__", "system", "popen", "Popen", "import_module", "loads"}
    for path in remote_code(root):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                function = node.func
                if isinstance(function, ast.Name):
                    assert function.id not in forbidden, f"{path.name}:{node.lineno} calls {function.id}"
                elif isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                    called = (function.value.id, function.attr)
                    risky = function.value.id in ("os", "subprocess", "pickle", "marshal", "importlib", "builtins")
                    assert not (risky and function.attr in forbidden), f"{path.name}:{node.lineno} calls {called}"


def test_the_rule_would_find_a_foreign_import():
    assert imports_of(ast.parse("def f():\n    import requests.x\nfrom evil import y\nfrom .a import b\n")) == {
        "requests",
        "evil",
    }


def test_weights_of_other_kinds_and_pickles_in_any_wrapping_are_wrong(folder):
    import gzip
    import io
    import pickle
    import tarfile
    import zipfile

    import numpy as np

    packed = pickle.dumps([1], protocol=4)
    objects, fields, tar, nested = (io.BytesIO() for _ in range(4))
    np.savez(objects, a=np.array([{"a": 1}], dtype=object))
    np.save(fields, np.array([(1, {})], dtype=[("number", "i8"), ("any", object)]))
    with tarfile.open(fileobj=tar, mode="w") as archive:
        member = tarfile.TarInfo("pickle")
        member.size = len(packed)
        archive.addfile(member, io.BytesIO(packed))
    with zipfile.ZipFile(nested, "w") as archive:
        archive.writestr("inner.gz", gzip.compress(packed))
    made = {"objects": objects, "fields": fields, "tar": tar, "nested": nested}
    for name, file in made.items():
        (folder / f"{name}.txt").write_bytes(file.getvalue())
    (folder / "tar.gz.txt").write_bytes(gzip.compress(tar.getvalue()))
    numbers = io.BytesIO()
    np.save(numbers, np.array([(1, 2.0)], dtype=[("number", "i8"), ("other", "f4")]))
    (folder / "numbers.npy").write_bytes(numbers.getvalue())
    (folder / "pytorch_model.bin").write_bytes(b"\0" * 2000)
    assert set(wrong(folder)) == {*(f"{name}.txt" for name in made), "tar.gz.txt", "pytorch_model.bin"}
