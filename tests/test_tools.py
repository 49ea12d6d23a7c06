"The tools that write the docs, README.md and the notebooks' outputs, on small notebooks made here."
import os
import platform
from base64 import b64encode
from io import BytesIO
from pathlib import Path

import breaks
import check
import docs
import matplotlib.image
import numpy as np
import pytest
import readme
import rooms
import run_nbs
import stale
from execnb.nbio import mk_cell, new_nb, read_nb, write_nb


def notebook(path: Path, *cells) -> Path:
    "A notebook of cells given as (kind, source)."
    write_nb(new_nb([mk_cell(source, kind) for kind, source in cells]), path)
    return path


def png(version: str) -> str:
    "A white picture that says which Matplotlib drew it, in base64."
    file = BytesIO()
    matplotlib.image.imsave(file, np.ones((99, 99, 3)),
                            metadata={"Software": f"Matplotlib {version}.0"})
    return b64encode(file.getvalue()).decode()


@pytest.fixture
def page(tmp_path):
    "A page with one equation and one figure."
    return docs.Page(notebook(tmp_path/"01_elbo.ipynb", ("markdown", "$$\nx = 1\n$$ {#eq-one}"),
                              ("code", "#| label: fig-a\n1")))


@pytest.mark.parametrize("quarto, myst", [
    ("see @eq-one.", "see Equation {eq}`elbo-eq-one`."),
    ("see [@eq-one] and [-@eq-one]", "see Equation {eq}`elbo-eq-one` and {eq}`elbo-eq-one`"),
    ("@fig-a shows", "[Figure 1](#elbo-fig-a) shows"),
    ("a@eq-one.org and `@eq-one`", "a@eq-one.org and `@eq-one`"),
    ("$$\nx = 1\n$$ {#eq-one}\n", "\n$$\nx = 1\n$$ (elbo-eq-one)\n\n"),
    ("one $$ y $$\n$$ x = 1 $$ {#eq-one}\ntwo", "one $$ y $$\n\n$$ x = 1 $$ (elbo-eq-one)\n\ntwo"),
    ('::: {.callout-note title="The poster"}\ntext\n:::',
     ":::{admonition} The poster\n:class: note\n\ntext\n:::"),
    ("as shown [@burda2016; @poole2019], and by @burda2016.",
     "as shown {cite:p}`elbo-burda2016,elbo-poole2019`, and by {cite:t}`elbo-burda2016`."),
    ("me@burda2016.org and `@burda2016`", "me@burda2016.org and `@burda2016`"),
    ('![It falls.](images/a.png){#fig-a fig-alt="a line"}',
     ":::{figure} images/a.png\n:name: elbo-fig-a\n:alt: a line\n\nFigure 1: It falls.\n:::"),
    ('![It falls.](images/a.png){fig-alt="a line"}',
     ":::{figure} images/a.png\n:alt: a line\n\nIt falls.\n:::"),
    ("::: {.callout-tip}\n## Here\n\ntext\n:::", ":::{admonition} Here\n:class: tip\n\ntext\n:::"),
    ("::: {.callout-warning}\ntext\n:::", ":::{admonition} Warning\n:class: warning\n\ntext\n:::"),
    ("[a](00_core.ipynb) [b](00_core.ipynb#two)", "[a](core.ipynb) [b](core.ipynb#two)"),
    ("[Eq. (3)](00_core.ipynb#eq-score)", '<a href="core.html#equation-core-eq-score">Eq. (3)</a>'),
    (f"[`fit`]({docs.SITE}train.html#fit)", "[`fit`](train.ipynb#fit)"),
])
def test_quarto_as_myst(page, quarto, myst):
    assert page.markdown(quarto) == myst


def test_unknown_reference(page):
    with pytest.raises(ValueError, match="elbo: @eq-two is not on this page"):
        page.markdown("see @eq-two")


@pytest.mark.parametrize("title, slug",
                         [("A.forward", "a.forward"), ("2. Two ways", "two-ways"),
                          ("What `r` misses", "what-r-misses")])
def test_pandoc_slug(title, slug):
    assert docs.pandoc_slug(title) == slug


