"""Which one-line breaks of the library do its chapters notice?

`tools/breaks.py [--own] [TEXT...]` tries those of breaks.txt that contain a TEXT. A break is made
in a copy of the tree, in the module and in the chapter it comes from. A chapter notices it when one
of its cells raises; cells that draw are left out. The module's own chapter runs first. If it
noticed nothing, those that import the module follow, and then the others above it, up to training.
"""
import argparse
import os
import re
import shutil
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # tiny nets want one thread
os.environ["MPLBACKEND"] = "agg"

from execnb.nbio import read_nb, write_nb
from rooms import ROOMS, ROOT, chapters, file_of, place, short, used_in
from run_nbs import execute
from stale import differences

for slow in ("matplotlib.pyplot", "pandas", "scipy.integrate", "scipy.optimize", "scipy.stats",
             "torch.distributions"):
    import_module(slow)  # once: each chapter runs in a fork of this process

CHAPTERS = chapters()
QUICK = ROOMS[:ROOMS.index("use")]  # the rooms whose chapters run, besides a module's own
SECONDS = 300  # that a chapter may take; one without end is noticed, too


class Break(NamedTuple):
    "A change of one line."
    module: str
    old: str
    new: str
    def __str__(self): return f"{self.module}: {self.old}  =>  {self.new}".replace("\n", "\\n")


def breaks(path: Path = ROOT/"tools"/"breaks.txt") -> list[Break]:
    "Those listed: `[module]`, then lines of `old  =>  new`, in which \\n is a new line."
    found, module = [], ""
    for line in filter(None, map(str.strip, path.read_text(encoding="utf-8").splitlines())):
        if line.startswith("# "): continue
        if line.startswith("[") and line[1:-1] in CHAPTERS:
            module = line[1:-1]
            continue
        old, new = (line + " ").split("  => ")
        found.append(Break(module, *(text.strip().replace("\\n", "\n") for text in (old, new))))
    return found


def places(text: str, old: str) -> list[re.Match]:
    "Where `old` stands in `text`, however its lines are wrapped."
    return list(re.finditer(r"\s*".join(map(re.escape, re.findall(r"\w+|[^\w\s]", old))), text))


def once(text: str, old: str, new: str) -> str:
    "`text` with `old` replaced, which occurs in it once."
    found = places(text, old)
    if len(found) != 1: raise ValueError(f"{old!r} occurs {len(found)} times")
    return text[:found[0].start()] + new + text[found[0].end():]


def later(module: str) -> list[Path]:
    "The chapters that stand above a module's own, those that import it first."
    own = CHAPTERS[module]
    found = [path for path in CHAPTERS.values()
             if place(path) > place(own) and ROOMS[place(path)[0]] in QUICK]
    return sorted(found, key=lambda path: all(other != module for other, _, _ in used_in(path)))


def make_copy(folder: Path, broken: Break | None):
    "What the chapters need, with the break in it."
    unused = shutil.ignore_patterns("__pycache__", "images", ".*")
    for name in ("mae_nb", "nbs"): shutil.copytree(ROOT/name, folder/name, ignore=unused)
    for name in ("settings.ini", "pyproject.toml"): shutil.copy(ROOT/name, folder/name)
    if broken is None: return
    module, chapter = (folder/path.relative_to(ROOT)
                       for path in (file_of(broken.module), CHAPTERS[broken.module]))
    text = once(module.read_text(encoding="utf-8"), broken.old, broken.new)
    module.write_text(text, encoding="utf-8")
    nb = read_nb(chapter)
    exported = (c for c in nb.cells if c.source.startswith("#| export"))
    cell, = (c for c in exported if places(c.source, broken.old))
    cell.source = once(cell.source, broken.old, broken.new)
    write_nb(nb, chapter)


def draws(cell) -> bool:
    "Is a figure what the cell makes?"
    return (cell.cell_type == "code" and not cell.source.startswith("#| export")
            and ("plt.subplots(" in cell.source or "Explorable(" in cell.source))


