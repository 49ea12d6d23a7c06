"""Steps of nbdev in preparing a notebook for the site, beside its own: `procs` of settings.ini.

Both builds take them, `make docs` and `nbdev_docs` with Quarto; the latter finds this file where
PYTHONPATH names its folder. They stand for `add_links`, `add_fold` and `mv_exports` of nbdev, which
link a name within a link, put a switch over each source, and show each signature twice.
"""
import ast
import re
from dataclasses import is_dataclass
from importlib import import_module
from inspect import getsource

from nbdev.doclinks import NbdevLookup
from nbdev.process import Processor

SPANS = re.compile(r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\([^()]*\)|``.+?``|`[^`]+`")  # links and code
NAME = re.compile(r"`([^`\s]+?)(?:\(\))?`")
FENCED = re.compile(r"(^ *```.*?^ *```)", flags=re.M | re.S)
BLOCK = re.compile(r"\n```python\n.*?\n```(?:\n|\Z)", flags=re.S)  # a signature
MODULES = re.compile(r"(?<![\w.'])(?:[a-z_]\w*\.)+(?=[A-Z]\w)")  # before a class
TESTS = re.compile(r"^ *assert |: assert |\btest_\w+\(|\bassert_\w+\(", flags=re.M)
SOURCE = re.compile(r"/blob/\w+/(mae_nb/[\w/]+)\.py#L\d+\).*?^### (\w+)$", flags=re.M | re.S)


def linked(md: str, lookup: NbdevLookup) -> str:
    "Markdown with links from names in backticks to their pages; code and links stay as they are."
    def span(m: re.Match) -> str:
        name = NAME.fullmatch(m[0])
        return lookup._link_sym(name) if name else m[0]
    parts = FENCED.split(md)
    parts[::2] = [re.sub(r"^(?! {4}).*", lambda line: SPANS.sub(span, line[0]), part, flags=re.M)
                  for part in parts[::2]]
    return "".join(parts)


def fields(md: str) -> str:
    "The fields of the named tuple or dataclass that `show_doc` documents, as its source has them."
    if not (found := SOURCE.search(md)): return ""
    made = getattr(import_module(found[1].replace("/", ".")), found[2])
    if not (hasattr(made, "_fields") or is_dataclass(made)): return ""
    source = getsource(made)
    node = ast.parse(source).body[0]
    lines = [source.splitlines()[part.lineno - 1] for part in node.body
             if isinstance(part, ast.AnnAssign) and "ClassVar" not in ast.unparse(part.annotation)]
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    head = f"class {found[2]}({bases}):" if bases else f"class {found[2]}:"
    return "\n".join(["", "```python", head, *lines, "```", ""])


def signature(md: str, shown: bool) -> str:
    "The text of `show_doc`: no signature where the source is shown; fields in place of it."
    if shown: return BLOCK.sub("", md)
    def block(m: re.Match) -> str:
        return fields(md) or MODULES.sub("", m[0])*("*args, **kwargs" not in m[0])
    return BLOCK.sub(block, md)


def is_folded(cell) -> bool:
    "Is the source shown on a click alone: `#| fold`, or Quarto's `#| code-fold: true`?"
    return "fold" in cell.directives_ or cell.directives_.get("code-fold:") == ["true"]


class documented(Processor):
    "Each text of `show_doc` stands above its source, in the source's order; sources are folded."
    def begin(self) -> None:
        cells = self.nb.cells
        for i in reversed(range(len(cells))):
            if "exports" not in cells[i].directives_: continue
            end = i + 1
            while end < len(cells) and self.belongs(cells[end]): end += 1
            for cell in cells[i + 1:end]: cell.moved, cell.shown = True, not is_folded(cells[i])
            cells[i:end] = cells[i + 1:end][::-1] + cells[i:i + 1]

    def belongs(self, cell) -> bool:
        "Does the cell document the source above it, and not one below, to which it was moved?"
        return getattr(cell, "has_sd", False) and not getattr(cell, "moved", False)

    def __call__(self, cell) -> None:
        folds(cell)
        for o in cell.get("outputs", []):
            if "text/markdown" in o.get("data", {}) and "show_doc(" in cell.source:
                md = signature("".join(o.data["text/markdown"]), getattr(cell, "shown", False))
                o.data["text/markdown"] = md.splitlines(keepends=True)


def summary(cell) -> str:
    "The line that a folded source stands under: the text after `#| fold`, or what it is."
    if given := cell.directives_.get("fold"): return " ".join(given)
    if cell.directives_.keys() & {"export", "exports"}:
        nodes = ast.parse(cell.source).body
        names = [name for node in nodes for name in
                 ([node.name] if hasattr(node, "name") else
                  [target.id for target in getattr(node, "targets", []) if hasattr(target, "id")])]
        return f"Source of {', '.join(names)}"
    if "fig-cap:" in cell.directives_: return "Code of the figure"
    return "Test" if TESTS.search(cell.source) else "Code"


def folds(cell) -> None:
    "`#| fold`, after which a text may stand, folds a source, an exported one too, in both builds."
    if cell.cell_type != "code" or not is_folded(cell): return
    if "code-summary:" in cell.directives_: return
    fold = "#| code-fold: true\n"*("fold" in cell.directives_)
    line = summary(cell).replace('"', "'")
    cell.source = f'{fold}#| code-summary: "{line}"\n{cell.source}'


def links(cell) -> None:
    "Links from names to their pages, in the text and in that of `show_doc`."
    lookup = NbdevLookup()
    if cell.cell_type == "markdown": cell.source = linked(cell.source, lookup)
    for o in cell.get("outputs", []):
        if "text/markdown" in o.get("data", {}):
            md = linked("".join(o.data["text/markdown"]), lookup)
            o.data["text/markdown"] = md.splitlines(keepends=True)