def test_readme_pictures():
    assert readme.links('![It falls.](images/a.png){fig-alt="a line"}') == "![a line](nbs/images/a.png)\n\n*It falls.*"


def test_cell_of_a_figure(page):
    "Caption, number and alternative text of a picture, and folded code."
    cell, = page.adapt(mk_cell('#| code-fold: true\n#| label: fig-a\n#| fig-cap: "It falls, by '
                               '@eq-one."\n#| fig-alt: "a line"\nplot()'))
    assert cell.source == "plot()" and cell.metadata["tags"] == ["hide-input"]
    assert cell.metadata["mystnb"] == {"figure": {"caption": "Figure 1: It falls, by Equation "
                                                             "{eq}`elbo-eq-one`.", "name": "elbo-fig-a"}, "image": {"alt": "a line"}}


def test_readme_links():
    md = "[a](02_infomax.ipynb) ![b](images/b.png) ![c](../d/c.png) [d](https://e.org/f) [g](#h)"
    expected = f"[a]({docs.SITE}infomax.html) ![b](nbs/images/b.png) ![c](d/c.png) [d](https://e.org/f) [g](#h)"
    assert readme.links(md) == expected


def test_run_nb(tmp_path):
    "Outputs come from the run, noise is dropped, and a slow cell that is skipped keeps the output it has."
    path = notebook(tmp_path/"a.ipynb",
                    ("code", "import sys; print('noise', file=sys.stderr); print('kept')"),
                    ("code", "x = 1; x"),
                    ("code", "#| slow\nx = 2; x"), ("code", "#| eval: false\n1/0"))
    def outputs():
        return ["".join(o.get("text") or o.data["text/plain"]) for cell in read_nb(path).cells
                for o in cell.outputs]
    for slow, expected in ((False, ["kept\n", "1"]), (True, ["kept\n", "1", "2"]),
                           (False, ["kept\n", "1", "2"])):
        assert run_nbs.run_nb(path, slow)[2] == ""
        assert outputs() == expected


@pytest.mark.parametrize("stored, now, same", [
    ("I = 1.0000 nats", "I = 1.0200 nats", True), ("I = 1.0000 nats", "I = 1.0700 nats", False),
    ("held; I = 1", "not held; I = 1", False),
    ("a   1.0\nb  -2.0", "a  1.01\nb -2.01", True), ("1,500 steps", "1,800 steps", False),
    ("cost 1e-05", "cost 9e-06", True), ("1.0", "-1.0", False),
    ("M: +0.01", "M: -0.01", True),
])
def test_same_text(stored, now, same):
    assert stale.same_text(stored, now) == same


def test_pictures_of_another_matplotlib_are_not_compared(tmp_path):
    draw = "import matplotlib.pyplot as plt\nplt.plot([0, 1]); plt.show()"
    path = notebook(tmp_path/"a.ipynb", ("code", draw))
    run_nbs.run_nb(path, slow=False)
    (kind, new), = ((kind, data)
                    for kind, data in stale.parts(read_nb(path).cells[0].outputs).items()
                    if kind.startswith("image"))
    version = stale.drawn_with(kind, new)
    assert version == ".".join(matplotlib.__version__.split(".")[:2])
    assert not stale.same_picture(new, blank := png("version" + version)) and not stale.same(kind,
                                                                                             blank, new, .03)
    assert stale.same(kind, png("version3.1"), new, .03)
    svg = "<svg>Matplotlib v{}.2, {}</svg>".format
    assert not stale.same("image/svg+xml 0", svg("3.11", "a"), svg("3.11", "b"), .03)
    assert stale.same("image/svg+xml 0", svg("3.10", "a"), svg("3.11", "b"), .03)


