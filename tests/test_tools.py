"The tools that write the docs, README.md and the notebooks' outputs, on small notebooks made here."
from pathlib import Path

import docs
import pytest
import readme
import run_nbs
import stale
from execnb.nbio import mk_cell, new_nb, read_nb, write_nb


def notebook(path: Path, *cells) -> Path:
    "A notebook of cells given as (kind, source)."
    write_nb(new_nb([mk_cell(source, kind) for kind, source in cells]), path)
    return path


@pytest.fixture
def page(tmp_path):
    "A page with one equation and one figure."
    return docs.Page(notebook(tmp_path/"01_elbo.ipynb", ("markdown", "$$\nx = 1\n$$ {#eq-one}"), ("code", "#| label: fig-a\n1")))


@pytest.mark.parametrize("quarto, myst", [
    ("see @eq-one.", "see Equation {eq}`elbo-eq-one`."),
    ("see [@eq-one] and [-@eq-one]", "see Equation {eq}`elbo-eq-one` and {eq}`elbo-eq-one`"),
    ("@fig-a shows", "[Figure 1](#elbo-fig-a) shows"),
    ("a@eq-one.org and `@eq-one`", "a@eq-one.org and `@eq-one`"),
    ("$$\nx = 1\n$$ {#eq-one}\n", "\n$$\nx = 1\n$$ (elbo-eq-one)\n\n"),
    ("one $$ y $$\n$$ x = 1 $$ {#eq-one}\ntwo", "one $$ y $$\n\n$$ x = 1 $$ (elbo-eq-one)\n\ntwo"),
    ('::: {.callout-note title="The poster"}\ntext\n:::', ":::{admonition} The poster\n:class: note\n\ntext\n:::"),
    ("as shown [@burda2016; @poole2019], and by @burda2016.", "as shown {cite:p}`elbo-burda2016,elbo-poole2019`, and by {cite:t}`elbo-burda2016`."),
    ("me@burda2016.org and `@burda2016`", "me@burda2016.org and `@burda2016`"),
    ('![It falls.](images/a.png){#fig-a fig-alt="a line"}', ":::{figure} images/a.png\n:name: elbo-fig-a\n:alt: a line\n\nFigure 1: It falls.\n:::"),
    ('![It falls.](images/a.png){fig-alt="a line"}', ":::{figure} images/a.png\n:alt: a line\n\nIt falls.\n:::"),
    ("::: {.callout-tip}\n## Here\n\ntext\n:::", ":::{admonition} Here\n:class: tip\n\ntext\n:::"),
    ("::: {.callout-warning}\ntext\n:::", ":::{admonition} Warning\n:class: warning\n\ntext\n:::"),
    ("[a](00_core.ipynb) [b](00_core.ipynb#two)", "[a](core.ipynb) [b](core.ipynb#two)"),
    ("[Eq. (3)](00_core.ipynb#eq-score)", '<a href="core.html#equation-core-eq-score">Eq. (3)</a>'),
    (f"[`fit`]({docs.SITE}train.html#fit)", "[`fit`](train.ipynb#fit)"),
])
def test_quarto_as_myst(page, quarto, myst):
    assert page.markdown(quarto) == myst


def test_unknown_reference(page):
    with pytest.raises(ValueError, match="elbo: @eq-two is not on this page"): page.markdown("see @eq-two")


@pytest.mark.parametrize("title, slug", [("A.forward", "a.forward"), ("2. Two ways", "two-ways"), ("What `r` misses", "what-r-misses")])
def test_pandoc_slug(title, slug):
    assert docs.pandoc_slug(title) == slug


def test_readme_pictures():
    assert readme.links('![It falls.](images/a.png){fig-alt="a line"}') == "![a line](nbs/images/a.png)\n\n*It falls.*"


