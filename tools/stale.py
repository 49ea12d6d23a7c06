"""Does a run give what a notebook stores?

Words must be the same; numbers and pictures may differ as much as another processor's rounding
makes them. A cell that measures time or memory carries `#| measured`, and is not compared; a slow
one is not run. A cell whose numbers are errors in small units states how much they may differ, as
`#| within 3`. Pictures that two versions of Matplotlib drew are not compared: layout and letters
differ from one to the next.
"""
import re
from base64 import b64decode
from difflib import unified_diff
from io import BytesIO
from pathlib import Path

import matplotlib.image
import numpy as np
from execnb.nbio import read_nb
from run_nbs import execute, skipped

NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
RELATIVE, ABSOLUTE = .03, .03  # of a number: 3 % and 0.03, in nats for most
INK = .25  # of two pictures: how much of what is drawn may be elsewhere, to within 16 pixels


def near(a: float, b: float, within: float) -> bool:
    "Are two numbers the same, within the tolerance?"
    return a == b or abs(a - b) <= within + RELATIVE*max(abs(a), abs(b))


def same_text(a: str, b: str, within: float = ABSOLUTE) -> bool:
    "Are two texts the same, but for white space and for numbers within the tolerance?"
    words = [" ".join(NUMBER.sub(" # ", text).split()) for text in (a, b)]
    numbers = (map(float, NUMBER.findall(text)) for text in (a, b))
    return words[0] == words[1] and all(near(x, y, within) for x, y in zip(*numbers))


def ink(png: str, size: int = 16) -> np.ndarray:
    "How dark each square of a picture is, of so many pixels a side."
    picture = matplotlib.image.imread(BytesIO(b64decode(png)))[..., :3].mean(-1)
    height, width = (n//size*size for n in picture.shape)
    return 1 - picture[:height, :width].reshape(height//size, size, width//size, size).mean((1, 3))


def same_picture(a: str, b: str) -> bool:
    "Do two PNG files, in base64, show the same, but for lines that moved a little?"
    x, y = ink(a), ink(b)
    return x.shape == y.shape and float(np.abs(x - y).sum()) <= INK*max(x.sum(), y.sum())


def drawn_with(kind: str, picture: str) -> str | None:
    "The version of Matplotlib, as 3.11, that a PNG or SVG says it was drawn with."
    text = b64decode(picture).decode("latin-1") if kind.startswith("image/png") else picture
    return found[1] if (found := re.search(r"Matplotlib v(?:ersion)?(\d+\.\d+)", text)) else None


def same(kind: str, a: str, b: str, within: float) -> bool:
    "Are two outputs of one kind the same? Coordinates of SVG are rounded to a tenth of a point."
    if kind.startswith("image") and drawn_with(kind, a) != drawn_with(kind, b): return True
    if kind.startswith("image/png"): return same_picture(a, b)
    return same_text(a, b, max(within, .11) if "svg" in kind or "html" in kind else within)


def parts(outputs) -> dict[str, str]:
    "What a cell shows, by kind: all of its printed text, then each other thing."
    res = {"text": "".join("".join(o.text) for o in outputs if o.output_type == "stream")}
    shown = [o.data for o in outputs if "data" in o]
    return res | {f"{kind} {i}": "".join(data) for i, bundle in enumerate(shown)
                  for kind, data in bundle.items()}


def differences(stored, fresh, within: float = ABSOLUTE) -> list[str]:
    "How what a cell stores differs from what it gave now."
    a, b = parts(stored), parts(fresh)
    if a.keys() != b.keys(): return [f"stores {', '.join(a)}, gave {', '.join(b)}"]
    wrong = [kind for kind in a if not same(kind, a[kind], b[kind], within)]
    def lines(kind: str) -> str:
        "The lines that differ, where they are not too long to be read."
        if len(a[kind]) >= 20_000 or kind.startswith("image"): return ""
        two = a[kind].splitlines(), b[kind].splitlines()
        found = unified_diff(*two, "stored", "now", n=0, lineterm="")
        return "\n" + "\n".join(line[:200] for line in found)[:2000]
    return [f"{kind} differs{lines(kind)}" for kind in wrong]


def rerun(path: Path) -> tuple[str, float]:
    "Run a notebook without its slow cells and compare: what went wrong, and the seconds it took."
    nb, seconds, error = execute(path, slow=False)
    if error: return error, seconds
    found = []
    for old, new in zip(read_nb(path).cells, nb.cells):
        measured = re.search(r"^#\| *measured", new.source, flags=re.M)
        if measured or skipped(new, slow=False): continue
        within = re.search(r"^#\| *within +(\S+)", new.source, flags=re.M)
        may = float(within[1]) if within else ABSOLUTE
        found += [f"cell {new.id}, {new.source[:60]!r}: {what}"
                  for what in differences(old.outputs, new.outputs, may)]
    return "\n".join(found), seconds
