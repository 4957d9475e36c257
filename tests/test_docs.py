"""The documentation: its links lead somewhere, and its commands name scripts and flags that there are."""

import ast
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

from utils.variants import VARIANTS

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *REPOSITORY.glob("weights/*/README.md"),
    *sorted((REPOSITORY / "notebooks").glob("*.ipynb")),
]
ROOMS = ("patch", "models", "unimatch", "utils", "pipelines", "train_models", "run_models")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name(path):
    return str(path.relative_to(REPOSITORY))


def text_of(page):
    """Markdown; of a notebook that of its cells."""
    if page.suffix != ".ipynb":
        return page.read_text()
    cells = json.loads(page.read_text())["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def anchors(page):
    """As GitHub makes them of titles."""
    titles = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for link in LINK.findall(text_of(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def commands(page):
    """Command lines of the page that call a module or a script of the repository."""
    for block in re.findall(r"```bash\n(.*?)```", text_of(page), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("python "):
                yield shlex.split(line, comments=True)


def module_of(words):
    """The module of a command line, and its arguments."""
    if words[1] == "-m":
        package = (REPOSITORY / words[2].replace(".", "/") / "__main__.py").is_file()
        return words[2] + ".__main__" * package, words[3:]
    assert (REPOSITORY / words[1]).is_file(), words[1]
    return words[1].removesuffix(".py").replace("/", "."), words[2:]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_name_scripts_and_flags_that_there_are(page):
    for words in commands(page):
        module, arguments = module_of(words)
        if module == "pytest":
            assert [(REPOSITORY / word).exists() for word in arguments if word.startswith("tests/")] == [True]
            continue
        script = importlib.import_module(module)
        make = getattr(script, "parser", None) or script.make_parser
        parser = make()
        known = {option for action in parser._actions for option in action.option_strings} | {"--config"}
        assert {word.partition("=")[0] for word in arguments if word.startswith("--")} <= known, shlex.join(words)
        if "--config" not in arguments and "--help" not in arguments:
            parser.parse_args(arguments)  # exits where a value, a choice or a required flag is wrong


def test_the_index_leads_to_every_page():
    docs = REPOSITORY / "docs"
    linked = {(docs / link.partition("#")[0]).resolve() for link in LINK.findall((docs / "README.md").read_text())}
    assert not {path for path in docs.rglob("*.md") if path.name != "README.md"} - linked


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_the_page_of_a_variant_says_how_to_run_and_to_train_it(variant):
    """On its page, in its card, or on the page of trainings or of its base that stands for it."""
    pages = [REPOSITORY / "docs" / variant.docs, *REPOSITORY.glob("docs/training*.md")]
    pages += [REPOSITORY / "weights" / (variant.weights or variant.name) / "README.md"]
    pages += [REPOSITORY / "docs" / VARIANTS[variant.run_by].docs] if variant.run_by else []
    said = "".join(text_of(page) for page in pages if page.is_file())
    for script in (variant.run, variant.train):
        assert re.search(rf"\b{Path(script).stem}\.(py|sh)\b", said), script


def templates():
    """Every text in the code with "…" in the place of each value."""
    for path in (path for room in ROOMS for path in (REPOSITORY / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_message_of_the_troubleshooting_page_is_one_of_the_code():
    page = (REPOSITORY / "docs/troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    known = "\n".join(templates())
    assert len(messages) > 20
    assert not [message for message in messages if message not in known]
