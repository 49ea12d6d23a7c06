"The tools that write the docs, README.md and the notebooks' outputs, on small notebooks made here."
import os
import platform
import re
import shutil
import subprocess
from base64 import b64encode
from io import BytesIO
from pathlib import Path

import breaks
import check
import docs
import export
import matplotlib.image
import numpy as np
import pages
import published
import pytest
import readme
import rooms
import run_nbs
import stale
import yaml
from execnb.nbio import mk_cell, new_nb, read_nb, write_nb
from nbdev.process import extract_directives


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
    "A page with one equation and one figure, in a folder."
    (tmp_path/"theory").mkdir()
    notebook(tmp_path/"theory"/"01_elbo.ipynb", ("markdown", "$$\nx = 1\n$$ {#eq-one}"),
             ("code", "#| label: fig-a\n1"))
    return docs.Page(tmp_path, "theory/01_elbo.ipynb")


LINKS = [  # as Quarto takes them in nbs/theory/01_elbo.ipynb, and as MyST does
    ("[a](00_core.ipynb) [b](00_core.ipynb#two)", "[a](core.ipynb) [b](core.ipynb#two)"),
    ("[a](../model/04_mae.ipynb#two)", "[a](../model/mae.ipynb#two)"),
    ("[a](../index.ipynb) and [b](#here)", "[a](../index.ipynb) and [b](#here)"),
    ("[Eq. (3)](00_core.ipynb#eq-score)",
     '<a href="core.html#equation-theory-core-eq-score">Eq. (3)</a>'),
    ("[Eq. (3)](../theory/00_core.ipynb#eq-score)",
     '<a href="../theory/core.html#equation-theory-core-eq-score">Eq. (3)</a>'),
    ("[Figure 5](../results/01_figures.ipynb#fig-5)", "[Figure 5](#results-figures-fig-5)"),
    (f"[`fit`]({docs.SITE}training/train.html#fit)", "[`fit`](../training/train.ipynb#fit)"),
    (f"[`elbo`]({docs.SITE}theory/elbo.html#elbo)", "[`elbo`](elbo.ipynb#elbo)"),
    ("[a](https://e.org/00_core.ipynb)", "[a](https://e.org/00_core.ipynb)"),
]


@pytest.mark.parametrize("quarto, myst", [
    ("see @eq-one.", "see Equation {eq}`theory-elbo-eq-one`."),
    ("see [@eq-one] and [-@eq-one]",
     "see Equation {eq}`theory-elbo-eq-one` and {eq}`theory-elbo-eq-one`"),
    ("@fig-a shows", "[Figure 1](#theory-elbo-fig-a) shows"),
    ("a@eq-one.org and `@eq-one`", "a@eq-one.org and `@eq-one`"),
    ("$$\nx = 1\n$$ {#eq-one}\n", "\n$$\nx = 1\n$$ (theory-elbo-eq-one)\n\n"),
    ("one $$ y $$\n$$ x = 1 $$ {#eq-one}\ntwo",
     "one $$ y $$\n\n$$ x = 1 $$ (theory-elbo-eq-one)\n\ntwo"),
    ('::: {.callout-note title="The poster"}\ntext\n:::',
     ":::{admonition} The poster\n:class: note\n\ntext\n:::"),
    ("as shown [@burda2016; @poole2019], and by @burda2016.",
     "as shown {cite:p}`theory-elbo-burda2016,theory-elbo-poole2019`, "
     "and by {cite:t}`theory-elbo-burda2016`."),
    ("me@burda2016.org and `@burda2016`", "me@burda2016.org and `@burda2016`"),
    ('![It falls.](../images/a.png){#fig-a fig-alt="a line"}',
     ":::{figure} ../images/a.png\n:name: theory-elbo-fig-a\n:alt: a line\n\n"
     "Figure 1: It falls.\n:::"),
    ('![It falls.](../images/a.png){fig-alt="a line"}',
     ":::{figure} ../images/a.png\n:alt: a line\n\nIt falls.\n:::"),
    ("::: {.callout-tip}\n## Here\n\ntext\n:::", ":::{admonition} Here\n:class: tip\n\ntext\n:::"),
    ("::: {.callout-warning}\ntext\n:::", ":::{admonition} Warning\n:class: warning\n\ntext\n:::"),
    *LINKS,
])
def test_quarto_as_myst(page, quarto, myst):
    assert page.markdown(quarto) == myst
    assert page.faults == []


