"""The built site in a real browser: `make docs` makes it, `tools/check.py site` runs this. Chromium is Debian's; Playwright drives it."""
import os
import re
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import docs
import pytest
from axe_playwright_python.sync_playwright import Axe
from check import BROWSERS, find_browser
from playwright.sync_api import sync_playwright

DOCS = Path(__file__).resolve().parents[1]/"_docs"
PAGES = sorted(path.name for path in DOCS.glob("*.html"))
MOVING = [name for name in PAGES if 'class="explorable"' in (DOCS/name).read_text("utf-8")]
VIEWS = {"wide": {"width": 1440, "height": 900}, "narrow": {"width": 390, "height": 844}}
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
UNREAD = r"\$[^$]{1,400}\$|\\[A-Za-z]{2,}|\\[()\[\]]|\?@|\{#|(?<!\w)@[a-z]\w+|\[@|:::|\{\.callout"  # Markdown or TeX that nothing has read
TEXT = """() => {
  const body = document.querySelector('article').cloneNode(true)
  body.querySelectorAll('pre, code, script, style, mjx-container').forEach(part => part.remove())
  const unseen = [...document.querySelectorAll('[alt], [aria-label]')].map(e => e.getAttribute('alt') ?? e.getAttribute('aria-label'))
  return [body.textContent, ...unseen].join(' ')
}"""
WIDE = """() => [...document.querySelectorAll('article *')].filter(e => !e.closest('pre, table, .explorable, .math')).filter(e =>
  e.getBoundingClientRect().right > innerWidth + 1 ||
  (/hidden|clip/.test(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1 && !e.querySelector('mjx-container'))
).map(e => e.outerHTML.slice(0, 120))"""  # what is cut off, or sticks out
OPEN, STILL = "document.querySelectorAll('details').forEach(part => part.open = true)", "* { animation: none !important; transition: none !important }"
UNDESCRIBED = "article img:not([alt]), article img[alt=''], .explorable svg:not([aria-label])"


@pytest.fixture(scope="session")
def browser():
    "Chromium, for all tests; without it, they are skipped."
    if not (found := find_browser()): pytest.skip(f"no browser; put {' or '.join(BROWSERS)} on the PATH (Debian: `apt-get install chromium`)")
    with sync_playwright() as playwright: yield playwright.chromium.launch(executable_path=found, args=QUIET)


@pytest.fixture
def visit(browser):
    "Open a page of the site; afterwards, no error may have been reported, and no request have left the machine."
    page, faults = browser.new_page(viewport=VIEWS["wide"]), []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    page.on("request", lambda request: None if request.url.startswith((DOCS.as_uri(), "data:", "blob:")) else faults.append(f"left the site: {request.url}"))
    def open_page(name, view=VIEWS["wide"]):
        page.set_viewport_size(view)
        page.goto(f"{(DOCS/name.partition('?')[0]).as_uri()}{''.join(name.partition('?')[1:])}")
        page.evaluate("async () => { await window.MathJax?.startup?.promise; await document.fonts.ready; await new Promise(requestAnimationFrame) }")
        return page
    yield open_page
    page.close()
    assert not faults


def faults(page, context=None, **options) -> list[str]:
    "What axe finds serious on the page as it is."
    found = Axe().run(page, context, options={"preload": False, "resultTypes": ["violations"]} | options).response["violations"]
    return [f"{v['id']}: {node['html'][:150]}: {node.get('failureSummary', '')}" for v in found if v["impact"] in ("serious", "critical") for node in v["nodes"][:4]]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", PAGES)
def test_page(visit, name, view):
    "Pictures, text, mathematics, layout and accessibility of one page, but for colours."
    page = visit(name, VIEWS[view])
    for picture in page.query_selector_all("img"): assert picture.evaluate("e => e.complete && e.naturalWidth > 0"), picture.get_attribute("src")
    assert not page.query_selector_all(UNDESCRIBED)
    assert not (found := re.findall(f".{{0,20}}(?:{UNREAD}).{{0,20}}", page.evaluate(TEXT) if page.query_selector("article") else "")), found
    assert not page.query_selector_all("mjx-merror")
    page.add_style_tag(content=STILL)
    page.evaluate(OPEN)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"), page.evaluate(WIDE)
    assert not page.evaluate(WIDE)
    assert not faults(page, rules={"color-contrast": {"enabled": False}})


@pytest.mark.parametrize("name", PAGES)
def test_colours(visit, name):
    "Contrast, light and dark; that of code, which has the same colours everywhere and thousands of words, on one page."
    page = visit(name)
    page.add_style_tag(content=STILL)
    page.evaluate(OPEN)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert not faults(page, None if name == "explore.html" else {"exclude": [["pre"]]}, runOnly=["color-contrast"])


@pytest.mark.parametrize("name", MOVING)
def test_sliders(visit, name):
    "The keyboard moves each figure, its words and what is read out."
    page = visit(name)
    for figure in page.query_selector_all(".explorable"):
        slider, pictures, words = figure.query_selector("input"), set(), set()
        slider.focus()
        for key in ("Home", "ArrowRight", "ArrowRight", "End", "ArrowLeft"):
            page.keyboard.press(key)
            assert slider.get_attribute("aria-valuetext") == figure.query_selector("output").text_content()
            pictures.add(figure.query_selector("svg").inner_html())
            words.add(figure.query_selector("output").text_content())
        assert len(pictures) == len(words) == 5
        assert len(figure.inner_html()) < 1_000_000


@pytest.mark.parametrize("name", MOVING)
def test_without_script(browser, name):
    "The still picture alone, where script is off."
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto((DOCS/name).as_uri())
    for figure in page.query_selector_all(".explorable"): assert figure.query_selector("svg").is_visible() and not figure.query_selector("input").is_visible()


def test_search(visit):
    "The search finds, with no server."
    page = visit("search.html?q=infomax")
    page.wait_for_selector("#search-results li a")
    assert page.query_selector("#search-results li a[href*='infomax.html']")


def test_links(browser):
    "Every link within the site finds its page, and its place there."
    page, ids, links = browser.new_page(), {}, []
    for name in PAGES:
        page.goto((DOCS/name).as_uri())
        ids[name] = set(page.evaluate("() => [...document.querySelectorAll('[id]')].map(e => e.id)"))
        links += [(name, link) for link in page.evaluate("() => [...document.querySelectorAll('a[href]')].map(e => e.href)") if link.startswith(("file:", docs.SITE))]
    assert len(links) > 1000 and len(MOVING) == 4
    broken = []
    for name, link in set(links):
        target, anchor = urldefrag(link)
        file = Path(unquote(urlsplit(target).path))
        found = file.is_relative_to(DOCS) and file.is_file() and (not anchor or unquote(anchor) in ids.get(file.name, ()))
        if link.startswith(docs.SITE) or not found: broken.append(f"{name}: {os.path.basename(link)}")
    assert not broken, "\n".join(sorted(broken))


def test_size():
    "The site is under 15 MB, and a page with its pictures under 2."
    assert sum(path.stat().st_size for path in DOCS.rglob("*") if path.is_file()) < 15e6
    for name in PAGES:
        html = (DOCS/name).read_text("utf-8")
        pictures = {DOCS/src for src in re.findall(r'<img[^>]* src="([^":]+)"', html)}
        assert len(html.encode()) + sum(path.stat().st_size for path in pictures) < 2e6, name
