"""Every check of `make test`, one after the other; `tools/check.py NAME...` runs only those named.

A check prints what is wrong and returns how many of its tests passed, failed and were skipped. With
NO_SKIPS set, as in CI, a skipped test counts as failed.
"""
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from email import message_from_bytes
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from apart import in_a_process

os.environ["OMP_NUM_THREADS"] = "1"  # tiny nets want one thread
ROOT = Path(__file__).resolve().parents[1]
REQUIRED = {"torch", "numpy", "matplotlib", "fastcore"}
LONGEST = ["training/10_train", "results/01_figures", "results/03_setpoint", "start/06_collapse",
           "index"]  # these run first, for two processes to end together
SENTENCES = """from importlib.resources import files; from mae_nb.all import corpus
corpus(); (files('mae_nb')/'corpora'/'LICENSE.txt').read_text()"""
REQUIRES = r"from importlib.metadata import requires; print(*requires('mae_nb'), sep='\n')"
MODULES = r"from importlib.metadata import files; print(*files('mae_nb'), sep='\n')"
SHIPPED = {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "settings.ini", "setup.py",
           "mae_nb/corpora/LICENSE.txt"}  # with the source distribution
SIDEWAYS = .05  # of the blocks of code on all pages, in a window of 1440 pixels
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
Tally = tuple[int, int, int]  # passed, failed, skipped
NOTEBOOKS = sorted(path for path in (ROOT/"nbs").rglob("*.ipynb")
                   if not path.parent.name.startswith((".", "_")))  # no copies that an editor made