class Lookup:
    "A stand-in for nbdev's: `elbo` has a page, and nothing else has."
    def _link_sym(self, m): return f"[{m[0]}](E)" if m[1] == "elbo" else m[0]


@pytest.mark.parametrize("md, linked", [
    ("`elbo`, `elbo()` and `x`", "[`elbo`](E), [`elbo()`](E) and `x`"),
    ("[`elbo`](01_elbo.ipynb#elbo) of `elbo`", "[`elbo`](01_elbo.ipynb#elbo) of [`elbo`](E)"),
    ("[the `elbo` of [1]](a.ipynb)", "[the `elbo` of [1]](a.ipynb)"),
    ("![by `elbo`](a.png)", "![by `elbo`](a.png)"),
    ("`f(x` and `elbo`s", "`f(x` and [`elbo`](E)s"),
    ("`` `elbo` ``", "`` `elbo` ``"),
    ("```python\nx, # `elbo`\n```\n`elbo`", "```python\nx, # `elbo`\n```\n[`elbo`](E)"),
    ("    `elbo`\n", "    `elbo`\n"),
])
def test_links_from_names(md, linked):
    "Names lead to their pages, but not within links, and not within code."
    assert pages.linked(md, Lookup()) == linked


SHOWN = """---

[source](https://github.com/mae-nb/mae_nb/blob/main/mae_nb/{0}.py#L1){{target="_blank"}}

### {1}

```python
def {1}(
    {2}
)->mae_nb.core.Known: # `elbo`
```

*A sentence.*"""


def test_signatures():
    "They stand once; those of named tuples and dataclasses are fields; modules are left out."
    text = pages.signature(SHOWN.format("core", "moments", "z:torch.Tensor, # of torch.nn"), False)
    assert "    z:Tensor, # of torch.nn\n)->Known: # `elbo`\n" in text
    bare = pages.signature(SHOWN.format("core", "moments", "z:torch.Tensor"), True)
    assert "```" not in bare and "### moments\n\n*A sentence.*" in bare
    text = pages.signature(SHOWN.format("core", "Estimate", "*args, **kwargs"), False)
    assert "class Estimate(NamedTuple):\n    mean: float" in text and "*args" not in text
    text = pages.signature(SHOWN.format("control", "Controller", "*args, **kwargs"), False)
    assert "```" not in text and "*A sentence.*" in text
    text = pages.signature(SHOWN.format("control", "PIMultiplier", "gain:float=10.0"), False)
    assert "class PIMultiplier(Controller):\n    gain: float = 10. # c" in text
    assert "ClassVar" not in text and "->" not in text


def test_order_of_what_is_documented():
    "Texts of `show_doc` stand above their source, in its order; others stay."
    def cell(name, **attributes):
        made = mk_cell(f"show_doc({name})" if attributes.get("has_sd") else f"def {name}()")
        made.directives_ = {"exports": []} if attributes.pop("exports", 0) else {}
        for key, value in attributes.items(): setattr(made, key, value)
        return made
    nb = new_nb([cell("none", exports=1), cell("a, b", exports=1), cell("b", has_sd=True),
                 cell("a", has_sd=True), cell("c"), cell("d", has_sd=True)])
    pages.documented(nb).begin()
    assert [c.source for c in nb.cells] == ["def none()", "show_doc(a)", "show_doc(b)",
                                            "def a, b()", "def c()", "show_doc(d)"]
    assert [getattr(c, "shown", False) for c in nb.cells] == [False, True, True] + [False]*3


