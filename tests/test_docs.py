"What every page owes its readers: names explained, equations executed, pictures described, formulas that Pandoc can read."
import importlib
import inspect
import pkgutil
import re
import subprocess
import types
from pathlib import Path

import docs
import mae_nb
import pypandoc
import pytest
import yaml
from execnb.nbio import read_nb
from fastcore.docments import docments

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = {path.name: read_nb(path) for path in sorted((ROOT/"nbs").glob("*.ipynb"))}
MODULES = [m.name for m in pkgutil.iter_modules(mae_nb.__path__) if not m.name.startswith("_")
           and m.name != "all"]
NOT_EXECUTED: dict[str, str] = {}  # label of a displayed equation -> why no cell executes it


def sources(nb, kind: str) -> list[str]:
    "The sources of the cells of one kind."
    return [cell.source for cell in nb.cells if cell.cell_type == kind]


def shows(cell, what: str) -> bool:
    "Does the cell store an output of this kind?"
    return any(what in mime or what in "".join(data) for o in cell.get("outputs", [])
               for mime, data in o.get("data", {}).items())


@pytest.mark.parametrize("module", MODULES)
def test_names(module):
    "Every public name has a docstring and stands in the reference; every argument of a function says what it is."
    m, page = importlib.import_module(f"mae_nb.{module}"), str([cell.get("outputs")
                                                                for cell in NOTEBOOKS[
                                                                    "30_reference.ipynb"].cells])
    for name in m.__all__:
        thing = getattr(m, name)
        assert re.search(rf"<code>(<strong>)?{name}<",
                         page), f"{name} is not in 30_reference.ipynb: run it"
        # on 3.10, list[int] is a class
        if isinstance(thing, types.GenericAlias) or not (inspect.isclass(thing)
                                                         or inspect.isroutine(thing)):
            continue
        assert thing.__doc__, name
        kinds = (types.FunctionType, property, classmethod, staticmethod)
        for k, f in vars(thing).items() if inspect.isclass(thing) else ():
            assert k.startswith("_") or not isinstance(f, kinds) or f.__doc__, f"{name}.{k}"
        explained = (thing.__init__ if inspect.isclass(thing) and "__init__" in vars(thing)
                     else thing)
        if inspect.isclass(explained): continue
        comments = docments(explained)
        given = [p.name for p in inspect.signature(explained).parameters.values()
                 if p.name != "self" and p.kind != p.VAR_KEYWORD]
        like = next((i for i, p in enumerate(given)
                     if "like all that follow" in (comments.get(p) or "")), len(given))
        assert all(comments.get(p)
                   for p in given[
                       :like]), f"{name}: {[p for p in given[:like] if not comments.get(p)]}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_first_lines(name):
    "A page opens with what it assumes, what one will know, how long it takes, and a way to run it."
    opening = "\n".join(sources(NOTEBOOKS[name], "markdown")[:3])
    assert re.search(r"^You need .* (After|On) this (chapter|page|guide) \([a-z]+ minutes?\) you ",
                     opening, flags=re.M)
    assert f"/blob/main/nbs/{name})" in opening


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_equations(name):
    "Every displayed equation has a number, and a cell of its page that executes it and cites the number."
    text, code = "\n".join(sources(NOTEBOOKS[name], "markdown")), "\n".join(sources(NOTEBOOKS[name],
                                                                                    "code"))
    labels = re.findall(r"\$\$\s*\{#(eq-[\w-]+)\}", text)
    assert text.count("$$") == 2*len(labels)
    cited = set(map(int, re.findall(r"Eq\. \((\d+)\)(?! of)", code)))
    assert [label for i, label in enumerate(labels, 1) if i not in cited
            and label not in NOT_EXECUTED] == []
    assert cited <= set(range(1, len(labels) + 1))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_pictures(name):
    "Every picture has a label, a caption and an alternative text; a figure that moves brings the last along."
    for cell in NOTEBOOKS[name].cells:
        still, moving = shows(cell, "image/"), shows(cell, 'class="explorable"')
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
    "Each page stands once in the sidebar, and what _quarto.yml names is there."
    listed = sum(docs.sections().values(), [])
    assert sorted(listed) == sorted(map(docs.page_name, NOTEBOOKS))
    site = yaml.safe_load((ROOT/"_quarto.yml").read_text())
    files = [site["bibliography"], *site["project"]["resources"], site["website"]["favicon"],
             site["website"]["navbar"]["logo"], site["website"]["open-graph"]["image"]]
    files += [entry["href"] for entry in site["website"]["navbar"]["left"]]
    for file in [*files, site["format"]["html"]["css"]]: assert (ROOT/"nbs"/file).is_file(), file


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
