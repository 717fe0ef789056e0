"""What README, docs and docstrings tell a reader to type: it parses, and what it names exists."""

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import api_page

import dynabert_cli

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), ROOT / "benchmarks" / "README.md"]
FOLDERS = ("dynabert_hf", "tests", "docs", "benchmarks", "examples")
FILES = [*ROOT.glob("*"), *(path for name in FOLDERS for path in ROOT.glob(f"{name}/**/*"))]
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
SCRIPTS = [path for path in EXAMPLES if "__main__" in path.read_text()]
NEED_BUDGETS = ("cascade", "recommend", "search")
BUDGETS = ("latency_ms", "flops", "parameters", "memory_mb", "max_drop")
"""Of which these commands need one."""
BLOCKS = [
    pytest.param(language, code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, (language, code) in enumerate(re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.M | re.S))
]


def blocks_in(*languages):
    return [pytest.param(block.values[1], id=block.id) for block in BLOCKS if block.values[0] in languages]


def imports_of(code):
    """What each import of a code names: a module, and perhaps a thing in it."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.fixture(autouse=True)
def _examples_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))


@pytest.fixture(scope="module")
def help_of():
    """A function that gives the `--help` of a script of the examples, each asked once."""
    known = {}

    def ask(name, capsys, monkeypatch):
        if name not in known:
            monkeypatch.setattr(sys, "argv", [name, "--help"])
            monkeypatch.setenv("COLUMNS", "80")
            with pytest.raises(SystemExit, match="0"):
                importlib.import_module(Path(name).stem).main()
            known[name] = capsys.readouterr().out
        return known[name]

    return ask


def id_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=id_of)
def test_a_page_names_files_that_exist(path):
    """Scripts that a reader would write begin with `your_`."""
    text = path.read_text()
    links = [link for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) if not (path.parent / link).exists()]
    named = re.findall(r"`([\w./-]+\.(?:py|md|yaml|toml|cfg))`", text)
    there = {f"/{known.relative_to(ROOT).as_posix()}" for known in FILES}
    lost = [name for name in named if not any(known.endswith(f"/{name}") for known in there)]
    lost = [name for name in lost if not name.startswith("your_")]
    assert (links, lost) == ([], [])


def anchors_of(page):
    """The anchors of a page as GitHub makes them: the headings in small letters, with hyphens for blanks."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=id_of)
def test_a_page_names_headings_that_exist(path):
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text())
    pages = [(path.parent / link if link else path, anchor) for link, anchor in links]
    assert [(page.name, anchor) for page, anchor in pages if anchor not in anchors_of(page)] == []


def test_pages_name_the_file_where_a_name_stands():
    """Such as `FAMILIES` of `dynabert_hf/families.py`; the table of seams has a test of its own."""
    form = re.compile(r"`(\w+)`\s+(?:of\s+|in\s+|\()`([\w./]+\.py)`")
    told = [(page.name, *pair) for page in PAGES for pair in form.findall(page.read_text())]
    assert len(told) > 3
    for page, name, file in told:
        texts = [path.read_text() for path in FILES if f"/{path.relative_to(ROOT).as_posix()}".endswith(f"/{file}")]
        assert any(re.search(rf"\b{name}\b", text) for text in texts), f"{page}: {file} has no {name}"


def test_pages_name_benchmarks_that_exist():
    told = {each for page in PAGES for each in re.findall(r"python -m (benchmarks[\w.]*\w)", page.read_text())}
    assert len(told) > 3
    assert [each for each in told if importlib.util.find_spec(each) is None] == []


def test_the_page_of_public_names_is_what_the_docstrings_say():
    assert api_page.PAGE.read_text() == api_page.make_page(), "`make api` writes it anew"


def test_docstrings_and_comments_name_files_that_exist():
    form = re.compile(rf"(?<![\w/.])(?:{'|'.join(FOLDERS)})/[\w/.-]*\.(?:py|md|yaml)\b")
    code = [path for path in FILES if path.suffix == ".py"] + [ROOT / "Makefile"]
    named = [(name, path.name) for path in code for name in form.findall(path.read_text())]
    assert len(named) > 10
    assert [each for each in named if not (ROOT / each[0]).exists()] == []


@pytest.mark.parametrize("code", blocks_in("python"))
def test_python_in_a_page_parses_and_imports_what_exists(code):
    for module, name in imports_of(code):
        imported = importlib.import_module(module)
        assert name is None or hasattr(imported, name), f"{module} has no {name}"


def test_make_says_which_python_it_needs_before_it_makes_anything(tmp_path):
    """pip told of a conflict of versions that say nothing of Python."""
    old = tmp_path / "python"
    told = "import sys; sys.version_info = (3, 10, 13); del sys.argv[0]; exec(sys.argv.pop(1))"
    old.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{told}' \"$@\"\n")
    old.chmod(0o755)
    made = tmp_path / "environment"
    command = ["make", "test", f"PYTHON={old}", f"VENV={made}"]
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"need Python 3.11 or newer, and {old} is 3.10. Name another one, such as: make test PYTHON=" in done.stderr
    assert not made.exists()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_imports_what_exists(path):
    for module, name in imports_of(path.read_text()):
        imported = importlib.import_module(module)
        assert name is None or hasattr(imported, name), f"{module} has no {name}"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_tells_its_arguments(path, help_of, capsys, monkeypatch):
    page = help_of(path.name, capsys, monkeypatch)
    told = " ".join(page.split())
    assert "--help" in told
    assert "(default: None)" not in told
    options = re.findall(r"^  (--.*)", page, re.M)
    assert [option for option in options if option.count(", --")] == []  # one spelling of each
    assert max(map(len, page.partition("options:\n")[0].splitlines())) <= 80


@pytest.mark.parametrize("code", blocks_in("bash", "sh", "console"))
def test_commands_in_a_page_name_scripts_arguments_and_targets_that_exist(code, help_of, capsys, monkeypatch):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    outputs = []
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if "make" in words[:1]:
            assert words[1] in targets
        if "dynabert" in words[:1]:
            parsed = dynabert_cli.build_parser().parse_args(words[1:])  # ends the test where it refuses them
            outputs += [parsed.output] if getattr(parsed, "output", None) else []
            budgets = {name: value for name, value in vars(parsed).items() if name in BUDGETS}
            assert words[1] not in NEED_BUDGETS or any(value is not None for value in budgets.values()), line
        scripts = [word for word in words if re.match(r"(examples|benchmarks)/\w+\.py$", word)]
        for script in scripts:
            assert (ROOT / script).exists(), script
            if script.startswith("examples/"):
                told = help_of(Path(script).name, capsys, monkeypatch)
                options = [word.split("=")[0] for word in words[words.index(script) :] if word.startswith("--")]
                assert [option for option in options if not re.search(rf"{option}\b", told)] == []
    assert len(set(outputs)) == len(outputs), "a command makes what stands there already"
