"""Render the notebooks in _docs/ with pip packages alone: what `nbdev_docs` does for the published site, without Quarto.

nbdev prepares each notebook (`show_doc`, directives, links), `Page` says Quarto's Markdown as MyST does, and Sphinx renders that.
Order and sections of the pages are those of _quarto.yml.
"""
import os
import re
import shutil
import sys
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from execnb.nbio import mk_cell, read_nb, write_nb
from nbdev.config import get_config
from nbdev.serve import proc_nbs

# nbdev runs every cell that imports something: one that does other work besides would do it in each build.
os.environ["PYTHONWARNINGS"] = "error:Found cells containing imports and other code"

CFG = get_config()
SITE = f"{CFG.doc_host}{CFG.doc_baseurl}/"
TAGS = {("echo", "false"): "remove-input", ("output", "false"): "remove-output", ("code-fold", "true"): "hide-input"}
WORKS = "|".join(re.findall(r"^@\w+\{(\w+),", (CFG.nbs_path/"references.bib").read_text(encoding="utf-8"), flags=re.M))  # what can be cited
ACCESSIBLE = {'role="heading"': 'role="heading" aria-level="2"', 'role="list" class="citation-list"': 'class="citation-list"'}  # what the theme leaves to mend
MATHJAX = ("tex-chtml.js", "output/chtml")  # what a page loads of it, fonts included: a tenth of the package
THEME = {"footer_icons": [{"name": "repository", "url": CFG.git_url, "html": "Repository", "class": ""}],
         "light_css_variables": {"color-brand-primary": "#005a8f", "color-brand-content": "#005a8f"},
         "dark_css_variables": {"color-brand-primary": "#7cc4f0", "color-brand-content": "#7cc4f0"}}
SPHINX = dict(
    project=CFG.title, author=CFG.author, copyright=CFG.copyright, version=CFG.version, language="en",
    extensions=["myst_nb", "sphinx.ext.mathjax", "sphinx-mathjax-offline", "sphinx_copybutton", "sphinxcontrib.bibtex"],
    suppress_warnings=["myst.header", "myst.mathjax", "bibtex.duplicate_label"],
    myst_enable_extensions=["amsmath", "attrs_inline", "colon_fence", "dollarmath"], myst_dmath_double_inline=True,
    myst_heading_anchors=4, myst_heading_slug_func="docs.pandoc_slug",
    nb_execution_mode="off", nb_output_stderr="remove", nb_render_markdown_format="myst", nb_mime_priority_overrides=[["html", "text/html", 0]],
    bibtex_bibfiles=["references.bib"], bibtex_reference_style="author_year", bibtex_default_style="plain",
    mathjax_path="mathjax/tex-chtml.js", mathjax3_config={"options": {"enableMenu": False}},
    html_title=CFG.title, html_theme="furo", html_theme_options=THEME, html_logo="images/logo.svg", html_favicon="images/favicon.svg",
    html_static_path=["styles.css", "scroll.js"], html_css_files=["styles.css"], html_js_files=["scroll.js"],
    html_show_search_summary=False, html_copy_source=False)  # a summary is fetched, which a page without a server cannot do


def sections() -> dict[str, list[str]]:
    "The pages of each section, in the order of the sidebar of _quarto.yml."
    sidebar = yaml.safe_load((CFG.config_path/"_quarto.yml").read_text(encoding="utf-8"))["website"]["sidebar"]["contents"]
    return {part["section"]: list(map(page_name, part["contents"])) for part in sidebar}


def page_name(notebook: str) -> str:
    "The name that nbdev gives to a notebook's page: without the chapter's number."
    return re.sub(r"^\d+\w?_", "", Path(notebook).stem)


def other_equation(m: re.Match) -> str:
    "A link to an equation of another page, as HTML: MyST would replace its text by the number alone."
    text, notebook, label = m.groups()
    if f"{{#{label}}}" not in (CFG.nbs_path/notebook).read_text(encoding="utf-8"): raise ValueError(f"{notebook} has no equation {label}")
    page = page_name(notebook)
    return f'<a href="{page}.html#equation-{page}-{label}">{text}</a>'


def pandoc_slug(title: str) -> str:
    "The id that Pandoc, and so Quarto and nbdev's links, give to a heading."
    return re.sub(r"\s+", "-", re.sub(r"^[^a-z]+|[^\w\s.-]", "", title.lower()).strip())


