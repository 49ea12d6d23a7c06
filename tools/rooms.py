"""Does the project keep its plan? `tools/rooms.py` prints figures, limits, and what breaks them.

A room is a folder of notebooks; a notebook is a module, or a chapter without one. Its place is that
of the room in `ROOMS`, then the number of the file: it imports from lower places alone.
"""
import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from execnb.nbio import read_nb

ROOT = Path(__file__).resolve().parents[1]
NBS, LIBRARY = ROOT/"nbs", ROOT/"mae_nb"
ROOMS = ["common", "theory", "nets", "model", "training", "use", "results", "reference", "start",
         ""]  # the last for nbs/index.ipynb
READERS = {"results", "start", ""}  # rooms whose chapters may use whatever a user may

LINES = 300  # of a module
PUBLIC = 74  # names of mae_nb.all, and so of mae_nb
UNTESTED = 120  # lines of exported code without a test cell between
COLUMNS = 100
LONG = 15  # lines of a long cell
LIGHT = "heads"  # a module that loads neither of these
HEAVY = ("matplotlib", "mae_nb.train", "mae_nb.training", "mae_nb.figures")
DOORS = ("all", "__init__")  # modules that hold other modules' names
# Names without underscore that no other module uses and mae_nb.all lacks, by why they have none.
ALLOWED = {
    "shown and cited as part of the theory":
        "infomax_bound Sandwich sandwich ModelTerms Quadrature annealed_information",
    "named by the documentation of an argument": "CONTROLS LIKELIHOODS",
    "subclassed by users": "Head WordNet",
    "written into saved models as the name of a class": "Pictures Pixels MaskedConv Block "
                                                        "RecentCodes",
    "an extra with a page of its own": "MutualCodes Explorable",
    "draws the logo on the page about the site": "svg_tree",
    "called by readers of a chapter": "read_idx words_of python_sentences normal_pdf "
                                      "figure_4_data figure_5_data figure_6_data",
    "switched off by the chapter on costs": "keep_memory python_state",
    "one of a kind, which users choose from":
        "FixedWeight Annealing CyclicalAnnealing FreeBitsEach Capacity ControlVAE LeastRate "
        "PosterPenalty Held LaggingEncoder BatchNormMeans CommittedRate WordDropout Window",
}
UNUSED = {name for names in ALLOWED.values() for name in names.split()}


class Figure(NamedTuple):
    "A measured number, its limit if it has one, and what is over it."
    what: str
    value: float
    limit: float | None = None
    over: list[str] = []

    @property
    def held(self) -> bool: return self.limit is None or self.value <= self.limit

    def __str__(self):
        number = f"{self.value:g}" if isinstance(self.value, int) else f"{self.value:.3f}"
        limit = "" if self.limit is None else f"{self.limit:g}"
        return f"{self.what:72} {number:>7} {limit:>7}{'' if self.held else '  OVER'}"


def notebooks() -> list[Path]:
    "All notebooks, in the order of their places."
    return sorted((path for path in NBS.rglob("*.ipynb") if path.parent.name[0] not in "._"),
                  key=place)


def place(path: Path) -> tuple[int, str]:
    "The room's place in `ROOMS`, and the file's name, which begins with its number."
    return ROOMS.index(path.parent.relative_to(NBS).as_posix().strip(".")), path.name


@cache
def cells(path: Path) -> list:
    "The code cells of a notebook."
    return [cell for cell in read_nb(path).cells if cell.cell_type == "code"]


def module_of(path: Path) -> str | None:
    "The module that a notebook exports to, as `training.step`; None for a chapter without one."
    found = (re.search(r"^#\| *default_exp +(\S+)", cell.source, re.M) for cell in cells(path))
    return next((m[1] for m in found if m), None)


@cache
def chapters() -> dict[str, Path]:
    "The notebook of each module, in the order of their places."
    return {module: path for path in notebooks() if (module := module_of(path))}


def file_of(module: str) -> Path: return LIBRARY.joinpath(*module.split(".")).with_suffix(".py")


def short(path: Path) -> str: return path.relative_to(ROOT).as_posix()


def code_of(cell) -> list[str]:
    "The lines of a cell that are code or comments: no directives, nothing blank."
    return [line for line in cell.source.splitlines() if line.strip() and not line.startswith("#|")]


def is_exported(cell) -> bool: return bool(re.search(r"^#\| *exports?\b", cell.source, re.M))


def parsed(source: str) -> ast.Module:
    "The syntax tree of a cell, whose lines for the shell are left out."
    return ast.parse(re.sub(r"^[ \t]*[%!].*$", "pass", source, flags=re.M))


def is_imports(cell) -> bool:
    "Does the cell import, and nothing else?"
    return all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in parsed(cell.source).body)


