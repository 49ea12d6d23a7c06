"""The built site in a real browser: `make docs` makes it, `tools/check.py site` runs this.

SITE_FOLDER names another build: the docs workflow tests Quarto's before it is published. Pages of
Quarto want a server, so they get one here, and the rest of such a page is Quarto's to test.

Chromium is Debian's; Playwright drives it. A page is loaded once, and all is checked in it: most of
the time goes into axe, so it gets no element twice that looks the same.
"""
import json
import os
import re
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import docs
import pytest
from axe_playwright_python.sync_playwright import Axe
from check import BROWSERS, find_browser
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
DOCS = (ROOT/os.environ.get("SITE_FOLDER", "_docs")).resolve()
QUARTO = (DOCS/"site_libs").is_dir()
MAIN = "main" if QUARTO else "article"  # what is ours on a page; the rest is the theme's
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.html"))
MOVING = [name for name in PAGES if 'class="explorable"' in (DOCS/name).read_text("utf-8")]
PLANES = [name for name in MOVING if 'class="point"' in (DOCS/name).read_text("utf-8")]
CODE = "common/explore.html"  # code has the same colours everywhere: its contrast is measured here
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]
UNREAD = (r"\$[^$]{1,400}\$|\\[A-Za-z]{2,}|\\[()\[\]]"  # Markdown or TeX that nothing has read
          r"|\?@|\{#|(?<!\w)@[a-z]\w+|\[@|:::|\{\.callout")
UNDESCRIBED = (f"{MAIN} img:not([alt]), {MAIN} img[alt=''], "
               ".explorable svg:not([aria-label])")
STILL = "* { animation: none !important; transition: none !important }"
SETTLED = "() => new Promise(go => requestAnimationFrame(() => requestAnimationFrame(go)))"
READY = """async () => {
  await window.MathJax?.startup?.promise
  await document.fonts.ready
  await new Promise(requestAnimationFrame)
}"""
TEXT = """where => {
  const body = document.querySelector(where).cloneNode(true)
  body.querySelectorAll('pre, code, script, style, mjx-container').forEach(part => part.remove())
  const unseen = [...document.querySelectorAll(`${where} [alt], ${where} [aria-label]`)]
  const words = unseen.map(e => e.getAttribute('alt') ?? e.getAttribute('aria-label'))
  return [body.textContent, ...words].join(' ')
}"""
UNLOADED = """() => [...document.images].filter(e => !e.complete || !e.naturalWidth)
  .map(e => e.getAttribute('src'))"""
OPEN = "() => document.querySelectorAll('details').forEach(part => part.open = true)"
CUT = """where => [...document.querySelectorAll(`${where} *`)]
  .filter(e => !e.closest('pre, table, .explorable, .math, .visually-hidden')).filter(e =>
    e.getBoundingClientRect().right > innerWidth + 1 ||
    (/hidden|clip/.test(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1
      && !e.querySelector('mjx-container'))
  ).map(e => e.outerHTML.slice(0, 120))"""  # what is cut off, or sticks out
FITS = "document.documentElement.scrollWidth <= innerWidth + 1"
SCROLLING = """() => { const blocks = [...document.querySelectorAll('pre')]
  return [blocks.filter(e => e.scrollWidth > e.clientWidth).length, blocks.length] }"""
# Words of code are spans with a class and nothing else, in which axe has nothing to look at.
ODD = "pre :not(span), pre span[role], pre span[tabindex], pre span[aria-hidden], pre span[id]"
PLAIN = """() => document.querySelectorAll('pre').forEach(e => {
  if (!e.querySelector('a')) e.textContent = e.textContent })"""
# A text without elements within it that has the look of an earlier one: its tags, classes, colours.
ALIKE = """() => {
  const seen = new Set()
  for (const e of document.querySelectorAll('body *')) {
    e.removeAttribute('data-alike')
    if (e.children.length || !e.textContent.trim()) continue
    const {color, backgroundColor, fontSize, fontWeight, opacity} = getComputedStyle(e)
    let look = [color, backgroundColor, fontSize, fontWeight, opacity].join()
    for (let p = e; p; p = p.parentElement) look += ` ${p.tagName}.${p.className}` +
      (p.getAttribute('style') ?? '') + (p.tagName == 'TR' ? p.rowIndex % 2 : '')
    if (seen.has(look)) e.setAttribute('data-alike', '')
    else seen.add(look)
  }
}"""


@pytest.fixture(scope="session")
def browser():
    "Chromium, for all tests; without it, they are skipped."
    if not (found := find_browser()):
        wanted = " or ".join(BROWSERS)
        pytest.skip(f"no browser; put {wanted} on the PATH (Debian: `apt-get install chromium`)")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found, args=QUIET)


