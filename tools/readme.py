"""Write README.md from the notebook that opens the docs: what `nbdev_readme` does, without Quarto.

And nbs/images/: the pictures of README and site, as their notebooks store them.
"""
import re
from base64 import b64decode

from execnb.nbio import read_nb
from nbdev.config import get_config
from nbdev.process import extract_directives

CFG = get_config()
PICTURES = {"fig5.png": ("results/01_figures.ipynb", "fig-5"), "setpoint.png": ("results/02_setpoint.ipynb", "fig-setpoint"), "logo.svg": ("reference/03_site.ipynb", "fig-logo"),
            "favicon.svg": ("reference/03_site.ipynb", "fig-favicon"), "card.png": ("reference/03_site.ipynb", "fig-card")}
HEADER = "<!-- Made from nbs/index.ipynb by `make readme`: edit the notebook. -->"


def fenced(text: str, language: str = "") -> str: return f"```{language}\n{text.rstrip()}\n```"


def text_of(output) -> str:
    "What an output says as text; pictures are linked from the notebook's Markdown instead."
    if output.output_type == "stream": return "".join(output.text)
    shown = output.get("data", {})
    return "" if any(mime.startswith("image") for mime in shown) else "".join(shown.get("text/plain", ""))


def links(md: str) -> str:
    "Links to notebooks lead to the site; other files beside the notebook are found from here; a picture's caption stands below it."
    md = re.sub(r'^!\[(.*?)\](\(\S+\))\{fig-alt="(.*?)"\}$', r"![\3]\2\n\n*\1*", md, flags=re.M)
    md = re.sub(r"\]\((?:\d+\w?_)?(\w+)\.ipynb", rf"]({CFG.doc_host}{CFG.doc_baseurl}/\1.html", md)
    return re.sub(r"\]\((?!\w+:|#|/|\.\./)", "](nbs/", md).replace("](../", "](")


def as_markdown(cell) -> str:
    "The cell as GitHub shows it."
    if cell.cell_type == "markdown": return links(cell.source)
    directives = extract_directives(cell)
    if cell.cell_type != "code" or "hide" in directives: return ""
    code = "" if directives.get("echo:") == ["false"] else re.sub(r"^#\|.*\n", "", cell.source, flags=re.M)
    return "\n\n".join([fenced(code, "python")] * bool(code) + [fenced(text) for text in map(text_of, cell.outputs) if text])


def picture(notebook: str, label: str) -> bytes:
    "The picture that the cell with this label stores."
    cell = next(c for c in read_nb(CFG.nbs_path/notebook).cells if f"#| label: {label}\n" in c.source)
    shown = next(o.data for o in cell.outputs if "data" in o and {"image/png", "image/svg+xml"} & o.data.keys())
    return b64decode(shown["image/png"]) if "image/png" in shown else "".join(shown["image/svg+xml"]).encode()


def write_readme() -> None:
    "Write README.md, and the pictures that it and the site show."
    for name, where in PICTURES.items(): (CFG.nbs_path/"images"/name).write_bytes(picture(*where))
    cells = [as_markdown(cell).strip() for cell in read_nb(CFG.nbs_path/CFG.readme_nb).cells]
    (CFG.config_path/"README.md").write_text("\n\n".join([HEADER, *filter(None, cells)]) + "\n", encoding="utf-8")


if __name__ == "__main__": write_readme()