def is_test(cell) -> bool:
    "Does the cell check something each time the notebook runs?"
    checks = r"^ *assert |\btest_\w+\(|\bassert_\w+\(|\braises\(|ExceptionExpected|: assert "
    left_out = re.search(r"^#\| *(slow|eval: *false)", cell.source, re.M)
    return not is_exported(cell) and not left_out and bool(re.search(checks, cell.source, re.M))


def walk(tree: ast.AST) -> Iterator[ast.AST]:
    "The nodes of a tree, but for what type checkers alone see."
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING": continue
        yield node
        yield from walk(node)


def imported(tree: ast.Module, package: str = "") -> Iterator[tuple[str, str, bool]]:
    "The library's modules that are imported, names of them ('' for the whole), and if at the top."
    top = set(map(id, tree.body))
    for node in walk(tree):
        at_top = id(node) in top
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("mae_nb."): yield alias.name[7:], "", at_top
        if not isinstance(node, ast.ImportFrom): continue
        outer = package.split(".")[:-1] if package else []
        parts = ["mae_nb", *outer][:len(outer) + 2 - node.level] if node.level else []
        full = ".".join([*parts, *filter(None, [node.module])])
        if full.partition(".")[0] != "mae_nb": continue
        for alias in node.names:
            module = full.removeprefix("mae_nb").strip(".")
            inner = f"{module}.{alias.name}".strip(".")
            if inner in chapters(): yield inner, "", at_top
            elif not alias.name.startswith("__"): yield module or "all", alias.name, at_top


@cache
def used_by(module: str) -> list[tuple[str, str, bool]]:
    "What a module imports from the others."
    return list(imported(ast.parse(file_of(module).read_text(encoding="utf-8")), module))


@cache
def used_in(path: Path) -> list[tuple[str, str, bool]]:
    "What the cells of a notebook import from the library."
    return [each for cell in cells(path) for each in imported(parsed(cell.source))]


def public_names(module: str) -> list[str]:
    "The names in a module's `__all__`."
    for node in ast.parse(file_of(module).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def fresh(code: str):
    "What a fresh process finds out, as JSON."
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    if done.returncode: raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def loaded(module: str) -> list[str]:
    "The modules that `import` of one brings."
    return fresh(f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))")


def sizes() -> Figure:
    "The longest module."
    lines = {module: len(file_of(module).read_text("utf-8").splitlines()) for module in chapters()}
    over = [f"{short(file_of(module))}: {n} lines" for module, n in lines.items() if n > LINES]
    return Figure("lines of the longest module", max(lines.values()), LINES, over)


def directions() -> tuple[Figure, Figure]:
    "Imports from a higher place: by modules, and by the cells of chapters."
    def higher(path: Path, used: list) -> list[tuple[str, bool]]:
        "What stands higher; a chapter that is no module may use whatever a user may."
        free = {"all"} if module_of(path) in (None, "__init__") else set()
        return sorted({(other, at_top) for other, _, at_top in used
                       if other in chapters().keys() - free
                       and place(chapters()[other]) > place(path)})
    of_modules = [f"{short(file_of(module))}: {other}{'' if at_top else ', inside a function'}"
                  for module, path in chapters().items()
                  for other, at_top in higher(path, used_by(module))]
    of_cells = [f"{short(path)}: {other}" for path in notebooks()
                for other, _ in higher(path, used_in(path))]
    return (Figure("imports of modules from a higher place", len(of_modules), 0, of_modules),
            Figure("imports of chapters' cells from a higher place", len(of_cells), 0, of_cells))


def light() -> Figure:
    "What importing one module, or the package, should not bring."
    heavy = [f"import mae_nb.{LIGHT} loads {name}" for name in loaded(f"mae_nb.{LIGHT}")
             if name in HEAVY or name.startswith("mae_nb.training.")]
    heavy += [f"import mae_nb loads {name}" for name in loaded("mae_nb")
              if name in ("torch", "numpy", *HEAVY)]
    what = f"modules that `import mae_nb.{LIGHT}` or `import mae_nb` should not load"
    return Figure(what, len(heavy), 0, heavy)


LAZY = """import json, mae_nb
from importlib import import_module
def names(): return {name: getattr(mae_nb, name, None) for name in before}
before = list(getattr(mae_nb, '__all__', []))
first = names()
every = import_module('mae_nb.all')
last = names()
def given(name): return first.get(name) is getattr(every, name) is last.get(name)
same = [name for name in every.__all__ if given(name)]
print(json.dumps([every.__all__, sorted(before), same]))"""