@pytest.mark.parametrize("source, line", [
    ("#| exports\n#| fold\ndef a(): pass\nB = 1", "Source of a, B"),
    ("#| fold Two ways: the same\nassert a", "Two ways: the same"),
    ("#| fold\ntest_eq(1, 1)", "Test"), ("#| code-fold: true\nx = 1", "Code"),
    ('#| code-fold: true\n#| fig-cap: "It falls."\nplot()', "Code of the figure"),
])
def test_folded_sources(page, source, line):
    "A source stands folded, in both builds, under a line that says what it is."
    cell = mk_cell(source)
    cell.directives_ = extract_directives(cell)
    pages.folds(cell)
    assert "#| code-fold: true\n" in cell.source and f'#| code-summary: "{line}"' in cell.source
    shown, = page.adapt(cell)
    assert shown.metadata["tags"] == ["hide-input"] and "#|" not in shown.source
    assert shown.metadata["mystnb"]["code_prompt_show"] == line


def test_signature_of_a_folded_source():
    "It is shown, since the source is not; that of a source that is open is not."
    for fold, shown in (["fold"], False), ([], True):
        nb = new_nb([mk_cell("def a()"), mk_cell("show_doc(a)")])
        for cell, found in zip(nb.cells, (["exports", *fold], [])):
            cell.directives_ = dict.fromkeys(found, [])
        nb.cells[1].has_sd = True
        pages.documented(nb).begin()
        assert [getattr(c, "shown", None) for c in nb.cells] == [shown, None]


QUARTO = """<head>
<script src="../site_libs/quarto-nav/quarto-nav.js"></script>
<link href="../site_libs/bootstrap.min.css" rel="stylesheet">
<link rel="canonical" href="https://e.org/theory/elbo.html">
<link rel="preconnect" href="https://fonts.e.org">
<script src="https://e.org/polyfill.min.js?features=es6"></script>
<script src="https://e.org/require.min.js" integrity="sha384-a" crossorigin="anonymous"></script>
<script src="https://e.org/jquery.min.js" data-relocate-top="true"></script>
<script type="application/javascript">define('jquery', [],function() {return jQuery;})</script>
<script>
  (function () {
    var script = document.createElement("script");
    script.src  = "mathjax/tex-chtml.js";
  })();
</script>
<script type="text/javascript">const typesetMath = (el) => {}</script>
</head>"""


def test_a_published_page_stays_at_home():
    "Scripts, styles and fonts of other hosts go; MathJax is found from a page in a folder."
    html = published.at_home(QUARTO, 1)
    assert re.findall(r'https?://\S+?(?=")', html) == ["https://e.org/theory/elbo.html"]
    assert '<script defer src="../mathjax/tex-chtml.js"></script>' in html
    assert "jquery" not in html and "createElement" not in html
    assert all(part in html for part in ("quarto-nav.js", "bootstrap.min.css", "typesetMath"))
    assert 'src="mathjax/tex-chtml.js"' in published.at_home(QUARTO, 0)


@pytest.mark.parametrize("css, kept", [
    ('@import"https://e.org/css2?family=Lato:ital,wght@0,400;0,700&display=swap";a{b:c}', "a{b:c}"),
    ("a{} @import url(https://e.org/css?family=A;B) screen; b{}", "a{}  b{}"),
    ('@import url("//e.org/a.css");@import "b.css";', '@import "b.css";'),
    ("a{background:url(https://e.org/a.png)}", "a{background:url(https://e.org/a.png)}"),
])
def test_fonts_of_other_hosts(css, kept):
    assert published.FONTS.sub("", css) == kept


def test_publishing(tmp_path, monkeypatch):
    "MathJax is laid into the site, with its fonts; pages and style sheets are mended in place."
    (tmp_path/"theory").mkdir()
    (tmp_path/"theory"/"elbo.html").write_text(QUARTO)
    (tmp_path/"a.css").write_text('@import "https://e.org/a;b";c{}')
    published.main(tmp_path)
    script = re.search(r'src="(\S+tex-chtml.js)"', (tmp_path/"theory"/"elbo.html").read_text())[1]
    assert (tmp_path/"theory"/script).is_file() and (tmp_path/"a.css").read_text() == "c{}"
    assert len(list((tmp_path/"mathjax").rglob("*.woff"))) > 20
    assert not list((tmp_path/"mathjax").rglob("*svg*"))


