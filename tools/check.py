"""Every check of `make test`, one after the other; `tools/check.py NAME...` runs only those named.

A check prints what is wrong and returns how many of its tests passed, failed and were skipped. With NO_SKIPS set, as in CI, a skipped
test counts as failed.
"""
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatch
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ["OMP_NUM_THREADS"] = "1"  # tiny nets want one thread
ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT/"nbs").glob("*.ipynb"))
REQUIRED = {"torch", "numpy", "matplotlib", "fastcore"}
SENTENCES = "from importlib.resources import files; from mae_nb.all import corpus; corpus(); (files('mae_nb')/'corpora'/'LICENSE.txt').read_text()"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
Tally = tuple[int, int, int]  # passed, failed, skipped


def run(*command, cwd: Path = ROOT, **env) -> str:
    "The command's output; a command that fails prints it, and raises."
    done = subprocess.run(command, cwd=cwd, env=os.environ | env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode: print(done.stdout)
    done.check_returncode()
    return done.stdout


def python(*args, **kwargs) -> str: return run(sys.executable, *args, **kwargs)


def files() -> list[Path]:
    "The project's files: those that git has or would take; without git, those that .gitignore does not name."
    if (ROOT/".git").exists():
        listed = run("git", "ls-files", "-co", "--exclude-standard").splitlines()
        return [path for path in map(Path, listed) if (ROOT/path).is_file()]
    made = [line.rstrip("/") for line in (ROOT/".gitignore").read_text().splitlines()]
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [path for path in paths if not any(fnmatch(part, pattern) for part in path.parts for pattern in made)]


def tally(*passed: bool) -> Tally:
    "How many are true, and how many are not; none is skipped."
    return sum(passed), len(passed) - sum(passed), 0


def in_words(passed: int, failed: int, skipped: int) -> str:
    "A tally as it is printed."
    return f"{passed} passed, {failed} failed" + f", {skipped} skipped"*bool(skipped)


def in_numbers(line: str) -> Tally:
    "The tally that was printed."
    passed, failed, skipped = re.fullmatch(r"(\d+) passed, (\d+) failed(?:, (\d+) skipped)?", line).groups(default=0)
    return int(passed), int(failed), int(skipped)


def in_step() -> Tally:
    "mae_nb/ and README.md are what the notebooks make, and the notebooks are clean"
    with TemporaryDirectory() as folder:
        copy, before = Path(folder), {path: (ROOT/path).read_bytes() for path in files()}
        for path in before:
            (copy/path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT/path, copy/path, follow_symlinks=False)
            if path.parent.name == "mae_nb" and path.name != "__init__.py": (copy/path).unlink()
        python("-B", "tools/export.py", cwd=copy)
        after = {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    for path in sorted(before.keys() - after.keys()): print(f"{path}: no notebook makes it; delete it")
    changed = [path for path in sorted(after) if before.get(path) != after[path]]
    for path in changed: print(f"{path}: differs from what the notebooks make; run `make export`")
    return tally(before.keys() == after.keys() and not changed)


def modules() -> Tally:
    "no two notebooks export to the same module"
    names = Counter(name for nb in NOTEBOOKS for name in re.findall(r'"#\| *default_exp (\S+?)(?:\\n)?"', nb.read_text("utf-8")))
    for name in (twice := [name for name, n in names.items() if n > 1]): print(f"{name} is the default_exp of more than one notebook")
    return tally(not twice)


def portable() -> Tally:
    "no file names a place on one machine or a package registry's host, and no notebook is over 2 MB"
    place = re.compile(rb"(?<![\w+/.-])/(root|work|tmp|home)/|(pypi|pythonhosted|npmjs)\.org|download\.pytorch")
    found = [(path, m[0].decode()) for path in files() if (m := place.search((ROOT/path).read_bytes()))]
    for path, what in found: print(f"{path} contains {what}")
    large = [nb.name for nb in NOTEBOOKS if nb.stat().st_size > 2**21]
    for name in large: print(f"{name} is over 2 MB")
    return tally(not found, not large)


def outputs() -> Tally:
    "the stored outputs come from the code that stands above them"
    from execnb.nbio import read_nb
    from run_nbs import digests
    old = [nb.name for nb in NOTEBOOKS if (notebook := read_nb(nb)).metadata.get("ran") != digests(notebook)]
    for name in old: print(f"{name} was changed since it ran: `make run NB=nbs/{name}`, with SLOW=1 where a slow cell changed")
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


def notebooks() -> Tally:
    "nbdev_test: every notebook runs, its asserts hold, and it gives what it stores"
    results = []
    with get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
        for path, wrong, seconds in pool.imap_unordered(test_notebook, sorted(reversed(NOTEBOOKS), key=lambda path: path.name != "09_figures.ipynb")):
            print(f"{path.name}: {'FAILED' if wrong else 'passed'} in {seconds:.0f} s" + f"\n{wrong}"*bool(wrong), flush=True)
            results.append(not wrong)
    return tally(*results)


def run_pytest(*what: str) -> Tally:
    "How many of pytest's tests passed, failed and were skipped; its output where some failed, and why some were skipped."
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-rs", *what], cwd=ROOT, text=True, stdout=subprocess.PIPE)
    if done.returncode: print(done.stdout)
    why: Counter[str] = Counter()
    for n, reason in re.findall(r"^SKIPPED \[(\d+)\] \S+: (.*)", done.stdout, re.M): why[reason] += int(n)
    for reason, n in why.items(): print(f"{n} skipped: {reason}")
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|error|skipped)", done.stdout.splitlines()[-1])}
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
    "The first browser on the PATH that runs: on Ubuntu, `chromium-browser` may only say how to get one."
    for path in filter(None, map(shutil.which, BROWSERS)):
        try: subprocess.run([path, "--version"], check=True, capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError): continue
        return path


def install_browser() -> None:
    "Chromium from the distribution, where root runs Debian or Ubuntu, as in most containers."
    try: system = platform.freedesktop_os_release()
    except OSError: return
    if os.geteuid() or not {"debian", "ubuntu"} & {system["ID"], *system.get("ID_LIKE", "").split()} or not shutil.which("apt-get"): return
    print("No browser found: installing the package `chromium` with apt-get", flush=True)
    for command in ("update",), ("install", "-y", "--no-install-recommends", "chromium"):
        done = subprocess.run(["apt-get", "-qq", *command], env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, text=True, capture_output=True)
    if done.returncode: print("It could not be installed:", *done.stderr.splitlines()[-1:])


def site() -> Tally:
    "the docs in a real browser: every page, link, picture, formula and slider; without a browser, what needs one is skipped"
    if not find_browser(): install_browser()
    return run_pytest("-n", "2", "tests/browser.py")


def wheel() -> Tally:
    "the wheel brings what it needs and no more, works from an empty directory with fastcore 1 and 2, and leads from a table to a certificate"
    with TemporaryDirectory() as folder:
        dist, venv, empty = (Path(folder)/name for name in ("dist", "venv", "empty"))
        empty.mkdir()
        python("-m", "build", "--outdir", dist)
        python("-m", "venv", venv)
        user, path = venv/"bin"/"python", f"{venv/'bin'}{os.pathsep}{os.environ['PATH']}"
        def install(*what): run(user, "-m", "pip", "install", "-q", "--no-compile", *what)
        def smoke(script="wheel_smoke.py", *args): print(run(user, "-I", ROOT/"tests"/script, *args, cwd=empty, PATH=path, OMP_NUM_THREADS="1"), end="")
        install("-c", ROOT/"constraints.txt", *dist.glob("*.whl"))
        listed = run(user, "-c", "from importlib.metadata import requires; print(*requires('mae_nb'), sep='\\n')").splitlines()
        brought = {re.match(r"[\w-]+", line)[0] for line in listed if "extra ==" not in line}
        if brought != REQUIRED: print(f"the wheel requires {brought}, not {REQUIRED}")
        run(user, "-I", "-c", SENTENCES, cwd=empty)
        smoke()
        install("--upgrade", "fastcore>=2")
        smoke()
        install("-c", ROOT/"constraints.txt", *(f"{built}[save]" for built in dist.glob("*.whl")))
        smoke("first_use.py", ROOT/"README.md")
    return tally(brought == REQUIRED, True, True, True)


CHECKS = [in_step, modules, portable, outputs, ruff, mypy, notebooks, pytest, docs, site, wheel]


def apart(check: Callable[[], Tally]) -> Callable[[], Tally]:
    "A check that begins now, in a process of its own, and is waited for when it is called: `wheel` mostly waits for downloads."
    process = subprocess.Popen([sys.executable, __file__, check.__name__], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    def wait() -> Tally:
        *said, last = process.communicate()[0].rstrip().splitlines()
        print(*said[2:-1], sep="\n")
        return in_numbers(last)
    return wait


def main(names: list[str]) -> int:
    "Run the checks, and print the sum of their tallies last."
    total = (0, 0, 0)
    chosen = [check for check in CHECKS if not names or check.__name__ in names]
    begun = {wheel: apart(wheel)} if wheel in chosen and len(chosen) > 1 else {}
    for check in chosen:
        print(f"\n{check.__name__}: {check.__doc__}", flush=True)
        start = time.perf_counter()
        try: found = begun.get(check, check)()
        except Exception as error:
            if not isinstance(error, subprocess.CalledProcessError): traceback.print_exc()  # what that one printed is shown
            found = tally(False)
        if os.environ.get("NO_SKIPS"): found = found[0], found[1] + found[2], 0
        print(f"{in_words(*found)} in {time.perf_counter() - start:.0f} s", flush=True)
        total = tuple(map(sum, zip(total, found)))
    print(f"\n{in_words(*total)}")
    return total[1]


if __name__ == "__main__": sys.exit(bool(main(sys.argv[1:])))
