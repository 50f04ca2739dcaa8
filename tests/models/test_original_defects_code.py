"""What the original gets wrong, as far as it can be read off the code; and that every defect has a test."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
REMOTE = ROOT / "semihv_hf" / "models" / "pmc_cambrian"
ALLOWED = {"transformers", "torch", "numpy", "PIL", "huggingface_hub"}
DEFECTS = {*(f"b{number}" for number in range(1, 21)), "p1", "p2"}


def trees(folder: Path, at_least: int) -> dict[Path, ast.Module]:
    found = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.py"))}
    assert len(found) >= at_least
    return found


@pytest.fixture(scope="module")
def remote():
    return trees(REMOTE, 12)


@pytest.fixture(scope="module")
def package():
    return trees(ROOT / "semihv_hf", 50)


def imported(tree: ast.AST) -> set[str]:
    """Names of the packages that are imported anywhere in the tree; siblings count as none."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_defect_b8_no_code_asks_for_a_device_or_a_precision(package):
    calls = {}
    for path, tree in package.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                calls.setdefault(node.func.attr, []).append(f"{path.name}:{node.lineno}")
    assert len(calls["append"]) > 20
    assert {name: calls[name] for name in ("cuda", "half", "xpu", "mps") if name in calls} == {}


def test_defect_b8_the_model_names_no_device(remote):
    """The image processor asks where the pixels are: arrays can only be shared with memory of the processor."""
    named = re.compile(r"^(cuda|cpu|xpu|mps)(:\d+)?$")
    modelling = {path: tree for path, tree in remote.items() if not path.name.startswith("image_")}
    assert len(modelling) >= 8
    for path, tree in modelling.items():
        strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        assert not [value for value in strings if isinstance(value, str) and named.match(value)], path.name


def test_defect_b9_the_model_needs_no_accelerator_library(remote, package):
    for path, tree in remote.items():
        guarded = {name for node in ast.walk(tree) if isinstance(node, (ast.Try, ast.If)) for name in imported(node)}
        extra = imported(tree) - ALLOWED - set(sys.stdlib_module_names)
        assert extra <= guarded & {"torchvision"}, path.name
    everywhere = set().union(*(imported(tree) for tree in package.values()))
    assert {"torch", "transformers"} <= everywhere
    assert not everywhere & {"torch_xla", "gcsfs", "flash_attn", "xformers"}
    # Training with ZeRO asks the library that shards; nothing else does.
    assert {path.name for path, tree in package.items() if "deepspeed" in imported(tree)} == {"parameters.py"}


def test_defect_b16_nothing_of_another_model_library_is_needed_at_run_time(package):
    everywhere = set().union(*(imported(tree) for tree in package.values()))
    assert "torch" in everywhere
    assert not everywhere & {"timm", "open_clip", "open_clip_torch", "clip", "llava", "cambrian"}


def test_defect_b16_versions_are_lower_bounds_not_pins():
    if sys.version_info < (3, 11):
        pytest.skip("tomllib needs Python 3.11")
    import tomllib

    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = {requirement.name: requirement.specifier for requirement in map(Requirement, lines)}
    assert {"torch", "transformers"} <= set(wanted)
    assert not {"timm", "open-clip-torch"} & set(wanted)
    assert not [name for name, bounds in wanted.items() for bound in bounds if bound.operator in ("==", "<", "<=")]
    assert wanted["transformers"].contains("5.23.0") and not wanted["transformers"].contains("4.37.0")


# Written in pieces, so that this file is not itself a hit.
CREDENTIAL = re.compile(
    r"(?i)[\"']?\b\w*(api_?key|secret|password|passwd|access_?token|auth_?token|wandb_\w*key)\b[\"']?\s*[:=]\s*"
    r"[\"']?[A-Za-z0-9_+/-]{20,}|wandb" + r"[. ]login\(?\s*(key=)?\s*[\"']?[0-9a-f]{32,}"
)


def test_defect_b19_no_credential_is_committed():
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    hits, read = [], 0
    for path in (ROOT / name for name in names):
        if path.suffix in {".py", ".yaml", ".yml", ".toml", ".json", ".md", ".sh", ".slurm", ".txt", ".cfg", ""}:
            if path.is_file():
                read += 1
                hits += [f"{path.name}: {hit.group()}" for hit in CREDENTIAL.finditer(path.read_text("utf-8"))]
    assert read >= 80
    assert hits == []
    assert CREDENTIAL.search("os.environ['WANDB_API" + "_KEY'] = ".replace("']", "") + 40 * "a")
    assert CREDENTIAL.search("api" + "_key: " + 24 * "x") and CREDENTIAL.search("wandb" + ".login(key='" + 40 * "f")


def own_state(tree: ast.Module) -> list[tuple[str, str, int]]:
    """Assignments to attributes of `self`, or of something below it, outside `__init__`: (function, target, line)."""
    found = []
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or function.name in ("__init__", "__post_init__"):
            continue
        for node in ast.walk(function):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if not isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
                targets = []
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "object.__setattr__"):
                targets = [node.args[0]]
            for target in targets:
                written = ast.unparse(target)
                if re.match(r"self(\.|\[|$)", written):
                    found.append((function.name, written, node.lineno))
    return found


def test_defect_b3_no_module_of_the_model_writes_to_itself_after_it_was_built(remote):
    found = {(path.name, function, target) for path, tree in remote.items() for function, target, _ in own_state(tree)}
    # The library's own interface for another embedding; nothing of a call is kept.
    assert found == {
        ("modeling_pmc_cambrian.py", "set_input_embeddings", "self.language_model.embed_tokens"),
    }
    cached = [
        f"{path.name}: {ast.unparse(node)}"
        for path, tree in remote.items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.Global, ast.Nonlocal))
        or (
            isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node).endswith(("lru_cache", "register_buffer"))
        )
    ]
    assert cached == []


def test_the_check_for_state_sees_every_way_to_write_it():
    code = """
class A:
    def __init__(self): self.a = 1
    def forward(self, x):
        self.b = x
        self.c[0] = x
        self.d += x
        self.e: int = x
        setattr(self, "f", x)
        y = self.g = x
        z.h = x
"""
    written = [target for _, target, _ in own_state(ast.parse(code))]
    assert sorted(written) == ["self", "self.b", "self.c[0]", "self.d", "self.e", "self.g"]


def test_every_defect_of_the_original_has_a_test_named_after_it():
    named = set()
    for tree in trees(ROOT / "tests", 40).values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (match := re.match(r"test_defect_([bp]\d+)_", node.name)):
                named.add(match.group(1))
    assert named == DEFECTS