@pytest.mark.parametrize("md, fault", [
    ("see @eq-two", "@eq-two is not on this page"),
    ("[Eq. (3)](00_core.ipynb#eq-none)", "00_core.ipynb has no eq-none"),
    ("[Figure 3](00_core.ipynb#fig-none)", "00_core.ipynb has no fig-none"),
    ("[the model](04_mae.ipynb)", "04_mae.ipynb is not there"),
    ("[the core](../00_core.ipynb#two)", "../00_core.ipynb is not there"),
    ("## A title {#sec-two}", "nothing reads {#sec-two}"),
])
def test_faults_of_a_page(page, md, fault):
    "All faults of all pages are gathered, and named with the notebook."
    for _ in range(2): page.markdown(md)
    assert page.faults == [f"nbs/theory/01_elbo.ipynb: {fault}"]*2


@pytest.mark.parametrize("notebook, name", [
    ("index.ipynb", "index"), ("theory/01_elbo.ipynb", "theory/elbo"),
    ("../model/05b_Files.ipynb", "../model/files")])
def test_page_name(notebook, name):
    assert readme.page_name(notebook) == name


@pytest.mark.parametrize("title, slug", [
    ("A.forward", "a.forward"), ("2. Two ways", "two-ways"), ("What `r` misses", "what-r-misses")])
def test_pandoc_slug(title, slug):
    assert docs.pandoc_slug(title) == slug


def test_readme_pictures():
    quarto = '![It falls.](images/a.png){fig-alt="a line"}'
    assert readme.links(quarto) == "![a line](nbs/images/a.png)\n\n*It falls.*"


def test_cell_of_a_figure(page):
    "Caption, number and alternative text of a picture, and folded code."
    options = ["code-fold: true", "label: fig-a", 'fig-cap: "It falls, by @eq-one."',
               'fig-alt: "a line"']
    cell, = page.adapt(mk_cell("\n".join(f"#| {option}" for option in options) + "\nplot()"))
    assert cell.source == "plot()" and cell.metadata["tags"] == ["hide-input"]
    caption = "Figure 1: It falls, by Equation {eq}`theory-elbo-eq-one`."
    figure = {"caption": caption, "name": "theory-elbo-fig-a"}
    assert cell.metadata["mystnb"] == {"figure": figure, "image": {"alt": "a line"}}


def test_readme_links():
    md = ("[a](theory/03_infomax.ipynb#b) ![b](images/b.png) ![c](../d/c.png) "
          "[d](https://e.org/f.ipynb)")
    expected = (f"[a]({docs.SITE}theory/infomax.html#b) ![b](nbs/images/b.png) ![c](d/c.png) "
                "[d](https://e.org/f.ipynb)")
    assert readme.links(md) == expected


def test_readme_shows_a_still_for_a_figure_with_a_slider():
    "Picture, caption and alternative text are those of the page that the picture comes from."
    cell = mk_cell('#| slow\n#| label: fig-ask\n#| fig-cap: "Move it."\nmoving')
    shown = readme.as_markdown(cell)
    assert shown.startswith("![Six stacked area charts") and "](nbs/images/fig5.png)" in shown
    assert shown.endswith("*") and "\n\n*Figure 5 of the poster" in shown
    other = mk_cell("#| label: fig-other\nmoving")
    assert readme.as_markdown(other) == "```python\nmoving\n```"