def doors() -> tuple[Figure, Figure]:
    "The names of mae_nb.all, and those that mae_nb gives otherwise."
    every, package, same = fresh(LAZY)
    wrong = [f"mae_nb.{name} is not that of mae_nb.all" for name in every if name not in same]
    wrong += [f"mae_nb.all lacks {name}" for name in package if name not in every]
    return (Figure("public names, those of mae_nb.all", len(every), PUBLIC),
            Figure("names that mae_nb and mae_nb.all do not share", len(wrong), 0, wrong))


def commands() -> set[str]:
    "The functions that settings.ini makes commands of."
    config = ConfigParser(delimiters=["="])
    config.read(ROOT/"settings.ini", encoding="utf-8")
    return set(re.findall(r":(\w+)$", config["DEFAULT"]["console_scripts"], re.M))


def privacy() -> tuple[Figure, Figure]:
    "Names in `__all__`s, and those of them that only their own module uses."
    names = {module: public_names(module) for module in chapters() if module not in DOORS}
    used = {(other, name) for module in chapters() for other, name, _ in used_by(module)}
    for path in notebooks():
        if ROOMS[place(path)[0]] in READERS and module_of(path) is None:
            used |= {(other, name) for other, name, _ in used_in(path)}
    free = commands() | UNUSED
    over = {module: [name for name in found if (module, name) not in used and name not in free]
            for module, found in names.items()}
    listed = [f"{short(file_of(module))}: {', '.join(found)}"
              for module, found in over.items() if found]
    total = sum(map(len, names.values()))
    return (Figure("names in the `__all__`s of all modules", total),
            Figure("names without underscore that no other module uses",
                   sum(map(len, over.values())), 0, listed))


def untested() -> tuple[Figure, Figure]:
    "Runs of exported code between test cells, and definitions to a group of them."
    runs, definitions, groups = [], 0, 0
    for path in chapters().values():
        lines, first = 0, ""
        kinds = [(is_exported(cell) and not is_imports(cell), is_test(cell), cell)
                 for cell in cells(path)]
        for exported, test, cell in kinds:
            if test:
                runs.append((lines, path, first))
                lines = 0
            if not exported: continue
            first = first if lines else cell.id
            lines += len(code_of(cell))
            definitions += sum(isinstance(node, (ast.FunctionDef, ast.ClassDef))
                               for node in ast.parse(cell.source).body)
        runs.append((lines, path, first))
        told = [test for exported, test, _ in kinds if exported or test]
        groups += sum(test for test, _ in groupby(told))
    over = [f"{short(path)}: {n} lines from cell {first}"
            for n, path, first in runs if n > UNTESTED]
    return (Figure("lines of the longest run of untested code", max(runs)[0], UNTESTED, over),
            Figure("exported definitions per group of tests", definitions/max(groups, 1)))


def without_all(text: str) -> list[str]:
    "The lines of a module, those of the `__all__` that nbdev writes as empty ones."
    return re.sub(r"(?<=^# %% auto #0\n)__all__ = [^]]*]", lambda m: "\n"*m[0].count("\n"), text,
                  flags=re.M).splitlines()


def widths() -> tuple[Figure, Figure]:
    "Wide lines of code, and long cells."
    wide = [f"{short(path)}: cell {cell.id}: {line[:60]}" for path in notebooks()
            for cell in cells(path) for line in code_of(cell) if len(line) > COLUMNS]
    folders = ("mae_nb", "tests", "tools", "bench")
    files = [path for folder in folders for path in sorted((ROOT/folder).rglob("*.py"))
             if path.name != "_modidx.py"]
    wide += [f"{short(path)}:{i}: {line.strip()[:60]}" for path in files
             for i, line in enumerate(without_all(path.read_text(encoding="utf-8")), 1)
             if len(line) > COLUMNS and not line.startswith("#|")]
    counts = [len(code_of(cell)) for path in notebooks() for cell in cells(path)]
    share = sum(n > LONG for n in counts)/len(counts)
    return (Figure(f"lines of code over {COLUMNS} columns", len(wide), 0, wide),
            Figure(f"share of code cells over {LONG} lines", share))


def figures() -> list[Figure]:
    "All figures."
    return [sizes(), *directions(), light(), *doors(), *privacy(), *untested(), *widths()]


def main(shown: int = 40) -> list[bool]:
    "Print the table, then what is over a limit; returns which figures hold."
    found = figures()
    print(f"{'':72}   value   limit", *found, sep="\n")
    for figure in found:
        if figure.held or not figure.over: continue
        print(f"\n{figure.what}:", *figure.over[:shown], sep="\n  ")
        if len(figure.over) > shown: print(f"  and {len(figure.over) - shown} more")
    return [figure.held for figure in found]


if __name__ == "__main__": sys.exit(not all(main(40 if "--all" not in sys.argv else 10**6)))
