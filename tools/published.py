"""What Quarto calls after it has rendered the site: `post-render` of _quarto.yml.

MathJax is laid into the site, and whatever a page would fetch from another host is taken out: a
polyfill for old browsers, the fonts of the themes, and the require.js and jQuery that Quarto adds
where a cell gives HTML, in case that it is a widget; none of the notebooks has one.
"""
import json
import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

MATHJAX = ("tex-chtml.js", "output/chtml")  # what a page loads of it: a tenth of the package
OPTIONS = {"options": {"enableMenu": False}}
SCRIPT = re.compile(r"\s*<script\b[^>]*>(?:(?!</script>).)*</script>", flags=re.S)
OUTSIDE = re.compile(r"""<script\b[^>]*\bsrc=["'](?:https?:)?//""")
NEEDS_JQUERY = re.compile(r"define\(['\"]jquery['\"]")  # gives require.js the jQuery of the page
FONTS = re.compile(r"""@import\s*(?:url\()?\s*(["']?)(?:https?:)?//[^"')]*\1\s*\)?[^;]*;""")
LINKS = re.compile(r"""\s*<link\b(?=[^>]*\brel=["'](?:stylesheet|preconnect|dns-prefetch)["'])"""
                   r"""[^>]*\bhref=["'](?:https?:)?//[^>]*>""")


def lay_mathjax(site: Path) -> None:
    "Copy to mathjax/ what pages load of MathJax, from the package that `make docs` takes it from."
    package = Path(find_spec("sphinx-mathjax-offline").origin).parent/"static"/"mathjax"
    for path in package.rglob("*"):
        name = path.relative_to(package)
        if not path.is_file() or not name.as_posix().startswith(MATHJAX): continue
        (site/"mathjax"/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, site/"mathjax"/name)


def at_home(html: str, depth: int) -> str:
    "A page, so many folders deep, that loads MathJax from its site, and nothing from elsewhere."
    src = f"{'../'*depth}mathjax/{MATHJAX[0]}"
    mathjax = f"\n<script>MathJax = {json.dumps(OPTIONS)}</script>\n<script defer src=\"{src}\">"
    def script(m: re.Match) -> str:
        if MATHJAX[0] in m[0]: return f"{mathjax}</script>"
        return "" if OUTSIDE.search(m[0]) or NEEDS_JQUERY.search(m[0]) else m[0]
    return LINKS.sub("", SCRIPT.sub(script, html))


def main(site: Path) -> None:
    "Mend all pages and style sheets of the site."
    lay_mathjax(site)
    for path in site.rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        path.write_text(at_home(html, len(path.relative_to(site).parts) - 1), encoding="utf-8")
    for path in site.rglob("*.css"):
        path.write_text(FONTS.sub("", path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__": main(Path(sys.argv[1] if sys.argv[1:] else
                                     os.environ["QUARTO_PROJECT_OUTPUT_DIR"]))