def test_run_nb(tmp_path):
    "Outputs come from the run, noise is dropped, and a slow cell that is skipped keeps its output."
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
    shown = stale.parts(read_nb(path).cells[0].outputs)
    (kind, new), = (each for each in shown.items() if each[0].startswith("image"))
    version = stale.drawn_with(kind, new)
    assert version == ".".join(matplotlib.__version__.split(".")[:2])
    blank = png("version" + version)
    assert not stale.same_picture(new, blank) and not stale.same(kind, blank, new, .03)
    assert stale.same(kind, png("version3.1"), new, .03)
    svg = "<svg>Matplotlib v{}.2, {}</svg>".format
    assert not stale.same("image/svg+xml 0", svg("3.11", "a"), svg("3.11", "b"), .03)
    assert stale.same("image/svg+xml 0", svg("3.10", "a"), svg("3.11", "b"), .03)


def test_stale(tmp_path):
    "A number or picture that a run no longer gives is found; not in slow and measured cells."
    draw = ("import matplotlib.pyplot as plt\nplt.plot([0, 1], [0, {0}])\n"
            "plt.plot([0, 1], [.5, .2])\nplt.ylim(-1, 1); plt.show()")
    clock = "#| measured\nimport time; print(time.time())"
    code = ("print(1.5)", draw.format(1), clock, "#| slow\n1", "#| within 3\nprint(1.5)")
    path = notebook(tmp_path/"a.ipynb", *(("code", source) for source in code))
    run_nbs.run_nb(path, slow=True)
    assert stale.rerun(path)[0] == ""
    nb = read_nb(path)
    nb.cells[0].outputs[0].text = nb.cells[4].outputs[0].text = ["2.5\n"]
    nb.cells[1].source = draw.format(-1)
    nb.cells[3].outputs = []
    write_nb(nb, path)
    found = stale.rerun(path)[0]
    assert "'print(1.5)': text differs" in found and "image/png 0 differs" in found
    assert found.count("differs") == 2
    nb.cells[0].source = "1/0"
    write_nb(nb, path)
    assert "ZeroDivisionError" in stale.rerun(path)[0]


CODE = """from mae_nb.core import expect
def f(x, *, n=2):
    return expect(x, n) + 1.5  # nats
y = f(3); print(f"{y:.2f}")
"""


@pytest.mark.parametrize("edited, same", [
    (CODE, True),
    (CODE.replace("expect(x, n) + 1.5", "(expect(x,\n        n)\n        + 1.5)"), True),
    (CODE.replace("  # nats", "").replace("def f", "# nats\n\ndef f"), True),
    (CODE.replace("from mae_nb.core import", "from mae_nb.theory.core import"), True),
    (CODE.replace("from mae_nb.core import expect\n", "") + "import math\n", True),
    (CODE.replace("; print", "\nprint").replace('"', "'"), True),
    (CODE.replace("1.5", "1.50").replace("n=2", "n=0x2"), True),
    (CODE.replace("1.5", "1.6"), False),
    (CODE.replace("expect(", "expects("), False),
    (CODE.replace("n=2", "m=2"), False),
    (CODE.replace(".2f", ".3f"), False),
    (CODE.replace(" + ", " - "), False),
    (CODE.replace("f(3)", "f(3, n=2)"), False),
    (CODE.replace("x, *, n", "x, n"), False),
    (CODE.replace("y = f", "y += f"), False),
])
def test_what_changes_a_digest(tmp_path, edited, same):
    "Layout, comments and where a name is imported from do not; numbers, names and operations do."
    one, other = (run_nbs.digests(read_nb(notebook(tmp_path/"a.ipynb", ("code", code))))
                  for code in (CODE, edited))
    assert (one == other) == same


def test_a_cell_that_is_split_keeps_the_digest(tmp_path):
    lines = CODE.splitlines(keepends=True)
    halves = ("code", "".join(lines[:3])), ("markdown", "text"), ("code", "".join(lines[3:]))
    whole, split = (run_nbs.digests(read_nb(notebook(tmp_path/"a.ipynb", *cells)))
                    for cells in ([("code", CODE)], halves))
    assert whole == split and whole.keys() == {"live"}


