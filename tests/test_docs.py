"""What every page owes its readers.

Names are explained, equations executed, pictures described, links lead somewhere, and Pandoc reads
every formula.
"""
import dataclasses
import importlib
import inspect
import re
import subprocess
import types
from configparser import ConfigParser

import docs
import published
import pypandoc
import pytest
import rooms
import yaml
from check import NOTEBOOKS as PATHS
from check import ROOT
from execnb.nbio import read_nb
from fastcore.docments import docments

NBS = ROOT/"nbs"
NOTEBOOKS = {path.relative_to(NBS).as_posix(): read_nb(path) for path in PATHS}
MODULES = [module for module in rooms.chapters() if module not in ("all", "__init__")]
SIDEBAR = ["start", "theory", "nets", "model", "training", "use", "results", "common", "reference"]
NOT_EXECUTED: dict[str, str] = {}  # label of a displayed equation -> why no cell executes it


def sources(nb, kind: str) -> list[str]:
    "The sources of the cells of one kind."
    return [cell.source for cell in nb.cells if cell.cell_type == kind]


def shows(cell, what: str) -> bool:
    "Does the cell store an output of this kind?"
    return any(what in mime or what in "".join(data) for o in cell.get("outputs", [])
               for mime, data in o.get("data", {}).items())


def headings(nb) -> set[str]:
    "The anchors of a page's headings."
    text = re.sub(r"^```.*?^```", "", "\n".join(sources(nb, "markdown")), flags=re.M | re.S)
    titles = re.findall(r"^#+ +(.*?)(?: *\{.*\})?$", text, re.M)
    return {docs.pandoc_slug(title) for title in titles}


def unexplained(function) -> list[str]:
    "The parameters of a function without a comment; one may stand for all that follow."
    comments = docments(function)
    given = [p.name for p in inspect.signature(function).parameters.values()
             if p.name != "self" and p.kind != p.VAR_KEYWORD]
    ends = (i for i, p in enumerate(given) if "like all that follow" in (comments.get(p) or ""))
    return [p for p in given[:next(ends, len(given))] if not comments.get(p)]


@pytest.mark.parametrize("module", MODULES)
def test_names(module):
    "Every name without underscore has a docstring; every argument of a function says what it is."
    m = importlib.import_module(f"mae_nb.{module}")
    for name in m.__all__:
        thing = getattr(m, name)
        if isinstance(thing, types.GenericAlias): continue  # on 3.10, list[int] is a class
        if not (inspect.isclass(thing) or inspect.isroutine(thing)): continue
        assert thing.__doc__, name
        kinds = (types.FunctionType, property, classmethod, staticmethod)
        for k, f in vars(thing).items() if inspect.isclass(thing) else ():
            assert k.startswith("_") or not isinstance(f, kinds) or f.__doc__, f"{name}.{k}"
        if dataclasses.is_dataclass(thing):
            comments = docments(thing)
            assert all(comments.get(field.name) for field in dataclasses.fields(thing)), name
            continue
        own = inspect.isclass(thing) and "__init__" in vars(thing)
        explained = thing.__init__ if own else thing
        if not inspect.isclass(explained): assert not unexplained(explained), name


def test_reference():
    "Every public name stands in the reference, beside a link to its page."
    page = str([cell.get("outputs") for cell in NOTEBOOKS["reference/00_names.ipynb"].cells])
    for name in importlib.import_module("mae_nb.all").__all__:
        assert re.search(rf"<code>(<strong>)?{name}<", page), f"{name} is not in 00_names: run it"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_first_lines(name):
    "A page opens with one line: what it assumes, and where to run it."
    opening = "\n".join(sources(NOTEBOOKS[name], "markdown")[:3])
    colab = f"https://colab.research.google.com/github/mae-nb/mae_nb/blob/main/nbs/{name}"
    assert re.search(rf"^Needs: .+\. \[Open in Colab\]\({re.escape(colab)}\) "
                     r"\(first run `%pip install .+`\)\.$", opening, flags=re.M)
    text = "\n".join(sources(NOTEBOOKS[name], "markdown"))
    for path in re.findall(r"/blob/main/([^\s)#]+)", text): assert (ROOT/path).is_file(), path


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_equations(name):
    "Every displayed equation has a number, and a cell of its page executes and cites it."
    text, code = ("\n".join(sources(NOTEBOOKS[name], kind)) for kind in ("markdown", "code"))
    labels = re.findall(r"\$\$\s*\{#(eq-[\w-]+)\}", text)
    assert text.count("$$") == 2*len(labels)
    cited = set(map(int, re.findall(r"Eq\. \((\d+)\)(?! of)", code)))
    assert [label for i, label in enumerate(labels, 1) if i not in cited
            and label not in NOT_EXECUTED] == []
    assert cited <= set(range(1, len(labels) + 1))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_pictures(name):
    "Every picture has a label, a caption and an alternative text; one that moves makes the last."
    for cell in NOTEBOOKS[name].cells:
        moving = shows(cell, 'class="explorable"')
        still = shows(cell, "image/") and not moving
        for option in ("label: fig-", 'fig-cap: "', 'fig-alt: "')[:3*still or 2*moving]:
            assert f"#| {option}" in cell.source, cell.source[:80]
        assert not moving or shows(cell, 'role="img" aria-label="')
    for picture in re.findall(r"!\[.*", "\n".join(sources(NOTEBOOKS[name], "markdown"))):
        assert 'fig-alt="' in picture


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_callouts(name):
    "There are three kinds, each with one title."
    kinds = {("note", "What the poster says"), ("tip", "Derived here"),
             ("warning", "Where this package departs")}
    text = "\n".join(sources(NOTEBOOKS[name], "markdown"))
    assert (set(re.findall(r'\{\.callout-(\w+) title="(.*?)"\}', text)) <= kinds
            and len(re.findall(r'\{\.callout-\w+ title=".*?"\}', text)) == text.count("{.callout"))


