"""Render the notebooks in _docs/ with pip packages alone, as `nbdev_docs` does with Quarto.

nbdev prepares each notebook (`show_doc`, directives, links), `Page` turns Quarto's Markdown into
MyST's, and Sphinx renders that. Order and sections of the pages are those of _quarto.yml; a page
has the address that it has on the published site: nbs/theory/01_elbo.ipynb, theory/elbo.html.
"""
import os
import re
import shutil
import sys
from itertools import count
from pathlib import Path
from posixpath import normpath, relpath
from tempfile import TemporaryDirectory

import yaml
from execnb.nbio import mk_cell, read_nb, write_nb
from nbdev.config import get_config
from nbdev.serve import proc_nbs
from published import MATHJAX, OPTIONS
from readme import SITE, page_name

# nbdev runs every cell that imports something: other work in it would be done in each build.
os.environ["PYTHONWARNINGS"] = "error:Found cells containing imports and other code"

CFG = get_config()
TAGS = {("echo", "false"): "remove-input", ("output", "false"): "remove-output",
        ("code-fold", "true"): "hide-input"}
WORKS = "|".join(re.findall(  # what can be cited
    r"^@\w+\{(\w+),", (CFG.nbs_path/"references.bib").read_text(encoding="utf-8"), flags=re.M))
ACCESSIBLE = {  # what the theme leaves to mend
    'role="heading"': 'role="heading" aria-level="2"',
    'role="list" class="citation-list"': 'class="citation-list"'}
LIGHT, DARK = ({f"color-brand-{part}": colour for part in ("primary", "content")}
               for colour in ("#005a8f", "#7cc4f0"))
FOOTER = {"name": "repository", "url": CFG.git_url, "html": "Repository", "class": ""}
THEME = {"footer_icons": [FOOTER], "light_css_variables": LIGHT, "dark_css_variables": DARK}
SCRIPT = re.sub("</?script>", "", (CFG.nbs_path/"scroll.html").read_text(encoding="utf-8"))
SPHINX = dict(
    project=CFG.title, author=CFG.author, copyright=CFG.copyright, version=CFG.version,
    language="en",
    extensions=["myst_nb", "sphinx.ext.mathjax", "sphinx-mathjax-offline", "sphinx_copybutton",
                "sphinxcontrib.bibtex"],
    suppress_warnings=["myst.header", "myst.mathjax", "bibtex.duplicate_label"],
    myst_enable_extensions=["amsmath", "attrs_inline", "colon_fence", "dollarmath"],
    myst_dmath_double_inline=True,
    myst_heading_anchors=4, myst_heading_slug_func="docs.pandoc_slug",
    nb_execution_mode="off", nb_output_stderr="remove", nb_render_markdown_format="myst",
    nb_mime_priority_overrides=[["html", "text/html", 0]],
    bibtex_bibfiles=["references.bib"], bibtex_reference_style="author_year",
    bibtex_default_style="plain",
    mathjax_path="mathjax/tex-chtml.js", mathjax3_config=OPTIONS,
    html_title=CFG.title, html_theme="furo", html_theme_options=THEME,
    html_logo="images/logo.svg", html_favicon="images/favicon.svg",
    html_static_path=["styles.css"], html_css_files=["styles.css"],
    html_js_files=[(None, {"body": SCRIPT})],
    html_show_search_summary=False,  # it is fetched, which a page without a server cannot do
    html_copy_source=False)


def sections() -> dict[str, list[str]]:
    "The notebooks of each section, in the order of the sidebar of _quarto.yml."
    text = (CFG.config_path/"_quarto.yml").read_text(encoding="utf-8")
    sidebar = yaml.safe_load(text)["website"]["sidebar"]["contents"]
    return {part["section"]: part["contents"] for part in sidebar}


def pandoc_slug(title: str) -> str:
    "The id that Pandoc, and so Quarto and nbdev's links, give to a heading."
    return re.sub(r"\s+", "-", re.sub(r"^[^a-z]+|[^\w\s.-]", "", title.lower()).strip())


def callout(m: re.Match) -> str:
    "The opening of a MyST admonition, for that of a Quarto callout with a title in either place."
    fence, kind, attributes, heading = m.groups()
    title = re.search(r'title="(.*?)"', attributes)
    shown = title[1] if title else heading or kind.capitalize()
    return f"{fence}{{admonition}} {shown}\n:class: {kind}\n\n"


REFERENCES = """## References

```{{bibliography}}
:filter: docname in docnames
:keyprefix: {}-
```"""