def test_digests(tmp_path):
    "A notebook stores what it ran, so that an edit shows; a slow cell counts where it was run."
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
PUTS = r"""case "$*" in *install*)
printf '#!/bin/sh\nexit {}\n' >"$D/chromium"; /bin/chmod +x "$D/chromium";; esac"""
INSTALLS, USELESS = (PUTS.replace("{}", code) for code in "01")
REFUSES = "echo 'no network' >&2; exit 100"


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
    "The PATH, the user and the system decide whether a browser is installed; the output says so."
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
    assert check.begun_now(check.modules)() == check.tally(True, True)


def test_ci_counts_a_skip_as_failed():
    assert "NO_SKIPS=1" in (check.ROOT/".ci"/"run").read_text("utf-8")


def test_a_break_is_found_however_its_line_is_wrapped():
    text = "x = f(a,\n      b)\ny = g(a, b)\n"
    assert breaks.once(text, "f(a, b)", "f(b, a)") == "x = f(b, a)\ny = g(a, b)\n"
    for old in ("(a, b)", "f(a, c)"):
        with pytest.raises(ValueError, match="occurs [02] times"): breaks.once(text, old, "")


def test_every_break_of_the_list_can_be_made():
    "Each changes one place of the library as it is now."
    found = breaks.breaks()
    assert len(found) >= 100
    for b in found:
        assert breaks.once(rooms.file_of(b.module).read_text("utf-8"), b.old, b.new)


@pytest.fixture
def plan(tmp_path, monkeypatch):
    "A tree of notebooks and modules: `plan(notebook, module, cell, ...)` adds one, exported."
    for folder in ("nbs", "mae_nb", "tests", "tools", "bench"): (tmp_path/folder).mkdir()
    (tmp_path/"settings.ini").write_text("[DEFAULT]\nconsole_scripts = run=mae_nb.core:run\n")
    monkeypatch.setattr(rooms, "ROOT", tmp_path)
    monkeypatch.setattr(rooms, "NBS", tmp_path/"nbs")
    monkeypatch.setattr(rooms, "LIBRARY", tmp_path/"mae_nb")
    def forget():
        for kept in (rooms.cells, rooms.chapters, rooms.used_by, rooms.used_in): kept.cache_clear()
    def add(path: str, module: str | None, *cells: str):
        forget()
        (tmp_path/"nbs"/path).parent.mkdir(exist_ok=True)
        first = [("code", f"#| default_exp {module}")]*bool(module)
        notebook(tmp_path/"nbs"/path, *first, *(("code", cell) for cell in cells))
        if module is None: return
        exported = [cell.partition("\n")[2] for cell in cells if cell.startswith("#| export")]
        found = re.findall(r"^(?:def|class) ([a-z]\w*)", "\n".join(exported), flags=re.M)
        file = rooms.file_of(module)
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join([f"__all__ = {found}", *exported]))
    yield add
    forget()


def over(*figures) -> list[str]:
    "What is over the limit."
    return [what for figure in figures if not figure.held for what in figure.over]


def test_rooms_sizes(plan):
    plan("theory/00_core.ipynb", "core", "#| export\n" + "x = 1\n"*299)
    assert over(rooms.sizes()) == []
    plan("training/05_step.ipynb", "training.step", "#| export\n" + "x = 1\n"*300)
    assert over(rooms.sizes()) == ["mae_nb/training/step.py: 301 lines"]


@pytest.mark.parametrize("cell, wrong", [
    ("#| export\nfrom mae_nb.core import f", []),
    ("#| export\nfrom ..core import f", []),
    ("#| export\nfrom .feed import f", []),
    ("#| export\nfrom .. import __version__", []),
    ("import mae_nb.core", []),
    ("%pip install mae_nb\nfrom mae_nb import core", []),
    ("#| export\nfrom .tape import f", ["mae_nb/training/step.py: training.tape"]),
    ("#| export\nfrom mae_nb.train import f", ["mae_nb/training/step.py: train"]),
    ("#| export\nfrom .. import train", ["mae_nb/training/step.py: train"]),
    ("#| export\ndef g():\n    from ..train import f",
     ["mae_nb/training/step.py: train, inside a function"]),
    ("from mae_nb.train import f", []),
    ("import mae_nb.train as t", []),
    ("from mae_nb.all import f", []),
    ("from mae_nb import f", []),
])
def test_rooms_directions(plan, cell, wrong):
    "A module imports from lower places alone, its chapter's cells too."
    for path, module in (("theory/00_core", "core"), ("training/01_feed", "training.feed"),
                         ("training/06_tape", "training.tape"), ("training/07_train", "train"),
                         ("reference/04_all", "all")):
        plan(f"{path}.ipynb", module, "#| export\ndef f(): pass")
    plan("training/05_step.ipynb", "training.step", cell)
    found, of_cells = rooms.directions()
    assert over(found) == wrong
    higher = wrong if "export" in cell else "core" not in cell
    assert bool(over(of_cells)) == bool(higher and "from ." not in cell)