def test_stale(tmp_path):
    "A number or a picture that a run no longer gives is found; slow cells and measurements are left alone."
    draw = "import matplotlib.pyplot as plt\nplt.plot([0, 1], [0, {0}]); plt.plot([0, 1], [.5, .2]); plt.ylim(-1, 1); plt.show()"
    clock = "#| measured\nimport time; print(time.time())"
    path = notebook(tmp_path/"a.ipynb",
                    *(("code", source) for source in ("print(1.5)", draw.format(1), clock,
                                                      "#| slow\n1", "#| within 3\nprint(1.5)")))
    run_nbs.run_nb(path, slow=True)
    assert stale.rerun(path)[0] == ""
    nb = read_nb(path)
    nb.cells[0].outputs[0].text = nb.cells[4].outputs[0].text = ["2.5\n"]
    nb.cells[1].source = draw.format(-1)
    nb.cells[3].outputs = []
    write_nb(nb, path)
    found = stale.rerun(path)[0]
    assert ("'print(1.5)': text differs" in found and "image/png 0 differs" in found
            and found.count("differs") == 2)
    nb.cells[0].source = "1/0"
    write_nb(nb, path)
    assert "ZeroDivisionError" in stale.rerun(path)[0]


def test_digests(tmp_path):
    "A notebook says what it ran, so that an edit since then shows; a slow cell counts as run only where it was."
    path = notebook(tmp_path/"a.ipynb", ("markdown", "text"), ("code", "x = 1"),
                    ("code", "#| slow\nx = 2"))
    def edit(old, new): path.write_text(path.read_text().replace(old, new))
    def stale():
        nb = read_nb(path)
        return {key for key, digest in run_nbs.digests(nb).items()
                if nb.metadata.ran[key] != digest}
    run_nbs.run_nb(path, slow=False)
    assert stale() == {"slow"}
    run_nbs.run_nb(path, slow=True)
    edit("text", "other text")
    assert stale() == set()
    edit("x = 1", "x = 3")
    assert stale() == {"live"}
    run_nbs.run_nb(path, slow=False)
    assert stale() == set()
    edit("x = 2", "x = 4")
    assert stale() == {"slow"}


def test_run_nb_failure(tmp_path):
    path = notebook(tmp_path/"a.ipynb", ("code", "print('new')"), ("code", "1/0"))
    before = path.read_bytes()
    assert "ZeroDivisionError" in run_nbs.run_nb(path, slow=False)[2]
    assert path.read_bytes() == before


RUNS, STUB = "exit 0", "exit 1"  # a browser, and what Ubuntu has in its place
PUTS = """case "$*" in *install*) printf '#!/bin/sh\\nexit {}\\n' >"$D/chromium"; /bin/chmod +x "$D/chromium";; esac"""
INSTALLS, USELESS, REFUSES = PUTS.replace("{}",
                                          "0"), PUTS.replace(
                                              "{}", "1"), "echo 'no network' >&2; exit 100"


