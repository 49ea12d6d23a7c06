"""The README's way from a table to a certificate, word for word.

Run by `make test` with the installed wheel and its extra `save`, from an empty directory.
"""
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
readme = Path(sys.argv[1]).read_text(encoding="utf-8")
draw = np.random.default_rng(0)
common = draw.normal(size=(2000, 1))
ages_and_doses = common + .3*draw.normal(size=(2000, 2))
table = np.hstack([ages_and_doses, draw.normal(size=(2000, 1))])*[3., .1, 40.] + [50., 0., 1000.]
np.savetxt("table.csv", table, delimiter=",", header="age,dose,weight", comments="")

block, = (code for code in re.findall(r"```python\n(.*?)```", readme, flags=re.S)
          if "table.csv" in code)
assert len(block.strip().splitlines()) <= 12
given: dict = {}
exec(block.replace("steps=2000,", "steps=2000, progress=False,"), given)  # but for the progress bar
assert given["report"](given["mae"], given["test"]).certificate.held
assert Path("history.png").stat().st_size > 10_000
assert given["load"]("model").certified[0] == given["mae"].certified[0]

train, info = (re.search(rf"`({name} .*?)`", readme)[1] for name in ("mae_train", "mae_info"))
Path("run").rename("by_python")
said = subprocess.run(f"{train} --steps 1000".split(), check=True, capture_output=True,
                      text=True).stdout
assert "asked 1 " in said and ": held" in said, said
said = subprocess.run(info.split(), check=True, capture_output=True, text=True).stdout
assert "held" in said and Path("run/curves.png").stat().st_size > 10_000, said
subprocess.run("mae_encode run table.csv --out codes.npy".split(), check=True, capture_output=True)
assert np.load("codes.npy").shape == (2000, 2)