def in_copy(folder: Path, chapter: Path, found) -> None:
    "Run a chapter of a copy; sends whether it failed, and where, or which stored outputs differ."
    os.chdir(folder)
    signal.alarm(SECONDS)
    path = folder/chapter.relative_to(ROOT)
    stored = read_nb(path)
    for cell in stored.cells:
        if draws(cell): cell.source = "#| eval: false"
    write_nb(stored, path)
    nb, _, error = execute(path, slow=False)
    wrong = [cell for cell in nb.cells if error
             and any(o.output_type == "error" for o in cell.get("outputs", []))]
    if error:
        found.send((True, where(wrong[0]) if wrong else error[-200:]))
        return
    live = [(a, b) for a, b in zip(stored.cells, nb.cells) if a.cell_type == "code"
            and not a.source.startswith("#| eval")]
    found.send((False, ", ".join(where(b) for a, b in live if differences(a.outputs, b.outputs))))


def where(cell) -> str:
    "A cell, by its id and its first line that is no directive."
    line = next((l for l in cell.source.splitlines() if not l.startswith("#|")), "")
    said = next((f" [{o.ename}]" for o in cell.outputs if o.output_type == "error"), "")
    return f"{cell.id} {line[:60]!r}{said}"


def run_chapter(folder: Path, chapter: Path) -> tuple[bool, str]:
    "Did the chapter fail, and where; in a process of its own."
    here, there = get_context("fork").Pipe(duplex=False)
    process = get_context("fork").Process(target=in_copy, args=(folder, chapter, there))
    process.start()
    there.close()
    try: return here.recv()
    except EOFError: return True, f"took over {SECONDS} s, or ended"
    finally: process.join()


def notice(broken: Break, own: bool) -> tuple[str, float]:
    "Who noticed a break, and the seconds it took."
    start, differ, first = time.perf_counter(), [], CHAPTERS[broken.module]
    with TemporaryDirectory() as name:
        make_copy(folder := Path(name).resolve(), broken)
        for chapter in [first] if own else [first, *later(broken.module)]:
            failed, what = run_chapter(folder, chapter)
            if failed: return f"{short(chapter)} {what}", time.perf_counter() - start
            if what: differ.append(f"{short(chapter)} {what}")
    return ("UNNOTICED" + f" (stored output differs: {'; '.join(differ)})"*bool(differ),
            time.perf_counter() - start)


def whole(chapter: Path) -> str:
    "What fails in a chapter where nothing is broken: nothing, or no break can be tried."
    with TemporaryDirectory() as name:
        make_copy(folder := Path(name).resolve(), None)
        failed, what = run_chapter(folder, chapter)
    return f"{short(chapter)} {what}"*failed


def main(only: list[str], own: bool) -> int:
    "Try the breaks, two at a time; returns 1 if fewer than 95 of 100 are noticed."
    start, unnoticed = time.perf_counter(), 0
    tried = [b for b in breaks() if not only or any(text in str(b) for text in only)]
    for b in tried: once(file_of(b.module).read_text(encoding="utf-8"), b.old, b.new)
    with ProcessPoolExecutor(2, get_context("fork")) as turns:
        failed = [*filter(None, turns.map(whole, sorted({CHAPTERS[b.module] for b in tried})))]
        if failed: sys.exit("Fails without a break: " + "; ".join(failed))
        for b, (who, seconds) in zip(tried, turns.map(partial(notice, own=own), tried)):
            unnoticed += who.startswith("UNNOTICED")
            print(f"{b}\n    {who}; {seconds:.0f} s", flush=True)
    print(f"{len(tried) - unnoticed} of {len(tried)} breaks noticed, in "
          f"{time.perf_counter() - start:.0f} s")
    return int(unnoticed > .05*len(tried))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="parts of breaks; all, if none is named")
    parser.add_argument("--own", action="store_true", help="run the module's own chapter only")
    args = parser.parse_args()
    sys.exit(main(args.only, args.own))