def run(*command, cwd: Path = ROOT, **env) -> str:
    "The command's output; a command that fails prints it, and raises."
    done = subprocess.run(command, cwd=cwd, env=os.environ | env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode: print(done.stdout)
    done.check_returncode()
    return done.stdout


def python(*args, **kwargs) -> str: return run(sys.executable, *args, **kwargs)


def files() -> list[Path]:
    "The files that git has or would take; without git, those that .gitignore does not name."
    if (ROOT/".git").exists():
        listed = run("git", "ls-files", "-co", "--exclude-standard").splitlines()
        return [path for path in map(Path, listed) if (ROOT/path).is_file()]
    made = [line.rstrip("/") for line in (ROOT/".gitignore").read_text().splitlines()]
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [path for path in paths
            if not any(fnmatch(part, pattern) for part in path.parts for pattern in made)]


def tally(*passed: bool) -> Tally:
    "How many are true, and how many are not; none is skipped."
    return sum(passed), len(passed) - sum(passed), 0


def in_words(passed: int, failed: int, skipped: int) -> str:
    "A tally as it is printed."
    return f"{passed} passed, {failed} failed" + f", {skipped} skipped"*bool(skipped)


def in_numbers(line: str) -> Tally:
    "The tally that was printed."
    passed, failed, skipped = re.fullmatch(r"(\d+) passed, (\d+) failed(?:, (\d+) skipped)?",
                                           line).groups(default=0)
    return int(passed), int(failed), int(skipped)


def in_step() -> Tally:
    "mae_nb/ and README.md are what the notebooks make, and the notebooks are clean"
    with TemporaryDirectory() as folder:
        copy, before = Path(folder), {path: (ROOT/path).read_bytes() for path in files()}
        for path in before:
            (copy/path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT/path, copy/path, follow_symlinks=False)
            if path.parts[0] == "mae_nb" and path.suffix == ".py": (copy/path).unlink()
        python("-B", "tools/export.py", cwd=copy)
        after = {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*")
                 if path.is_file()}
    for path in sorted(before.keys() - after.keys()):
        print(f"{path}: no notebook makes it; delete it")
    changed = [path for path in sorted(after) if before.get(path) != after[path]]
    for path in changed: print(f"{path}: differs from what the notebooks make; run `make export`")
    return tally(before.keys() == after.keys() and not changed)


def address(nb: Path) -> str:
    "The path of a notebook, as in nbs/theory/01_elbo.ipynb."
    return nb.relative_to(ROOT).as_posix()


def modules() -> Tally:
    "no two notebooks export to the same module, and no two pages have the same address"
    from readme import page_name
    name = re.compile(r'"#\| *default_exp (\S+?)(?:\\n)?"')
    names = Counter(found for nb in NOTEBOOKS for found in name.findall(nb.read_text("utf-8")))
    pages = Counter(page_name(address(nb)) for nb in NOTEBOOKS)
    twice = [[found for found, n in many.items() if n > 1] for many in (names, pages)]
    for found in twice[0]: print(f"{found} is the default_exp of more than one notebook")
    for found in twice[1]: print(f"{found} is the page of more than one notebook")
    return tally(not twice[0], not twice[1])


def rooms() -> Tally:
    "sizes, directions, names, tests and widths are as planned: the limits stand in tools/rooms.py"
    from rooms import main as measured
    return tally(*measured())


def portable() -> Tally:
    "no file names a place on one machine or a registry's host, and no notebook is over 2 MB"
    place = re.compile(rb"(?<![\w+/.-])/(root|work|tmp|home)/"
                       rb"|(pypi|pythonhosted|npmjs)\.org|download\.pytorch")
    found = [(path, m[0].decode()) for path in files()
             if (m := place.search((ROOT/path).read_bytes()))]
    for path, what in found: print(f"{path} contains {what}")
    large = [address(nb) for nb in NOTEBOOKS if nb.stat().st_size > 2**21]
    for name in large: print(f"{name} is over 2 MB")
    return tally(not found, not large)


def outputs() -> Tally:
    "the stored outputs come from the code that stands above them"
    from execnb.nbio import read_nb
    from run_nbs import digests
    old = [address(nb) for nb in NOTEBOOKS
           if (notebook := read_nb(nb)).metadata.get("ran") != digests(notebook)]
    for name in old:
        print(f"{name} was changed since it ran: `make run NB={name}`, "
              "with SLOW=1 where a slow cell changed")
    return tally(not old)


def ruff() -> Tally:
    "ruff, on library, notebooks, tests and tools"
    python("-m", "ruff", "check", ".")
    return tally(True)


def mypy() -> Tally:
    "mypy, on the library"
    python("-m", "mypy")
    return tally(True)


def test_notebook(path: Path) -> tuple[Path, str, float]:
    "What `nbdev_test` does for one notebook, and whether it gives what it stores."
    from stale import rerun
    return path, *rerun(path)


def in_turn(nb: Path) -> int:
    "When a notebook's turn comes: the longest ones first."
    name = nb.relative_to(ROOT/"nbs").with_suffix("").as_posix()
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def notebooks() -> Tally:
    "nbdev_test: every notebook runs, its asserts hold, and it gives what it stores"
    results, turns = [], sorted(reversed(NOTEBOOKS), key=in_turn)
    with ThreadPoolExecutor(2) as pool:  # two notebooks at a time, which may start processes
        for done in as_completed([pool.submit(in_a_process, test_notebook, nb) for nb in turns]):
            path, wrong, seconds = done.result()
            how = "FAILED" if wrong else "passed"
            said = f"{address(path)}: {how} in {seconds:.0f} s"
            print(said + f"\n{wrong}"*bool(wrong), flush=True)
            results.append(not wrong)
    return tally(*results)


def run_pytest(*what: str) -> Tally:
    "The tally of pytest's tests; prints its output where some failed, and why some were skipped."
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-rs", *what], cwd=ROOT, text=True,
                          stdout=subprocess.PIPE)
    if done.returncode: print(done.stdout)
    why: Counter[str] = Counter()
    for n, reason in re.findall(r"^SKIPPED \[(\d+)\] \S+: (.*)", done.stdout, re.M):
        why[reason] += int(n)
    for reason, n in why.items(): print(f"{n} skipped: {reason}")
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|error|skipped)",
                                                     done.stdout.splitlines()[-1])}
    passed, skipped = counts.pop("passed", 0), counts.pop("skipped", 0)
    return passed, max(sum(counts.values()), int(done.returncode != 0)), skipped