def callout(m: re.Match) -> str:
    "The opening of a Quarto callout, with its title as an attribute or as a heading, as that of a MyST admonition."
    fence, kind, attributes, heading = m.groups()
    title = re.search(r'title="(.*?)"', attributes)
    return f"{fence}{{admonition}} {title[1] if title else heading or kind.capitalize()}\n:class: {kind}\n\n"


def plain_code(text: str) -> str:
    "Without the links that nbdev puts into the comments of signatures, where no one can follow them."
    return re.sub(r"^```.*?^```", lambda block: re.sub(r"\[`([^`]+)`\]\([^)]*\)", r"\1", block[0]), text, flags=re.M | re.S)


REFERENCES = """## References

```{{bibliography}}
:filter: docname in docnames
:keyprefix: {}-
```"""


class Page:
    "One notebook that nbdev prepared for Quarto, turned into one for MyST-NB."
    def __init__(self, path: Path):
        self.name, self.nb = page_name(path.name), read_nb(path)
        source = "\n".join(cell.source for cell in self.nb.cells)
        self.equations = set(re.findall(r"\$\$\s*\{#(eq-[\w-]+)\}", source))
        self.cites = False
        self.figures = dict(zip(re.findall(r"(?:#\| *label: *|\)\{#)(fig-[\w-]+)", source), count(1)))

    def write(self, folder: Path) -> None:
        "Write the adapted notebook, which opens with the title and subtitle that nbdev moved to its front matter."
        front, *cells = self.nb.cells
        front = yaml.safe_load(front.source.strip().strip("-"))
        title = mk_cell(f"# {front['title']}\n\n*{self.markdown(front.get('description', ''))}*", "markdown")
        self.nb.cells = [title] + [new for cell in cells for new in self.adapt(cell)] + [mk_cell(REFERENCES.format(self.name), "markdown")]*self.cites
        self.nb.metadata["language_info"] = {"name": "python"}  # for the highlighting
        write_nb(self.nb, folder/f"{self.name}.ipynb")

    def adapt(self, cell) -> list:
        "The cells that show this one."
        if cell.cell_type != "code": return [mk_cell(self.markdown(cell.source), "markdown")]
        options = {key: value.strip("\"'") for key, value in re.findall(r"^#\| *([\w-]+): *(.*?) *$", cell.source, flags=re.M)}
        if options.get("include") == "false": return []
        if options.get("output") == "asis":  # show_doc: as text, so that its headings stand in the page's contents
            texts = ["".join(o.data["text/markdown"]) for o in cell.outputs if "text/markdown" in o.get("data", {})]
            return [mk_cell(self.markdown(plain_code(text.removeprefix("---\n"))), "markdown") for text in texts]
        cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)
        cell.metadata = {"tags": [tag for option, tag in TAGS.items() if option in options.items()]}
        if "fig-cap" in options: cell.metadata["mystnb"] = {"figure": self.caption(options), "image": {"alt": options.get("fig-alt", "")}}
        return [cell]

    def caption(self, options: dict[str, str]) -> dict[str, str]:
        "MyST-NB's description of a figure."
        text, label = self.markdown(options["fig-cap"]), options.get("label")
        return {"caption": f"Figure {self.figures[label]}: {text}", "name": self.label(label)} if label else {"caption": text}

    def label(self, label: str) -> str:
        "Labels belong to their page, as in Quarto: two pages may use the same one."
        return f"{self.name}-{label}"

    def reference(self, m: re.Match) -> str:
        "`@eq-name` and `@fig-name`, numbered on each page from 1; in the form `[-@eq-name]` the number alone."
        bare, label = m[1], m[2]
        if label in self.equations: return ("" if bare else "Equation ") + f"{{eq}}`{self.label(label)}`"
        if label in self.figures: return f"[{'' if bare else 'Figure '}{self.figures[label]}](#{self.label(label)})"
        raise ValueError(f"{self.name}: @{label} is not on this page")

    def citation(self, m: re.Match) -> str:
        "`[@key; @other]` and `@key`: works cited in parentheses and in running text, listed at the end of the page."
        works = re.findall(rf"@({WORKS})\b", m[0])
        self.cites = True
        return f"{{cite:{'p' if m[0].startswith('[') else 't'}}}`{','.join(map(self.label, works))}`"

    def equation(self, m: re.Match) -> str:
        "A labelled equation, which in MyST is a paragraph of its own."
        return f"\n{m[1]} ({self.label(m[2])})\n"

    def image(self, m: re.Match) -> str:
        "A captioned image, labelled or not."
        caption, file, label, alt = m.groups()
        name, number = (f":name: {self.label(label)}\n", f"Figure {self.figures[label]}: ") if label else ("", "")
        return f":::{{figure}} {file}\n{name}:alt: {alt}\n\n{number}{caption}\n:::"

    def markdown(self, md: str) -> str:
        "Quarto's Markdown as MyST's."
        md = re.sub(r'^!\[(.*?)\]\((\S+)\)\{(?:#(fig-[\w-]+) )?fig-alt="(.*?)"\}$', self.image, md, flags=re.M)
        md = re.sub(r"(?<![\w`])\[?(-?)@((?:eq|fig|sec|tbl)-[\w-]+)\]?", self.reference, md)
        md = re.sub(rf"\[@(?:{WORKS})(?:; *@(?:{WORKS}))*\]|(?<![\w`@])@(?:{WORKS})\b", self.citation, md)
        md = re.sub(r"^( *\$\$(?:(?!\$\$).)+\$\$)\s*\{#(eq-[\w-]+)\}", self.equation, md, flags=re.M | re.S)
        md = re.sub(r"^(:{3,}) *\{\.callout-(\w+)(.*)\}\n+(?:#+ (.*)\n+)?", callout, md, flags=re.M)
        md = re.sub(r"\[source\]\((\S+)\)\{(.*?)\}", r'<a href="\1" \2>source</a>', md)  # show_doc's
        md = re.sub(re.escape(SITE) + r"(\w+)\.html", r"\1.ipynb", md)  # nbdev's links to what a page documents
        if unknown := re.search(r"\{#[\w-]+.*?\}", md): raise ValueError(f"{self.name}: nothing here reads {unknown[0]}")
        md = re.sub(r"\[([^\]]+)\]\((\w+\.ipynb)#(eq-[\w-]+)\)", other_equation, md)
        md = re.sub(r"\]\((\w+\.ipynb)#(fig-)", lambda m: f"](#{page_name(m[1])}-{m[2]}", md)
        return re.sub(r"\]\((\w+\.ipynb)", lambda m: f"]({page_name(m[1])}.ipynb", md)


