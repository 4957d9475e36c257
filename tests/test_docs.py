"""The documentation: its links lead somewhere, and its commands name scripts and flags that there are."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *REPOSITORY.glob("weights/*/README.md"),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name(path):
    return str(path.relative_to(REPOSITORY))


def anchors(page):
    """As GitHub makes them of titles."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def commands(page):
    """Command lines of the page that call a module or a script of the repository."""
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("python "):
                yield shlex.split(line, comments=True)


def module_of(words):
    """The module of a command line, and its arguments."""
    if words[1] == "-m":
        return words[2], words[3:]
    assert (REPOSITORY / words[1]).is_file(), words[1]
    return words[1].removesuffix(".py").replace("/", "."), words[2:]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_name_scripts_and_flags_that_there_are(page):
    for words in commands(page):
        module, arguments = module_of(words)
        script = importlib.import_module(module)
        make = getattr(script, "parser", None) or script.make_parser
        known = {option for action in make()._actions for option in action.option_strings} | {"--config"}
        assert {word.partition("=")[0] for word in arguments if word.startswith("--")} <= known, shlex.join(words)