def test_rooms_chapters_without_module_use_public_names(plan):
    plan("reference/04_all.ipynb", "all", "#| export\ndef f(): pass")
    plan("results/07_nats.ipynb", None, "from mae_nb.all import f")
    assert over(*rooms.directions()) == []
    plan("results/00_study.ipynb", "study", "from mae_nb.all import f")
    assert over(*rooms.directions()) == ["nbs/results/00_study.ipynb: all"]


def test_rooms_privacy(plan):
    "A name is used by another module, a chapter for readers or a command, or begins with `_`."
    plan("theory/00_core.ipynb", "core", "#| export\ndef a(): pass\ndef b(): pass\ndef run(): pass",
         "#| export\ndef _c(): pass\ndef d(): pass")
    plan("theory/01_elbo.ipynb", "elbo", "#| export\nfrom mae_nb.core import a",
         "from mae_nb.core import d")
    plan("start/01_tutorial.ipynb", None, "from mae_nb.core import b")
    assert over(*rooms.privacy()) == ["mae_nb/core.py: d"]
    assert rooms.privacy()[0].value == 4


def test_rooms_untested(plan):
    "A test cell that runs ends a run of exported code; imports do not count."
    code, check_it = "#| export\ndef f():\n" + "    x = 1\n"*59, "assert f() is None"
    plan("theory/00_core.ipynb", "core", "#| export\nimport math\n" + "import os\n"*200, code, code,
         check_it, code)
    assert over(rooms.untested()[0]) == [] and rooms.untested()[0].value == 120
    assert rooms.untested()[1].value == 3
    for slow in ("#| slow\n", "#| eval: false\n", "#| export\n"):
        plan("theory/00_core.ipynb", "core", code, code, slow + check_it, code)
        assert len(over(rooms.untested()[0])) == 1


def test_rooms_widths(plan, tmp_path):
    "Code is narrow in cells and files; directives may be long."
    plan("theory/00_core.ipynb", "core", f'#| label: fig-a\n#| fig-cap: "{"a"*200}"\nplot()',
         "#| export\nx = 1")
    assert over(rooms.widths()[0]) == []
    plan("theory/01_elbo.ipynb", None, f"# {'a'*98}", f"# {'a'*99}", "x = 1\n"*16)
    (tmp_path/"tests"/"test_it.py").write_text(f"#\n# {'a'*99}\n")
    found = over(rooms.widths()[0])
    assert [line.partition(" ")[0] for line in found] == ["nbs/theory/01_elbo.ipynb:",
                                                          "tests/test_it.py:2:"]
    assert rooms.widths()[1].value == 1/6


def test_rooms_light(monkeypatch):
    assert over(rooms.light()) == []
    monkeypatch.setattr(rooms, "HEAVY", ("mae_nb.distributions",))
    assert over(rooms.light()) == ["import mae_nb.heads loads mae_nb.distributions"]


def test_limits_of_rooms():
    "They are those of the plan."
    assert (rooms.LINES, rooms.PUBLIC, rooms.UNTESTED, rooms.COLUMNS) == (300, 74, 120, 100)