class Quiet(SimpleHTTPRequestHandler):
    "Serves files, and says nothing."
    def log_message(self, *args): pass


@pytest.fixture(scope="session")
def address():
    "The site's address, with a slash at its end: on this machine, or just files."
    if not QUARTO:
        yield f"{DOCS.as_uri()}/"
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=DOCS))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture
def visit(browser, address):
    "Open a page; afterwards, no error may have been reported, and no request have left the site."
    page, faults = browser.new_page(viewport=WIDE), []
    page.set_default_timeout(120_000)  # other work may keep the machine busy
    def note(message):
        if message.type in ("error", "warning"): faults.append(message.text)
    def leaves(request):
        stays = request.url.startswith((address, "data:", "blob:"))
        if not stays: faults.append(f"left the site: {request.url}")
    page.on("console", note)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    page.on("request", leaves)
    def open_page(name):
        path, mark, query = name.partition("?")
        page.goto(f"{address}{path}{mark}{query}")
        page.evaluate(READY)
        return page
    yield open_page
    page.close()
    assert not faults


def faults(page, context=None, **options) -> list[str]:
    "What axe finds serious on the page as it is."
    if not page.evaluate("() => 'axe' in window"): page.evaluate(Axe().axe_script)
    options |= {"preload": False, "resultTypes": ["violations"]}
    run = "([where, options]) => axe.run(where ?? document, options).then(r => r.violations)"
    return [f"{v['id']}: {node['html'][:150]}: {node.get('failureSummary', '')}"
            for v in page.evaluate(run, [context, options])
            if v["impact"] in ("serious", "critical") for node in v["nodes"][:4]]


def check_text(page):
    "Pictures are there and described; no Markdown and no TeX is left over."
    assert not page.evaluate(UNLOADED)
    assert not page.query_selector_all(UNDESCRIBED)
    text = page.evaluate(TEXT, MAIN) if page.query_selector(MAIN) else ""
    assert not (found := re.findall(f".{{0,20}}(?:{UNREAD}).{{0,20}}", text)), found
    assert not page.query_selector_all("mjx-merror")


def check_layout(page):
    "Nothing is cut off or sticks out, and axe finds nothing serious, but for colours."
    assert page.evaluate(FITS), page.evaluate(CUT, MAIN)
    assert not page.evaluate(CUT, MAIN)
    assert not faults(page, MAIN if QUARTO else None, rules={"color-contrast": {"enabled": False}})


def check_colours(page, code: bool):
    "The contrast of each kind of text, light and dark; that of code on one page."
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.evaluate(ALIKE)
        where = {"exclude": [["[data-alike]"]] + [["pre"]]*(not code)}
        if QUARTO: where["include"] = [[MAIN]]
        assert not faults(page, where, runOnly=["color-contrast"]), scheme


@pytest.mark.parametrize("name", PAGES)
def test_page(visit, name):
    "Text, pictures, mathematics, layout, accessibility and colours of one page, wide and narrow."
    page = visit(name)
    check_text(page)
    page.add_style_tag(content=STILL)
    page.evaluate(OPEN)
    if told := os.environ.get("SCROLLING"):  # for `tools/check.py site`, which sums
        counts = json.dumps([name, *page.evaluate(SCROLLING)])
        with open(told, "a", encoding="utf-8") as file: file.write(counts + "\n")
    if name == CODE: check_colours(page, code=True)
    if not QUARTO:
        assert not page.query_selector_all(ODD)
        page.evaluate(PLAIN)
    check_layout(page)
    if name != CODE: check_colours(page, code=False)
    page.set_viewport_size(NARROW)
    page.evaluate(SETTLED)
    check_layout(page)


@pytest.mark.parametrize("name", MOVING)
def test_sliders(visit, name):
    "The keyboard moves each figure, its words and what is read out."
    page = visit(name)
    for figure in page.query_selector_all(".explorable:not(:has(.point))"):
        slider, pictures, words = figure.query_selector("input"), set(), set()
        slider.focus()
        for key in ("Home", "ArrowRight", "ArrowRight", "End", "ArrowLeft"):
            page.keyboard.press(key)
            said = figure.query_selector("output").text_content()
            assert slider.get_attribute("aria-valuetext") == said
            pictures.add(figure.query_selector("svg").inner_html())
            words.add(said)
        assert len(pictures) == len(words) == 5
        assert len(figure.inner_html()) < 1_000_000


def seen(figure) -> tuple[str, str]:
    "The window on the pictures, and the code; what is written is what is read out."
    said = figure.query_selector("output").text_content()
    assert figure.query_selector(".point").get_attribute("aria-valuetext") == said
    picture = figure.query_selector_all("svg")[1]
    assert picture.get_attribute("aria-label") == said
    return picture.get_attribute("viewBox"), said.partition(":")[0]