@pytest.mark.parametrize("uid, system, programs, found, said", [
    pytest.param(0, "debian", {"chromium": RUNS, "apt-get": INSTALLS}, "chromium", [], id="there"),
    pytest.param(1000, "fedora", {"google-chrome": RUNS}, "google-chrome", [], id="there, another"),
    pytest.param(0, "debian", {"chromium": STUB, "google-chrome": RUNS}, "google-chrome", [],
                 id="the second one runs"),
    pytest.param(0, "debian", {"apt-get": INSTALLS}, "chromium", ["installing"], id="installed"),
    pytest.param(0, "ubuntu", {"chromium-browser": STUB, "apt-get": INSTALLS}, "chromium",
                 ["installing"], id="a stub, then installed"),
    pytest.param(0, "mint", {"apt-get": INSTALLS}, "chromium", ["installing"], id="like Ubuntu"),
    pytest.param(0, "ubuntu", {"apt-get": USELESS}, None, ["installing"],
                 id="what is installed does not run"),
    pytest.param(0, "debian", {"apt-get": "exit 0"}, None, ["installing"],
                 id="installed off the PATH"),
    pytest.param(0, "debian", {"apt-get": REFUSES}, None, ["installing", "no network"],
                 id="the installation fails"),
    pytest.param(0, "debian", {}, None, [], id="no apt-get"),
    pytest.param(1000, "debian", {"apt-get": INSTALLS}, None, [], id="not root"),
    pytest.param(0, "fedora", {"apt-get": INSTALLS}, None, [], id="not Debian"),
    pytest.param(0, None, {"apt-get": INSTALLS}, None, [], id="no name of the system"),
])
def test_browser_is_found_or_installed(tmp_path, monkeypatch, capsys, uid, system, programs, found,
                                       said):
    "What is on the PATH, who asks and on which system decide whether a browser is installed; what it prints says so."
    for name, does in programs.items():
        (tmp_path/name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path/name).chmod(0o755)
    def release():
        if system is None: raise OSError
        return {"ID": system} | ({"ID_LIKE": "ubuntu debian"} if system == "mint" else {})
    monkeypatch.setattr(platform, "freedesktop_os_release", release)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(check, "run_pytest", lambda *what: check.tally(bool(check.find_browser())))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("D", str(tmp_path))
    assert check.site() == check.tally(found is not None)
    assert check.find_browser() == (str(tmp_path/found) if found else None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(said) and all(what in line for what, line in zip(said, lines))


@pytest.mark.parametrize("tests, tally, said", [
    ("def test_a(): pass\ndef test_b(): pass", (2, 0, 0), ""),
    ("def test_a(): assert 0\ndef test_b(): pass", (1, 1, 0), "assert 0"),
    ("import pytest\n@pytest.mark.parametrize('i', range(5))\ndef test_a(i): pytest.skip('no "
     "browser; get one')", (0, 0, 5), "5 skipped: no browser; get one"),
    ("import pytest\n@pytest.fixture\ndef f(): pytest.skip('why')\ndef test_a(f): pass\ndef "
     "test_b(f): pass\ndef test_c(): assert 0", (0, 1, 2), "2 skipped: why"),
    ("import pytest\n@pytest.fixture\ndef f(): raise OSError\ndef test_a(f): pass\ndef test_b(): "
     "pass", (1, 1, 0), "OSError"),
    ("import nothing_of_this_name", (0, 1, 0), "ModuleNotFoundError"),
    ("", (0, 1, 0), "no tests ran"),
])
def test_tally_of_pytest(tmp_path, capsys, tests, tally, said):
    (tmp_path/"test_it.py").write_text(tests)
    assert check.run_pytest("-p", "no:cacheprovider", str(tmp_path)) == tally
    assert said in capsys.readouterr().out


def test_tally_of_pytest_on_two_processes(tmp_path):
    (tmp_path/"test_it.py").write_text("import pytest\n@pytest.mark.parametrize('i', "
                                       "range(7))\ndef test_a(i): i > 4 or pytest.skip('small')")
    assert check.run_pytest("-p", "no:cacheprovider", "-n", "2", str(tmp_path)) == (2, 0, 5)


@pytest.mark.parametrize("tallies, no_skips, last, code", [
    ([(3, 0, 0), (4, 0, 0)], "", "7 passed, 0 failed", 0),
    ([(3, 0, 0), (4, 1, 0)], "", "7 passed, 1 failed", 1),
    ([(3, 0, 2), (4, 0, 5)], "", "7 passed, 0 failed, 7 skipped", 0),
    ([(3, 0, 2), (4, 0, 5)], "1", "7 passed, 7 failed", 1),
    ([(3, 0, 2), OSError], "", "3 passed, 1 failed, 2 skipped", 1),
])
def test_last_line(monkeypatch, capsys, tallies, no_skips, last, code):
    "The sum of all tallies; in CI a skip is a failure."
    def one(tally):
        def check_it():
            "a check"
            if tally is OSError: raise OSError
            return tally
        return check_it
    monkeypatch.setattr(check, "CHECKS", [one(tally) for tally in tallies])
    monkeypatch.setenv("NO_SKIPS", no_skips)
    assert bool(check.main([])) == code
    assert (line := capsys.readouterr().out.splitlines()[-1]) == last
    assert check.in_words(*check.in_numbers(line)) == line


def test_check_in_a_process_of_its_own():
    assert check.apart(check.modules)() == check.tally(True)


def test_ci_counts_a_skip_as_failed():
    assert "NO_SKIPS=1" in (check.ROOT/".ci"/"run").read_text("utf-8")


def test_every_break_of_the_list_can_be_made():
    "Each changes one place of the library as it is now."
    found = breaks.breaks()
    assert len(found) >= 100
    for b in found:
        assert breaks.once(rooms.file_of(b.module).read_text("utf-8"), b.old, b.new)