def prepare(folder: Path) -> None:
    "Write Sphinx's sources into `folder`: a page for each notebook, the first with the contents, and whatever they show."
    prepared, listed = proc_nbs(n_workers=2, force=True), sections()
    shutil.copytree(prepared, folder, ignore=shutil.ignore_patterns("*.ipynb"), dirs_exist_ok=True)
    pages = [Page(path) for path in sorted(prepared.glob("*.ipynb"))]
    if missing := {page.name for page in pages} ^ set(sum(listed.values(), [])): raise ValueError(f"_quarto.yml and nbs/ differ in {missing}")
    for page in pages: page.write(folder)
    index = read_nb(folder/"index.ipynb")
    for section, names in listed.items():
        entries = "\n".join("Overview <self>" if name == "index" else name for name in names)
        index.cells.append(mk_cell(f"```{{toctree}}\n:hidden:\n:caption: {section}\n\n{entries}\n```", "markdown"))
    write_nb(index, folder/"index.ipynb")


def render(source: Path, out: Path) -> int:
    "Sphinx's exit status; any warning, a broken link or reference for one, is a failure."
    from sphinx.application import Sphinx
    app = Sphinx(source, None, out, source/".doctrees", "html", status=None, warningiserror=True, confoverrides=SPHINX)
    app.build()
    return app.statuscode


def finish(out: Path) -> None:
    "Mend what the theme leaves to mend, and drop what no page loads."
    for page in out.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        for old, new in ACCESSIBLE.items(): text = text.replace(old, new)
        page.write_text(text, encoding="utf-8")
    mathjax = out/"_static"/"mathjax"
    for path in mathjax.rglob("*"):
        if path.is_file() and not path.relative_to(mathjax).as_posix().startswith(MATHJAX): path.unlink()


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        source, html = Path(folder)/"source", Path(folder)/"html"
        prepare(source)
        failed = render(source, html)
        finish(html)
        shutil.rmtree(CFG.doc_path, ignore_errors=True)
        shutil.copytree(html, CFG.doc_path)
    print(f"{CFG.doc_path.name}/index.html")
    sys.exit(failed)