def test_sidebar():
    "The sidebar's sections are the folders, with all their files; what _quarto.yml names is there."
    def files(folder): return [name for name in sorted(NOTEBOOKS) if name.startswith(f"{folder}/")]
    expected = [files(folder) for folder in SIDEBAR]
    expected[0].insert(0, "index.ipynb")
    assert list(docs.sections().values()) == expected
    assert sorted(sum(expected, [])) == sorted(NOTEBOOKS)
    assert sorted(["", *SIDEBAR]) == sorted(rooms.ROOMS)
    site = yaml.safe_load((ROOT/"_quarto.yml").read_text())
    web, html = site["website"], site["format"]["html"]
    named = [site["bibliography"], *site["project"]["resources"], web["favicon"],
             web["navbar"]["logo"], web["open-graph"]["image"], html["css"],
             html["include-after-body"], *(entry["href"] for entry in web["navbar"]["left"])]
    for file in named: assert (NBS/file).is_file(), file
    # `nbdev_docs` renders in _proc/, which lies beside nbs/
    assert (NBS/site["project"]["post-render"]).resolve() == ROOT/"tools"/"published.py"
    assert html["html-math-method"]["url"].endswith(published.MATHJAX[0])


def test_versions_on_the_page_about_installation():
    "They are those of the requirements, of the constraints, and of the Pythons of the workflow."
    text = "\n".join(sources(NOTEBOOKS["start/00_installation.ipynb"], "markdown"))
    rows = re.findall(r"^\| ([\w-]+)(?: \(`\w+`\))? \| (.+?) \| (\S+) \| (\S+) \|$", text, re.M)
    pins = (ROOT/"constraints.txt").read_text("utf-8").lower()
    settings = ConfigParser(delimiters="=")
    settings.read(ROOT/"settings.ini", encoding="utf-8")
    given = " ".join(value for key, value in settings["DEFAULT"].items()
                     if key.endswith("requirements") and key != "dev_requirements")
    named = [re.match(r"([\w-]+)(?:>=(.+))?", each) for each in given.split()]
    least = {each[1]: f"{each[2]} or newer" if each[2] else "any" for each in named}
    assert {name: required for name, required, _, _ in rows} == least
    for name, _, later, first in rows:
        found = re.findall(rf"^{name}==(\S+?)(?:; python_full_version ([<>])\S* .*)?$", pins, re.M)
        assert dict(zip(("<", ">"), (first, later))) == {
            side: version for version, mark in found for side in mark or "<>"}
    workflow = yaml.safe_load((ROOT/".github"/"workflows"/"test.yaml").read_text("utf-8"))
    pythons = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert f"{', '.join(pythons[:-1])} and {pythons[-1]}" in text


def test_version():
    "Settings, citation and changelog name the same version, and the last two the same day."
    settings = ConfigParser(delimiters="=")
    settings.read(ROOT/"settings.ini", encoding="utf-8")
    version = settings["DEFAULT"]["version"]
    changes = (ROOT/"CHANGELOG.md").read_text("utf-8")
    latest, day = re.search(r"^## (\d\S*) - (\S+)$", changes, re.M).groups()
    cited = yaml.safe_load((ROOT/"CITATION.cff").read_text("utf-8"))
    assert version == latest == cited["version"] and day == str(cited["date-released"])


def test_names_that_the_changelog_gives():
    "What the changelog tells to write instead can be written."
    changes = (ROOT/"CHANGELOG.md").read_text("utf-8")
    rows = re.findall(r"^\| `.*?\| `(from mae_nb\S* import .*?)`", changes, re.M)
    assert len(rows) > 9
    for row in rows: exec(row, {})


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_from_outside(file):
    "Links lead to files that are there, or to pages and headings that the notebooks make."
    pages = {f"{docs.page_name(name)}.html": nb for name, nb in NOTEBOOKS.items()}
    text = re.sub(r"```.*?```|`[^`\n]*`", "", (ROOT/file).read_text(encoding="utf-8"), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if target.startswith(docs.SITE):
            page = target.removeprefix(docs.SITE)
            assert page in pages, link
            assert not anchor or anchor in headings(pages[page]), link
        elif target and "://" not in target: assert (ROOT/target).exists(), link


def test_pandoc(tmp_path):
    "Pandoc, with which Quarto reads the pages, converts every formula and finds every work cited."
    page, fields = tmp_path/"pages.md", r"\{#(eq|fig)-[\w-]+.*?\}"
    text = "\n\n".join(source for nb in NOTEBOOKS.values() for source in sources(nb, "markdown"))
    page.write_text(re.sub(r"\[?-?@(eq|fig)-[\w-]+\]?", "", re.sub(fields, "", text)),
                    encoding="utf-8")
    command = [pypandoc.get_pandoc_path(), page, "-t", "html", "--mathml", "--citeproc",
               "--bibliography", ROOT/"nbs"/"references.bib", "--fail-if-warnings"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("<math") > 300