def pytest() -> Tally:
    "pytest, on what the notebooks cannot test"
    return run_pytest("-n", "2")


def docs() -> Tally:
    "the docs build, with no broken reference, in under a minute"
    start = time.perf_counter()
    python("tools/docs.py")
    print(f"{(seconds := time.perf_counter() - start):.0f} s")
    return tally(True, seconds < 60)


def find_browser() -> str | None:
    "The first browser on the PATH that runs: Ubuntu's `chromium-browser` may be an advice alone."
    for path in filter(None, map(shutil.which, BROWSERS)):
        try: subprocess.run([path, "--version"], check=True, capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError): continue
        return path


def install_browser() -> None:
    "Chromium from the distribution, where root runs Debian or Ubuntu, as in most containers."
    try: system = platform.freedesktop_os_release()
    except OSError: return
    like = {system["ID"], *system.get("ID_LIKE", "").split()}
    if os.geteuid() or not like & {"debian", "ubuntu"} or not shutil.which("apt-get"): return
    print("No browser found: installing the package `chromium` with apt-get", flush=True)
    for command in ("update",), ("install", "-y", "--no-install-recommends", "chromium"):
        done = subprocess.run(["apt-get", "-qq", *command], text=True, capture_output=True,
                              env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    if done.returncode: print("It could not be installed:", *done.stderr.splitlines()[-1:])


def site() -> Tally:
    "the docs in a real browser: every page, link, picture, formula and slider; skipped without one"
    if not find_browser(): install_browser()
    with TemporaryDirectory() as folder:
        os.environ["SCROLLING"] = str(counts := Path(folder)/"counts")
        counts.touch()
        try: passed, failed, skipped = run_pytest("-n", "2", "tests/browser.py")
        finally: del os.environ["SCROLLING"]
        pages = [json.loads(line) for line in counts.read_text("utf-8").splitlines()]
    if not pages: return passed, failed, skipped
    fit = scrolling(pages)
    return passed + fit, failed + (not fit), skipped


def scrolling(pages: list[tuple[str, int, int]]) -> bool:
    "Do few enough blocks of code scroll sideways, counted as (page, those that do, all)? Says so."
    wide, blocks = (sum(page[i] for page in pages) for i in (1, 2))
    share = wide/max(blocks, 1)
    print(f"{wide} of {blocks} blocks of code scroll sideways at 1440 pixels, or {share:.1%}; "
          f"allowed are {SIDEWAYS:.0%}")
    most = sorted(pages, key=lambda page: -page[1])[:10]
    if share > SIDEWAYS: print(*(f"  {name}: {n} of {of}" for name, n, of in most if n), sep="\n")
    return share <= SIDEWAYS


def valid(metadata: bytes) -> bool:
    "Does an index take these metadata, and do links in the description lead there from anywhere?"
    from packaging.metadata import ExceptionGroup, Metadata
    try: Metadata.from_email(metadata, validate=True)
    except ExceptionGroup as error:
        print(*error.exceptions, sep="\n")
        return False
    text = message_from_bytes(metadata).get_payload()
    near = re.findall(r"\]\((?!https://|#)([^)]*)", text)
    for link in near: print(f"the description links to {link}, which is not found from an index")
    return not near and "# mae_nb\n" in text


def shipped(sdist: Path) -> tuple[bool, bool]:
    "Are the metadata of a source distribution valid, and does it hold what it should and no more?"
    with tarfile.open(sdist) as tar:
        inside = {member.name.partition("/")[2]: member for member in tar if member.isfile()}
        sound = valid(tar.extractfile(inside["PKG-INFO"]).read())
    lacking = (SHIPPED | own_modules()) - inside.keys()
    extra = [name for name, member in inside.items() if member.size > 2**20
             or re.match(r"(nbs|tests|tools|bench)/|.*\.(ipynb|pyc)$", name)]
    for name in sorted(lacking): print(f"{sdist.name} lacks {name}")
    for name in extra: print(f"{sdist.name} holds {name}, which is too large or not for users")
    return sound, not lacking and not extra


def own_modules() -> set[str]:
    "The modules of the library, as in mae_nb/elbo.py."
    return {path.relative_to(ROOT).as_posix() for path in (ROOT/"mae_nb").rglob("*.py")}


def wheel() -> Tally:
    "what is published holds what it should, in a form that an index takes; the wheel works alone"
    with TemporaryDirectory() as folder:
        dist, venv, empty = (Path(folder)/name for name in ("dist", "venv", "empty"))
        empty.mkdir()
        python("-m", "build", "--outdir", dist)  # the wheel from the unpacked source distribution
        (source,), (built,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
        sources = shipped(source)
        with ZipFile(built) as archive:
            name, = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            sound = valid(archive.read(name))
        python("-m", "venv", venv)
        user, path = venv/"bin"/"python", f"{venv/'bin'}{os.pathsep}{os.environ['PATH']}"
        def install(*what): run(user, "-m", "pip", "install", "-q", "--no-compile", *what)
        def smoke(script="wheel_smoke.py", *args):
            print(run(user, "-I", ROOT/"tests"/script, *args, cwd=empty, PATH=path,
                      OMP_NUM_THREADS="1"), end="")
        install("-c", ROOT/"constraints.txt", built)
        listed = run(user, "-c", REQUIRES).splitlines()
        brought = {re.match(r"[\w-]+", line)[0] for line in listed if "extra ==" not in line}
        if brought != REQUIRED: print(f"the wheel requires {brought}, not {REQUIRED}")
        there = set(run(user, "-I", "-c", MODULES, cwd=empty).splitlines())
        own = own_modules()
        for name in sorted(own - there): print(f"the wheel lacks {name}")
        run(user, "-I", "-c", SENTENCES, cwd=empty)
        smoke()
        install("--upgrade", "fastcore>=2")
        smoke()
        install("-c", ROOT/"constraints.txt", f"{built}[save]")
        smoke("first_use.py", ROOT/"README.md")
    return tally(*sources, sound, brought == REQUIRED, own <= there, True, True, True)


CHECKS = [in_step, modules, rooms, portable, outputs, ruff, mypy, notebooks, pytest, docs, site,
          wheel]


def begun_now(check: Callable[[], Tally]) -> Callable[[], Tally]:
    "A check that begins now, in its own process, and ends when called: `wheel` awaits downloads."
    process = subprocess.Popen([sys.executable, __file__, check.__name__], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    def wait() -> Tally:
        *said, last = process.communicate()[0].rstrip().splitlines()
        print(*said[2:-1], sep="\n")
        return in_numbers(last)
    return wait


def main(names: list[str]) -> int:
    "Run the checks, and print the sum of their tallies last."
    total = (0, 0, 0)
    chosen = [check for check in CHECKS if not names or check.__name__ in names]
    begun = {wheel: begun_now(wheel)} if wheel in chosen and len(chosen) > 1 else {}
    for check in chosen:
        print(f"\n{check.__name__}: {check.__doc__}", flush=True)
        start = time.perf_counter()
        try: found = begun.get(check, check)()
        except Exception as error:
            shown = isinstance(error, subprocess.CalledProcessError)  # `run` printed its output
            if not shown: traceback.print_exc()
            found = tally(False)
        if os.environ.get("NO_SKIPS"): found = found[0], found[1] + found[2], 0
        print(f"{in_words(*found)} in {time.perf_counter() - start:.0f} s", flush=True)
        total = tuple(map(sum, zip(total, found)))
    print(f"\n{in_words(*total)}")
    return total[1]


if __name__ == "__main__": sys.exit(bool(main(sys.argv[1:])))