def test_modules_and_pages_stand_once(tmp_path, monkeypatch, capsys):
    "Notebooks in different folders may share a file's name, but no module, and no address."
    def make(path: str, module: str) -> Path:
        (tmp_path/path).parent.mkdir(exist_ok=True, parents=True)
        return notebook(tmp_path/path, ("code", f"#| default_exp {module}"))
    monkeypatch.setattr(check, "ROOT", tmp_path)
    monkeypatch.setattr(check, "NOTEBOOKS", made := [make("nbs/a/00_one.ipynb", "training.one"),
                                                     make("nbs/b/00_one.ipynb", "one")])
    assert check.modules() == check.tally(True, True)
    made.append(make("nbs/b/01_one.ipynb", "training.one"))
    assert check.modules() == check.tally(False, False)
    assert capsys.readouterr().out.splitlines() == [
        "training.one is the default_exp of more than one notebook",
        "nbs/b/one is the page of more than one notebook"]


@pytest.mark.parametrize("path, text, said", [
    ("mae_nb/training/old.py", "x = 1\n", "mae_nb/training/old.py: no notebook makes it"),
    ("mae_nb/training/step.py", "", "mae_nb/training/step.py: differs"),
    ("mae_nb/core.py", "", "mae_nb/core.py: differs"),
    ("README.md", "", "README.md: differs"),
])
def test_in_step_looks_into_folders(tmp_path, monkeypatch, capsys, path, text, said):
    "A module that no notebook makes, or that was edited, is found in the sub-package, too."
    for each in check.files():
        (tmp_path/each).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(check.ROOT/each, tmp_path/each, follow_symlinks=False)
    monkeypatch.setattr(check, "ROOT", tmp_path)
    (tmp_path/path).write_text(text)
    monkeypatch.setattr(check.run, "__defaults__", (tmp_path,))
    assert check.in_step() == check.tally(False)
    assert said in capsys.readouterr().out


def test_what_takes_all_notebooks_takes_those_in_folders():
    "`make run`, the hook before a commit, the turns of the check and the breaks."
    names = {check.address(nb) for nb in check.NOTEBOOKS}
    assert len(names) > 50 and "nbs/training/07_step.ipynb" in names
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    made = subprocess.run(["make", "-n", "run"], cwd=check.ROOT, capture_output=True, text=True,
                          env=env)
    assert set(re.findall(r"\S+\.ipynb", made.stdout.splitlines()[-1])) == names
    hooks = yaml.safe_load((check.ROOT/".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert all(re.search(hooks[0]["files"], name) for name in names)
    for name in check.LONGEST: assert f"nbs/{name}.ipynb" in names
    assert check.address(min(check.NOTEBOOKS, key=check.in_turn)) == "nbs/training/10_train.ipynb"
    assert set(map(rooms.short, rooms.notebooks())) == names
    above = [rooms.short(path) for path in breaks.later("core")]
    assert "nbs/training/07_step.ipynb" in above and "nbs/common/00_checks.ipynb" not in above
    assert above.index("nbs/theory/01_elbo.ipynb") < above.index("nbs/model/01_files.ipynb")


@pytest.mark.parametrize("pages, fit", [([("a", 1, 10), ("b", 0, 10)], True),
                                        ([("a", 1, 10), ("b", 1, 10)], False)])
def test_scrolling_blocks_are_counted(capsys, pages, fit):
    assert check.scrolling(pages) == fit
    assert capsys.readouterr().out.startswith(f"{1 + (not fit)} of 20 blocks")


def test_export_lists_new_notebooks_in_the_sidebar():
    before = ("      - section: Start\n        contents: [index.ipynb, start/01_a.ipynb]\n"
              "      - section: Use\n        contents: [use/02_b.ipynb, use/09_gone.ipynb]\n")
    after = ("      - section: Start\n        contents: [index.ipynb, start/00_z.ipynb, "
             "start/01_a.ipynb]\n      - section: Use\n        contents: [use/02_b.ipynb]\n")
    found = ["use/02_b.ipynb", "start/01_a.ipynb", "index.ipynb", "start/00_z.ipynb", "x/0_y.ipynb"]
    assert export.with_files(before, found) == after == export.with_files(after, found)
