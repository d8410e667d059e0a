"""Imports flow one way: a folder of the house imports only what stands above it."""

import ast
import itertools
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "headway"
ROOT = {"errors", "files", "protocol", "config", "plain", "schedule", "draws", "distributed", "hashing", "threads"}
ORDER = ["data", "samples", "views", "nn", "backbones", "measure", "pretext", "train", "downstream", "verdict"]
ORDER += ["reports", "cli"]


def imported(path: Path) -> set[str]:
    """First part below ``headway`` of every import in the file, inside functions as well."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "headway":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("headway."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write headway.* in full"
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("headway.")}
    return names


def files_of(folder: str) -> list[Path]:
    return sorted((SOURCE / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", ORDER)
def test_a_folder_imports_only_those_above_it(folder):
    allowed = ROOT | set(ORDER[: ORDER.index(folder) + 1])
    for path in files_of(folder):
        assert imported(path) - {"__version__"} <= allowed, f"{path.relative_to(SOURCE)} reaches down the house"


@pytest.mark.parametrize("name", sorted(ROOT))
def test_root_modules_import_only_one_another(name):
    assert imported(SOURCE / f"{name}.py") <= ROOT


def test_every_folder_is_in_the_order():
    assert {path.name for path in SOURCE.iterdir() if path.is_dir()} - {"__pycache__"} <= set(ORDER)


def test_fabric_lives_in_one_file():
    users = [p for p in SOURCE.rglob("*.py") if "lightning_fabric" in p.read_text()]
    assert [p.relative_to(SOURCE).as_posix() for p in users] in ([], ["train/engine.py"])


def test_nothing_pickled_is_loaded():
    for path in SOURCE.rglob("*.py"):
        calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        dotted = {ast.unparse(call) for call in calls}
        assert not dotted & {"torch.load", "pickle.load", "pickle.loads", "torch.save", "pickle.dump"}, path


def test_every_constant_is_used():
    """A rule that is written down and not applied is worse than none: auto had such a temperature once."""
    trees = {path: ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")}
    read = set[str]()
    for node in itertools.chain.from_iterable(map(ast.walk, trees.values())):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            read.add(node.id)
        elif isinstance(node, ast.Attribute):
            read.add(node.attr)
    looked_up = {"RECIPE", "RECIPES"}  # by the registry, in each task's file
    idle = [
        f"{path.relative_to(SOURCE)}: {name.id}"
        for path, tree in trees.items()
        for line in tree.body
        if isinstance(line, ast.Assign | ast.AnnAssign)
        for target in (line.targets if isinstance(line, ast.Assign) else [line.target])
        for name in ast.walk(target)
        if isinstance(name, ast.Name) and name.id.isupper() and name.id not in read | looked_up
    ]
    assert not idle, "constants that nothing reads: " + ", ".join(idle)
