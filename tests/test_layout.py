"""The house: who may import whom, which files a variant has, and what an import may cost."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from utils.variants import VARIANTS, table

REPOSITORY = Path(__file__).resolve().parent.parent

BELOW = {
    "patch": set(),
    "unimatch": set(),
    "utils": {"patch", "unimatch"},
    "models": {"patch", "utils", "unimatch"},
    "pipelines": {"patch", "utils", "models", "unimatch"},
    "train_models": {"patch", "unimatch", "utils", "models", "pipelines"},
    "run_models": {"patch", "unimatch", "utils", "models", "pipelines"},
    "gradios": {"patch", "unimatch", "utils", "models", "pipelines", "train_models", "run_models"},
    "benchmarks": {"patch", "unimatch", "utils", "models", "pipelines", "train_models", "run_models", "gradios"},
}
# Slow to import or missing on many machines: imported inside the functions that use them.
LATE = {"torchvision", "torchcodec", "datasets", "matplotlib", "gradio", "torchmetrics", "tensorboard", "wandb"}

NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?%?(?![\w%])(?!\.\d)")
ROOMS = [room for room in BELOW if (REPOSITORY / room).is_dir()]
SOURCES = [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))]
SCRIPTS = [
    path for path in SOURCES if path.name.startswith(("train_", "run_")) and path.parent.name.endswith("_models")
]


def name(path):
    return str(path.relative_to(REPOSITORY))


def imported(tree):
    """First names of all imports in a module, wherever they stand; relative ones stay inside their room."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


def docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            yield node.body[0].value


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_imports_point_down(path):
    room = path.relative_to(REPOSITORY).parts[0]
    ours = set(imported(ast.parse(path.read_text()))) & set(BELOW)
    assert ours <= BELOW[room] | {room}
    if room in ("train_models", "run_models"):
        assert room not in ours, "scripts never import each other"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parent.name != "patch"], ids=name)
def test_other_rooms_know_only_what_patch_exports(path):
    tree = ast.parse(path.read_text())
    froms = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0]
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [module for module in froms + names if module.startswith("patch.")]
    assert "_duet" not in path.read_text()


@pytest.mark.parametrize("path", sorted((REPOSITORY / "patch").glob("*.py")), ids=name)
def test_the_state_of_a_patched_model_is_changed_by_its_own_methods_only(path):
    """Elsewhere nothing is assigned to an attribute of a context, however it is reached."""
    changed = []
    for node in ast.walk(ast.parse(path.read_text())):
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            changed += [t for t in targets if re.match(r"(.*\b_duet|context)[.\[]", ast.unparse(t))]
    assert path.name == "context.py" or not [ast.unparse(target) for target in changed]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_device_is_named_in_code(path):
    tree = ast.parse(path.read_text())
    prose = set(map(id, docstrings(tree)))
    words = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in prose]
    words += [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert not [word for word in words if isinstance(word, str) and word.split(":")[0] == "cuda"]


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_loads_nothing_that_its_functions_do_not_always_need(room):
    late = LATE - {"gradio"} if room == "gradios" else LATE
    modules = [
        ".".join(p.relative_to(REPOSITORY).with_suffix("").parts) for p in sorted((REPOSITORY / room).rglob("*.py"))
    ]
    modules = [module.removesuffix(".__init__") for module in modules]
    code = f"""import importlib, sys
for module in {modules!r}:
    importlib.import_module(module)
    loaded = {late!r} & set(sys.modules)
    assert not loaded, f"{{module}} imports {{loaded}}"
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SCRIPTS, ids=name)
def test_a_script_has_a_main_that_takes_its_arguments(path):
    mains = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef) and n.name == "main"]
    assert mains, "no main(argv=None)"
    arguments = mains[0].args
    assert [argument.arg for argument in arguments.args] == ["argv"]
    assert [default.value for default in arguments.defaults] == [None]


@pytest.mark.parametrize("path", [path for path in SOURCES if "__main__" in path.read_text()], ids=name)
def test_what_a_script_refuses_ends_it_with_one_line(path):
    last = ast.parse(path.read_text()).body[-1]
    assert ast.unparse(last) == "if __name__ == '__main__':\n    run_script(main)"


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_the_files_of_a_variant_exist(variant):
    assert not [str(path) for path in variant.files if not (REPOSITORY / path).exists()]


def test_the_table_of_the_readme_is_that_of_the_variants():
    assert f"\n{table()}\n" in (REPOSITORY / "README.md").read_text(), "print it with python -m utils.variants"


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_the_figures_of_a_variant_are_those_of_a_page(variant):
    """Whole numbers, on its page, in its card, or in an evaluation that its page links."""
    page = REPOSITORY / "docs" / variant.docs
    linked = re.findall(r"\((evaluation_\w+\.md|training_\w+\.md)", page.read_text())
    pages = [page, *(page.parent / name for name in linked)]
    pages += [REPOSITORY / "weights" / (variant.weights or variant.name) / "README.md"]
    measured = {number for one in pages if one.is_file() for number in NUMBER.findall(one.read_text())}
    assert not set(NUMBER.findall(variant.headline)) - measured


def test_every_training_and_command_of_a_variant_is_in_the_table():
    trained = {path.stem.removeprefix("train_") for path in (REPOSITORY / "train_models").glob("train_*.py")}
    run = {path.stem.removeprefix("run_") for path in (REPOSITORY / "run_models").glob("run_*.py")}
    assert trained - {"judges"} == {variant.trained_by or variant.name for variant in VARIANTS.values()}
    assert run == {variant.run_by or variant.name for variant in VARIANTS.values()}


# Floors of the rooms of utils, the lowest first; what stands at its root serves all.
UTILS_FLOORS = [
    {"messages", "formats"},
    {"scenes", "metrics", "flow"},
    {"tracks", "weights", "commands"},
    {"data"},
    {"diffusion"},
    {"training"},
]


def rooms_of_utils(tree):
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0]
    return {module.split(".")[1] for module in modules if module.startswith("utils.")}


@pytest.mark.parametrize("floor", range(len(UTILS_FLOORS)))
def test_a_lower_room_of_utils_imports_no_higher_one(floor):
    higher = set().union(*UTILS_FLOORS[floor + 1 :])
    for room in UTILS_FLOORS[floor]:
        for path in sorted((REPOSITORY / "utils" / room).rglob("*.py")):
            assert not rooms_of_utils(ast.parse(path.read_text())) & higher, path
