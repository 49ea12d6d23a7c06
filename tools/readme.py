"""Write README.md from the notebook that opens the docs: what `nbdev_readme` does, without Quarto.

And nbs/images/: the pictures of README and site, as their notebooks store them.
"""
import re
from base64 import b64decode
from pathlib import Path

from execnb.nbio import read_nb
from nbdev.config import get_config
from nbdev.doclinks import _nbpath2html
from nbdev.process import extract_directives

CFG = get_config()
SITE = f"{CFG.doc_host}{CFG.doc_baseurl}/"
PICTURES = {"fig5.png": ("results/01_figures.ipynb", "fig-5"),
            "setpoint.png": ("results/03_setpoint.ipynb", "fig-setpoint"),
            "logo.svg": ("reference/03_site.ipynb", "fig-logo"),
            "favicon.svg": ("reference/03_site.ipynb", "fig-favicon"),
            "card.png": ("reference/03_site.ipynb", "fig-card")}
STILLS = {"fig-ask": "fig5.png"}  # what README shows for a figure with a slider
HEADER = "<!-- Made from nbs/index.ipynb by `make readme`: edit the notebook. -->"


def page_name(notebook: str) -> str:
    "The address that nbdev gives to a notebook's page, without .html: the file's, unnumbered."
    return _nbpath2html(Path(notebook)).with_suffix("").as_posix()


def fenced(text: str, language: str = "") -> str: return f"```{language}\n{text.rstrip()}\n```"


def text_of(output) -> str:
    "What an output says as text; pictures are linked from the notebook's Markdown instead."
    if output.output_type == "stream": return "".join(output.text)
    shown = output.get("data", {})
    drawn = any(mime.startswith("image") for mime in shown)
    return "" if drawn else "".join(shown.get("text/plain", ""))


def links(md: str) -> str:
    "Links to notebooks lead to their pages; other files are found from here; captions are text."
    def page(m: re.Match) -> str: return f"]({SITE}{page_name(m[1])}.html"
    md = re.sub(r'^!\[(.*?)\](\(\S+\))\{fig-alt="(.*?)"\}$', r"![\3]\2\n\n*\1*", md, flags=re.M)
    md = re.sub(r"\]\((?!\w+:)([\w/-]+)\.ipynb", page, md)
    return re.sub(r"\]\((?!\w+:|#|/|\.\./)", "](nbs/", md).replace("](../", "](")


def stored(notebook: str, label: str):
    "The cell with this label."
    return next(c for c in read_nb(CFG.nbs_path/notebook).cells
                if f"#| label: {label}\n" in c.source)


def still(name: str) -> str:
    "A picture of `PICTURES`, with the caption and the alternative text that it has on its page."
    source = stored(*PICTURES[name]).source
    cap, alt = (re.search(rf'#\| fig-{option}: "(.*)"', source)[1] for option in ("cap", "alt"))
    return links(f'![{cap}](images/{name}){{fig-alt="{alt}"}}')


def as_markdown(cell) -> str:
    "The cell as GitHub shows it."
    if cell.cell_type == "markdown": return links(cell.source)
    directives = extract_directives(cell)
    if cell.cell_type != "code" or "hide" in directives: return ""
    label, = directives.get("label:") or [None]
    if label in STILLS: return still(STILLS[label])
    code = re.sub(r"^#\|.*\n", "", cell.source, flags=re.M)
    if directives.get("echo:") == ["false"]: code = ""
    return "\n\n".join([fenced(code, "python")] * bool(code)
                       + [fenced(text) for text in map(text_of, cell.outputs) if text])


def picture(notebook: str, label: str) -> bytes:
    "The picture that the cell with this label stores."
    cell = stored(notebook, label)
    kinds = {"image/png", "image/svg+xml"}
    shown = next(o.data for o in cell.outputs if "data" in o and kinds & o.data.keys())
    if "image/png" in shown: return b64decode(shown["image/png"])
    return "".join(shown["image/svg+xml"]).encode()


def write_readme() -> None:
    "Write README.md, and the pictures that it and the site show."
    for name, where in PICTURES.items(): (CFG.nbs_path/"images"/name).write_bytes(picture(*where))
    cells = [as_markdown(cell).strip() for cell in read_nb(CFG.nbs_path/CFG.readme_nb).cells]
    text = "\n\n".join([HEADER, *filter(None, cells)]) + "\n"
    (CFG.config_path/"README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__": write_readme()