class Page:
    "One notebook that nbdev prepared for Quarto, turned into one for MyST-NB."
    def __init__(self, root: Path, path: str):
        self.file, self.name, self.nb = path, page_name(path), read_nb(root/path)
        self.folder = path.rpartition("/")[0]
        source = "\n".join(cell.source for cell in self.nb.cells)
        self.equations = set(re.findall(r"\$\$\s*\{#(eq-[\w-]+)\}", source))
        figures = re.findall(r"(?:#\| *label: *|\)\{#)(fig-[\w-]+)", source)
        self.figures = dict(zip(figures, count(1)))
        self.cites = False
        self.faults: list[str] = []

    def write(self, root: Path) -> None:
        "Write the adapted notebook, which opens with the title that nbdev moved to front matter."
        front, *cells = self.nb.cells
        front = yaml.safe_load(front.source.strip().strip("-"))
        subtitle = self.markdown(front.get("description", ""))
        title = mk_cell(f"# {front['title']}\n\n*{subtitle}*", "markdown")
        self.nb.cells = [title] + [new for cell in cells for new in self.adapt(cell)]
        if self.cites: self.nb.cells.append(mk_cell(REFERENCES.format(self.label()), "markdown"))
        self.nb.metadata["language_info"] = {"name": "python"}  # for the highlighting
        (root/self.folder).mkdir(exist_ok=True)
        write_nb(self.nb, root/f"{self.name}.ipynb")

    def adapt(self, cell) -> list:
        "The cells that show this one."
        if cell.cell_type != "code": return [mk_cell(self.markdown(cell.source), "markdown")]
        given = re.findall(r"^#\| *([\w-]+): *(.*?) *$", cell.source, flags=re.M)
        options = {key: value.strip("\"'") for key, value in given}
        if options.get("include") == "false": return []
        if options.get("output") == "asis": return self.as_text(cell)
        cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)
        cell.metadata = {"tags": [tag for option, tag in TAGS.items() if option in options.items()]}
        shown: dict = {}
        if "code-summary" in options:
            shown |= {f"code_prompt_{way}": options["code-summary"] for way in ("show", "hide")}
        if "fig-cap" in options:
            image = {"alt": options.get("fig-alt", "")}
            shown |= {"figure": self.caption(options), "image": image}
        if shown: cell.metadata["mystnb"] = shown
        return [cell]

    def as_text(self, cell) -> list:
        "The output of `show_doc` as text, so that its headings stand in the page's contents."
        found = (o.data["text/markdown"] for o in cell.outputs
                 if "text/markdown" in o.get("data", {}))
        texts = ["".join(text).removeprefix("---\n") for text in found]
        return [mk_cell(self.markdown(text), "markdown") for text in texts]

    def caption(self, options: dict[str, str]) -> dict[str, str]:
        "MyST-NB's description of a figure."
        text, label = self.markdown(options["fig-cap"]), options.get("label")
        if not label: return {"caption": text}
        return {"caption": f"Figure {self.figures[label]}: {text}", "name": self.label(label)}

    def label(self, *labels: str, notebook: str = "") -> str:
        "Labels belong to their page, as in Quarto: two pages may use the same one."
        return "-".join([page_name(notebook or self.file).replace("/", "-"), *labels])

    def fault(self, what: str, instead: str = "") -> str:
        "Note what is wrong, for all faults to be shown together."
        self.faults.append(f"nbs/{self.file}: {what}")
        return instead

    def reference(self, m: re.Match) -> str:
        "`@eq-name` and `@fig-name`, numbered by page; in the form `[-@eq-name]` the number alone."
        bare, label = m[1], m[2]
        if label in self.equations:
            return ("" if bare else "Equation ") + f"{{eq}}`{self.label(label)}`"
        if label in self.figures:
            return f"[{'' if bare else 'Figure '}{self.figures[label]}](#{self.label(label)})"
        return self.fault(f"@{label} is not on this page")

    def citation(self, m: re.Match) -> str:
        "`[@key; @other]` and `@key`: works cited, listed at the end of the page."
        works = ",".join(self.label(work) for work in re.findall(rf"@({WORKS})\b", m[0]))
        self.cites = True
        return f"{{cite:{'p' if m[0].startswith('[') else 't'}}}`{works}`"

    def equation(self, m: re.Match) -> str:
        "A labelled equation, which in MyST is a paragraph of its own."
        return f"\n{m[1]} ({self.label(m[2])})\n"

    def image(self, m: re.Match) -> str:
        "A captioned image, labelled or not."
        caption, file, label, alt = m.groups()
        name = f":name: {self.label(label)}\n" if label else ""
        number = f"Figure {self.figures[label]}: " if label else ""
        return f":::{{figure}} {file}\n{name}:alt: {alt}\n\n{number}{caption}\n:::"

    def documented(self, m: re.Match) -> str:
        "nbdev's link to what a page documents, as a path from this one."
        return f"{relpath(m[1], self.folder or '.')}.ipynb"

    def other_page(self, m: re.Match) -> str:
        "A link to another notebook, or to a heading, an equation or a figure of it."
        text, path, label = m[1], m[2], m[3] or ""
        notebook = normpath(f"{self.folder or '.'}/{path}")
        if not (file := CFG.nbs_path/notebook).is_file():
            return self.fault(f"{path} is not there", text)
        page = page_name(path)
        if not label.startswith(("eq-", "fig-")):
            return f"[{text}]({page}.ipynb{f'#{label}'*bool(label)}"+ ")"
        source = file.read_text(encoding="utf-8")
        if not re.search(rf"\{{#{label}\}}|\{{#{label} |#\| *label: *{label}\b", source):
            return self.fault(f"{path} has no {label}", text)
        name = self.label(label, notebook=notebook)
        if label.startswith("fig-"): return f"[{text}](#{name})"
        # As HTML: MyST would replace its text by the number alone.
        return f'<a href="{page}.html#equation-{name}">{text}</a>'

    def markdown(self, md: str) -> str:
        "Quarto's Markdown as MyST's."
        def sub(pattern: str, new, flags=re.M) -> None:
            nonlocal md
            md = re.sub(pattern, new, md, flags=flags)
        sub(r'^!\[(.*?)\]\((\S+)\)\{(?:#(fig-[\w-]+) )?fig-alt="(.*?)"\}$', self.image)
        sub(r"(?<![\w`])\[?(-?)@((?:eq|fig|sec|tbl)-[\w-]+)\]?", self.reference)
        sub(rf"\[@(?:{WORKS})(?:; *@(?:{WORKS}))*\]|(?<![\w`@])@(?:{WORKS})\b", self.citation)
        sub(r"^( *\$\$(?:(?!\$\$).)+\$\$)\s*\{#(eq-[\w-]+)\}", self.equation, re.M | re.S)
        sub(r"^(:{3,}) *\{\.callout-(\w+)(.*)\}\n+(?:#+ (.*)\n+)?", callout)
        sub(r"\[source\]\((\S+)\)\{(.*?)\}", r'<a href="\1" \2>source</a>')  # show_doc's
        if unknown := re.search(r"\{#[\w-]+.*?\}", md): self.fault(f"nothing reads {unknown[0]}")
        sub(r"(?<!!)\[([^\]]+)\]\((?!\w+:)([\w./-]+\.ipynb)(?:#([^)\s]*))?\)", self.other_page)
        sub(re.escape(SITE) + r"([\w/]+)\.html", self.documented)
        return md


