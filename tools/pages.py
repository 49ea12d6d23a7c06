"""Steps of nbdev in preparing a notebook for the site, beside its own: `procs` of settings.ini.

Both builds take them, `make docs` and `nbdev_docs` with Quarto; the latter finds this file where
PYTHONPATH names its folder. They stand for `add_links`, `add_fold` and `mv_exports` of nbdev, which
link a name within a link, put a switch over each source, and show each signature twice.
"""
import ast
import re
from importlib import import_module
from inspect import getsource

from nbdev.doclinks import NbdevLookup
from nbdev.process import Processor

SPANS = re.compile(r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\([^()]*\)|``.+?``|`[^`]+`")  # links and code
NAME = re.compile(r"`([^`\s]+?)(?:\(\))?`")
FENCED = re.compile(r"(^ *```.*?^ *```)", flags=re.M | re.S)
BLOCK = re.compile(r"\n```python\n.*?\n```\n", flags=re.S)  # a signature
MODULES = re.compile(r"(?<![\w.'])(?:[a-z_]\w*\.)+(?=[A-Z]\w)")  # before a class
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
    "The fields of the named tuple that `show_doc` documents, as its source has them; or nothing."
    if not (found := SOURCE.search(md)): return ""
    made = getattr(import_module(found[1].replace("/", ".")), found[2])
    if not hasattr(made, "_fields"): return ""
    source = getsource(made)
    lines = [source.splitlines()[node.lineno - 1] for node in ast.parse(source).body[0].body
             if isinstance(node, ast.AnnAssign)]
    return "\n".join(["", "```python", f"class {found[2]}(NamedTuple):", *lines, "```", ""])


def signature(md: str, shown: bool) -> str:
    "The text of `show_doc`: no signature where the source is shown, fields for a named tuple."
    if shown: return BLOCK.sub("", md)
    def block(m: re.Match) -> str:
        return fields(md) if "*args, **kwargs" in m[0] else MODULES.sub("", m[0])
    return BLOCK.sub(block, md)


class documented(Processor):
    "Each text of `show_doc` stands above the source that it documents, in the source's order."
    def begin(self) -> None:
        cells = self.nb.cells
        for i in reversed(range(len(cells))):
            if "exports" not in cells[i].directives_: continue
            end = i + 1
            while end < len(cells) and self.belongs(cells[end]): end += 1
            for cell in cells[i + 1:end]: cell.shown = True
            cells[i:end] = cells[i + 1:end][::-1] + cells[i:i + 1]

    def belongs(self, cell) -> bool:
        "Does the cell document the source above it, and not one below, to which it was moved?"
        return getattr(cell, "has_sd", False) and not getattr(cell, "shown", False)

    def __call__(self, cell) -> None:
        for o in cell.get("outputs", []):
            if "text/markdown" in o.get("data", {}) and "show_doc(" in cell.source:
                md = signature("".join(o.data["text/markdown"]), getattr(cell, "shown", False))
                o.data["text/markdown"] = md.splitlines(keepends=True)


def links(cell) -> None:
    "Links from names to their pages, in the text and in that of `show_doc`."
    lookup = NbdevLookup()
    if cell.cell_type == "markdown": cell.source = linked(cell.source, lookup)
    for o in cell.get("outputs", []):
        if "text/markdown" in o.get("data", {}):
            md = linked("".join(o.data["text/markdown"]), lookup)
            o.data["text/markdown"] = md.splitlines(keepends=True)