def test_cell_of_a_figure(page):
    "Caption, number and alternative text of a picture, and folded code."
    cell, = page.adapt(mk_cell('#| code-fold: true\n#| label: fig-a\n#| fig-cap: "It falls, by @eq-one."\n#| fig-alt: "a line"\nplot()'))
    assert cell.source == "plot()" and cell.metadata["tags"] == ["hide-input"]
    assert cell.metadata["mystnb"] == {"figure": {"caption": "Figure 1: It falls, by Equation {eq}`elbo-eq-one`.", "name": "elbo-fig-a"}, "image": {"alt": "a line"}}


def test_readme_links():
    md = "[a](02_infomax.ipynb) ![b](images/b.png) ![c](../d/c.png) [d](https://e.org/f) [g](#h)"
    expected = f"[a]({docs.SITE}infomax.html) ![b](nbs/images/b.png) ![c](d/c.png) [d](https://e.org/f) [g](#h)"
    assert readme.links(md) == expected


def test_run_nb(tmp_path):
    "Outputs come from the run, noise is dropped, and a slow cell that is skipped keeps the output it has."
    path = notebook(tmp_path/"a.ipynb", ("code", "import sys; print('noise', file=sys.stderr); print('kept')"), ("code", "x = 1; x"),
                    ("code", "#| slow\nx = 2; x"), ("code", "#| eval: false\n1/0"))
    def outputs(): return ["".join(o.get("text") or o.data["text/plain"]) for cell in read_nb(path).cells for o in cell.outputs]
    for slow, expected in ((False, ["kept\n", "1"]), (True, ["kept\n", "1", "2"]), (False, ["kept\n", "1", "2"])):
        assert run_nbs.run_nb(path, slow)[2] == ""
        assert outputs() == expected


@pytest.mark.parametrize("stored, now, same", [
    ("I = 1.0000 nats", "I = 1.0200 nats", True), ("I = 1.0000 nats", "I = 1.0700 nats", False), ("held; I = 1", "not held; I = 1", False),
    ("a   1.0\nb  -2.0", "a  1.01\nb -2.01", True), ("1,500 steps", "1,800 steps", False), ("cost 1e-05", "cost 9e-06", True), ("1.0", "-1.0", False),
    ("M: +0.01", "M: -0.01", True),
])
def test_same_text(stored, now, same):
    assert stale.same_text(stored, now) == same


def test_stale(tmp_path):
    "A number or a picture that a run no longer gives is found; slow cells and measurements are left alone."
    draw = "import matplotlib.pyplot as plt\nplt.plot([0, 1], [0, {0}]); plt.plot([0, 1], [.5, .2]); plt.ylim(-1, 1); plt.show()"
    clock = "#| measured\nimport time; print(time.time())"
    path = notebook(tmp_path/"a.ipynb", *(("code", source) for source in ("print(1.5)", draw.format(1), clock, "#| slow\n1", "#| within 3\nprint(1.5)")))
    run_nbs.run_nb(path, slow=True)
    assert stale.rerun(path)[0] == ""
    nb = read_nb(path)
    nb.cells[0].outputs[0].text = nb.cells[4].outputs[0].text = ["2.5\n"]
    nb.cells[1].source = draw.format(-1)
    nb.cells[3].outputs = []
    write_nb(nb, path)
    found = stale.rerun(path)[0]
    assert "'print(1.5)': text differs" in found and "image/png 0 differs" in found and found.count("differs") == 2
    nb.cells[0].source = "1/0"
    write_nb(nb, path)
    assert "ZeroDivisionError" in stale.rerun(path)[0]


def test_digests(tmp_path):
    "A notebook says what it ran, so that an edit since then shows; a slow cell counts as run only where it was."
    path = notebook(tmp_path/"a.ipynb", ("markdown", "text"), ("code", "x = 1"), ("code", "#| slow\nx = 2"))
    def edit(old, new): path.write_text(path.read_text().replace(old, new))
    def stale():
        nb = read_nb(path)
        return {key for key, digest in run_nbs.digests(nb).items() if nb.metadata.ran[key] != digest}
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