def prepare(folder: Path) -> list[str]:
    "Write Sphinx's sources: a page for each notebook, the first with the contents, and pictures."
    prepared, listed = proc_nbs(n_workers=2, force=True), sections()
    ignore = shutil.ignore_patterns("*.ipynb")
    shutil.copytree(prepared, folder, ignore=ignore, dirs_exist_ok=True)
    found = (path.relative_to(prepared).as_posix() for path in prepared.rglob("*.ipynb"))
    pages = [Page(prepared, path) for path in sorted(found)]
    missing = {page.file for page in pages} ^ set(sum(listed.values(), []))
    if missing: raise ValueError(f"_quarto.yml and nbs/ differ in {', '.join(sorted(missing))}")
    for page in pages: page.write(folder)
    index = read_nb(folder/"index.ipynb")
    for section, notebooks in listed.items():
        names = map(page_name, notebooks)
        entries = "\n".join("Overview <self>" if name == "index" else name for name in names)
        contents = f"```{{toctree}}\n:hidden:\n:caption: {section}\n\n{entries}\n```"
        index.cells.append(mk_cell(contents, "markdown"))
    write_nb(index, folder/"index.ipynb")
    return [fault for page in pages for fault in page.faults]


def render(source: Path, out: Path) -> int:
    "Sphinx's exit status; any warning, a broken link or reference for one, is a failure."
    from sphinx.application import Sphinx
    app = Sphinx(source, None, out, source/".doctrees", "html", status=None, warningiserror=True,
                 confoverrides=SPHINX)
    app.build()
    return app.statuscode


def finish(out: Path) -> None:
    "Mend what the theme leaves to mend, and drop what no page loads."
    for page in out.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for old, new in ACCESSIBLE.items(): text = text.replace(old, new)
        page.write_text(text, encoding="utf-8")
    mathjax = out/"_static"/"mathjax"
    for path in mathjax.rglob("*"):
        used = path.relative_to(mathjax).as_posix().startswith(MATHJAX)
        if path.is_file() and not used: path.unlink()


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        source, html = Path(folder)/"source", Path(folder)/"html"
        faults = prepare(source)
        for fault in faults: print(fault, file=sys.stderr)
        failed = render(source, html)
        finish(html)
        shutil.rmtree(CFG.doc_path, ignore_errors=True)
        shutil.copytree(html, CFG.doc_path)
    print(f"{CFG.doc_path.name}/index.html")
    sys.exit(bool(failed or faults))
