"""Imports flow one way, at every level of the package, and files and functions stay short enough to read."""

import ast
import itertools
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "headway"
MODULES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in MODULES}
ROOT = ["errors", "_version", "schedule", "utils", "distributed", "worker_team", "rng", "config", "protocol"]
ORDER = [*ROOT, "transforms", "nn", "losses", "data", "synthetic", "backbones", "metrics", "pretext", "train"]
ORDER += ["downstream", "evaluation", "reports", "attention_viz", "api", "estimator", "cli"]
"""Rows of the architecture (docs/architecture.md), lowest first."""
MAX_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS, MAX_FILES = 250, 70, 9, 14


def name_of(path: Path) -> tuple[str, ...]:
    """Parts of a module's name below ``headway``."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


NAMES = {name_of(path) for path in MODULES}


def imported(path: Path) -> set[tuple[str, ...]]:
    """Modules of the package that a file imports, inside functions as well, without imports for type checkers alone."""
    found: set[tuple[str, ...]] = set()
    ignored = {
        node
        for block in ast.walk(TREES[path])
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(TREES[path]):
        if node in ignored:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write headway.* in full"
            module = (node.module or "").split(".")
            if module[0] == "headway":
                for alias in node.names:
                    longer = (*module[1:], alias.name)
                    found.add(longer if longer in NAMES else tuple(module[1:]))
        elif isinstance(node, ast.Import):
            found |= {tuple(a.name.split(".")[1:]) for a in node.names if a.name.split(".")[0] == "headway"}
    return found


IMPORTS = {path: imported(path) for path in MODULES}


@pytest.mark.parametrize("row", ORDER)
def test_a_row_imports_only_those_before_it(row):
    allowed = set(ORDER[: ORDER.index(row) + 1])
    for path in MODULES:
        if name_of(path)[:1] == (row,):
            rows = {name[0] if name else "headway" for name in IMPORTS[path]}
            assert rows <= allowed, f"{path.relative_to(SOURCE)} imports {sorted(rows - allowed)}"


def test_every_row_is_in_the_order():
    assert {name[0] for name in NAMES if name} == set(ORDER)


def test_sub_packages_and_modules_import_one_way():
    """Neither modules nor packages, at any depth, import one another in a circle."""
    packages = {name_of(path) for path in MODULES if path.name == "__init__.py"}
    circles = []
    for package in packages - {()}:
        graph: dict[str, set[str]] = {}
        for path in MODULES:
            name, depth = name_of(path), len(package)
            if name[:depth] == package and len(name) > depth:
                uses = {other[depth] for other in IMPORTS[path] if other[:depth] == package and len(other) > depth}
                graph.setdefault(name[depth], set()).update(uses - {name[depth]})
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circles.append(f"headway.{'.'.join(package)}: {error.args[1]}")
    assert not circles, "circles of imports: " + ", ".join(circles)


def test_no_task_imports_another_task():
    tasks = {name for name in NAMES if name[:1] == ("pretext",) and len(name) == 2}
    shared = {("pretext", "predictor"), ("pretext", "panels")}
    for path in MODULES:
        if name_of(path) in tasks and name_of(path)[-1] not in ("combined",):
            assert not IMPORTS[path] & (tasks - shared), path


def test_packages_are_small():
    for folder in {path.parent for path in MODULES} - {SOURCE, SOURCE / "pretext", SOURCE / "api", SOURCE / "cli"}:
        files = list(folder.glob("*.py"))
        assert len(files) <= MAX_FILES + 1, f"{folder.relative_to(SOURCE)} has {len(files)} files"


def test_files_and_functions_are_short():
    """The signature and docstring of a verb are its options and their help: only its body is counted."""
    verbs = {path: name_of(path)[-1] for path in (SOURCE / "api").glob("*.py")}
    for path, tree in TREES.items():
        lines = len(path.read_text().splitlines())
        assert lines <= MAX_LINES, f"{path.relative_to(SOURCE)} has {lines} lines"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                is_verb = node.name == verbs.get(path)
                length = (node.end_lineno or 0) - (node.body[1] if is_verb else node).lineno + 1
                parameters = len(node.args.args) + len(node.args.kwonlyargs)
                parameters -= bool(node.args.args) and node.args.args[0].arg in ("self", "cls")
                where = f"{path.relative_to(SOURCE)}: {node.name}"
                assert length <= MAX_FUNCTION_LINES, f"{where} has {length} lines"
                assert is_verb or parameters <= MAX_PARAMETERS, f"{where} has {parameters} parameters"


def test_fabric_lives_in_one_file():
    users = [p for p in MODULES if "lightning_fabric" in p.read_text()]
    assert [p.relative_to(SOURCE).as_posix() for p in users] == ["train/engine/fabric.py"]


def test_nothing_pickled_is_loaded():
    for path, tree in TREES.items():
        dotted = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not dotted & {"torch.load", "pickle.load", "pickle.loads", "torch.save", "pickle.dump"}, path


def test_members_of_base_classes_are_not_looked_up():
    """``Source`` and ``Backbone`` have defaults for what is optional."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
                of = ast.unparse(node.args[0]).split(".")[-1].rstrip("_")
                assert of not in ("source", "backbone", "student"), f"{path.relative_to(SOURCE)}: {ast.unparse(node)}"


def test_every_constant_is_used():
    """A constant that nothing reads documents a rule that is not applied."""
    read = set[str]()
    for node in itertools.chain.from_iterable(map(ast.walk, TREES.values())):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            read.add(node.id)
        elif isinstance(node, ast.Attribute):
            read.add(node.attr)
    registered = {"RECIPE", "RECIPES"}  # read by the registry, in each task's file
    unread = [
        f"{path.relative_to(SOURCE)}: {name.id}"
        for path, tree in TREES.items()
        for line in tree.body
        if isinstance(line, ast.Assign | ast.AnnAssign)
        for target in (line.targets if isinstance(line, ast.Assign) else [line.target])
        for name in ast.walk(target)
        if isinstance(name, ast.Name) and name.id.isupper() and name.id not in read | registered
    ]
    assert not unread, "constants that nothing reads: " + ", ".join(unread)
