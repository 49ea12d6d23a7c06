"Execute notebooks in place, so that every stored output is what that run produced."
import argparse
import ast
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # tiny nets want one thread
os.environ["SOURCE_DATE_EPOCH"] = "0"  # no dates in figures: the same run stores the same bytes

from apart import in_a_process
from execnb.nbio import read_nb, write_nb
from execnb.shell import CaptureShell
from fastcore.xtras import working_directory
from nbdev.clean import nbdev_clean
from nbdev.config import get_config
from nbdev.doclinks import nbdev_export
from nbdev.process import extract_directives


def skipped(cell, slow: bool) -> bool:
    "Is this a cell that does not run, and so keeps the outputs it has?"
    if cell.cell_type != "code" or "nbdev_export(" in cell.source: return True
    directives = extract_directives(cell, remove=False)
    never = directives.get("eval:", [""])[0].lower() == "false"
    return never or (not slow and bool(directives.keys() & get_config().tst_flags.split()))


def tree(node) -> list | str:
    "The syntax tree of code without imports, the same in all versions of Python."
    if not isinstance(node, ast.AST): return repr(node)
    # a name means the same wherever it comes from; some versions end an f-string with an empty part
    fields = {name: value for name, value in ast.iter_fields(node)
              if name not in ("ctx", "kind", "type_comment") and value not in (None, [])}
    def counts(v):
        empty = isinstance(node, ast.JoinedStr) and getattr(v, "value", None) == ""
        return not isinstance(v, (ast.Import, ast.ImportFrom)) and not empty
    def part(value):
        return [tree(v) for v in value if counts(v)] if isinstance(value, list) else tree(value)
    return [type(node).__name__, *([name, part(value)] for name, value in fields.items())]


def digests(nb) -> dict[str, str]:
    """A digest of the code that the stored outputs should come from: of slow cells and of others.

    Layout and comments are no code; and a name means the same wherever it is imported from.
    """
    code = [cell for cell in nb.cells if not skipped(cell, slow=True)]
    parts = {"live": [cell for cell in code if not skipped(cell, slow=False)],
             "slow": [cell for cell in code if skipped(cell, slow=False)]}
    def short(cells):
        code = tree(ast.parse("\n".join(cell.source for cell in cells)))
        return sha256(repr(code).encode()).hexdigest()[:16]
    return {name: short(cells) for name, cells in parts.items() if cells}


def shell(path: Path) -> CaptureShell:
    "A shell as `nbdev_test` makes it, in which the ids of SVG figures do not vary from run to run."
    res = CaptureShell(path)
    res.run("import matplotlib; matplotlib.rcParams['svg.hashsalt'] = 'mae_nb'; del matplotlib")
    return res


def execute(path: Path, slow: bool) -> tuple:
    "The notebook with the outputs of a run, the seconds it took and the traceback, if it failed."
    # the library beside the notebooks, wherever they lie
    sys.path.insert(0, str(get_config().config_path))
    start, nb, sh = time.perf_counter(), read_nb(path), shell(path)
    for cell in nb.cells:
        if not skipped(cell, slow): cell.outputs = []
    try:
        with working_directory(path.parent):
            sh.run_all(nb, exc_stop=True, preproc=lambda cell: skipped(cell, slow))
    except Exception: return nb, time.perf_counter() - start, sh.prettytb(fname=path)
    for cell in nb.cells:  # progress bars and warnings go to stderr, and are no result
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    return nb, time.perf_counter() - start, ""


def run_nb(path: Path, slow: bool) -> tuple[Path, float, str]:
    "Run the notebook and store its outputs; returns path, seconds and the traceback, if it failed."
    nb, seconds, error = execute(path, slow)
    if not error:
        ran = digests(nb)
        if "slow" in ran and not slow: ran["slow"] = nb.metadata.get("ran", {}).get("slow", "never")
        nb.metadata["ran"] = ran  # for `make test` to see when the code has changed since
        write_nb(nb, path)
        nbdev_clean(fname=str(path))
    return path, seconds, error


def main(notebooks: list[Path], slow: bool) -> int:
    "Export, then run each notebook in its own process; one that fails is left as it was."
    nbdev_export()
    failed = 0
    # two notebooks at a time, each in a process that may start others
    with ThreadPoolExecutor(2) as turns:
        def done(path): return in_a_process(run_nb, path.resolve(), slow)
        for path, seconds, error in turns.map(done, notebooks):
            said = f"{'FAILED' if error else 'ran'} {path.name} in {seconds:.1f} s\n{error}"
            print(said, end="", flush=True)
            failed += bool(error)
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--slow", action="store_true",
                        help="run the cells marked `#| slow`, too, whose outputs are else kept")
    args = parser.parse_args()
    sys.exit(bool(main(args.notebooks, args.slow)))