@pytest.mark.parametrize("name", PLANES)
def test_planes(visit, name):
    "Keyboard, mouse and switch lead to other pictures; what is said of each is read out."
    page = visit(name)
    page.add_style_tag(content="html { scroll-behavior: auto !important }")  # focus scrolls at once
    for figure in page.query_selector_all(".explorable:has(.point)"):
        plane, picture = figure.query_selector_all("svg")
        figure.query_selector(".point").focus()
        seen_at = {}
        for key in ("Home", "PageUp", "ArrowRight", "ArrowDown", "End", "PageDown", "ArrowLeft",
                    "ArrowUp"):
            page.keyboard.press(key)
            seen_at[key] = seen(figure)
        assert len(set(seen_at.values())) == 8
        plane.scroll_into_view_if_needed()
        box = plane.bounding_box()
        left, top = box["x"] + 3, box["y"] + 3
        page.mouse.move(left + box["width"]/2, top + box["height"]/2)
        page.mouse.down()
        page.mouse.move(left, top)
        page.mouse.up()
        assert seen(figure) == seen_at["PageUp"] and page.evaluate(
            "() => document.activeElement.className") == "point"
        switch, pictures = figure.query_selector_all("[type=radio]"), set()
        for model in switch:
            model.check()
            pictures.add((seen(figure)[0], picture.screenshot()))
        assert len(pictures) == len(switch) > 1
        without = plane.screenshot()
        figure.query_selector("[type=checkbox]").check()
        assert plane.screenshot() != without and len(figure.inner_html()) < 1_000_000


@pytest.mark.parametrize("name", MOVING)
def test_without_script(browser, address, name):
    "The still picture alone, where script is off."
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"{address}{name}")
    for figure in page.query_selector_all(".explorable"):
        assert figure.query_selector("svg").is_visible()
        assert not any(part.is_visible() for part in figure.query_selector_all("input, .point"))


@pytest.mark.parametrize("words, page_found", [("infomax", "theory/infomax.html"),
                                               ("checkpoint", "training/resume.html")])
def test_search(visit, words, page_found):
    "The search finds, with no server, and leads to a page in a folder."
    if QUARTO: return search_of_quarto(words, page_found)
    page = visit(f"search.html?q={words}")
    page.wait_for_selector("#search-results li a")
    link = page.query_selector(f"#search-results li a[href*='{page_found}']")
    assert link and (DOCS/urlsplit(link.get_attribute("href")).path).is_file()


def search_of_quarto(words: str, page_found: str) -> None:
    "What Quarto's search looks through: the page is listed with these words."
    entries = json.loads((DOCS/"search.json").read_text("utf-8"))
    assert any(page_found in entry["href"] and words in str(entry).lower() for entry in entries)


class Anchors(HTMLParser):
    "The ids of a page, and the links on it."
    def __init__(self, name: str):
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed((DOCS/name).read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if "id" in given: self.ids.add(given["id"])
        if tag == "a" and given.get("href"): self.links.add(given["href"])


def test_links():
    "Every link within the site finds its page, and its place there."
    pages = {DOCS/name: Anchors(name) for name in PAGES}
    links = {(path, urljoin(path.as_uri(), link)) for path, page in pages.items()
             for link in page.links}
    if QUARTO:  # nbdev's links from names are whole addresses there
        links = {(path, link.replace(docs.SITE, f"{DOCS.as_uri()}/")) for path, link in links}
    links = {each for each in links if each[1].startswith(("file:", docs.SITE))}
    assert len(links) > 1000 and len(MOVING) == 6 and CODE in PAGES
    def found(link: str) -> bool:
        target, anchor = urldefrag(link)
        file = Path(unquote(urlsplit(target).path))
        if link.startswith(docs.SITE) or not (file.is_relative_to(DOCS) and file.is_file()):
            return False
        return not anchor or file in pages and unquote(anchor) in pages[file].ids
    broken = sorted(f"{path.relative_to(DOCS)}: {link.removeprefix(f'{DOCS.as_uri()}/')}"
                    for path, link in links if not found(link))
    assert not broken, "\n".join(broken)


def test_size():
    "The site is under 22 MB, or 40 with Quarto's files, and a page with its pictures under 2."
    size = sum(path.stat().st_size for path in DOCS.rglob("*") if path.is_file())
    assert size < (40e6 if QUARTO else 22e6)
    for name in PAGES:
        html = (DOCS/name).read_text("utf-8")
        shown = re.findall(r'<img[^>]* src="([^":]+)"', html)
        pictures = {((DOCS/name).parent/src).resolve() for src in shown}
        assert len(html.encode()) + sum(path.stat().st_size for path in pictures) < 2e6, name
