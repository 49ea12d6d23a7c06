"Write mae_nb/, README.md and the site's sidebar from the notebooks, then clean them."
import re

from nbdev.clean import nbdev_clean
from nbdev.config import get_config
from nbdev.doclinks import nbdev_export
from readme import write_readme


def with_files(sidebar: str, notebooks: list[str]) -> str:
    "The text of _quarto.yml, each section of whose sidebar lists the notebooks of its folder."
    def listed(m: re.Match) -> str:
        "The files of the folder that the last one listed lies in; `index.ipynb` stays first."
        before = m[0].split(", ")
        folder = before[-1].partition("/")[0]
        found = [name for name in sorted(notebooks) if name.startswith(f"{folder}/")]
        return ", ".join([name for name in before if name == "index.ipynb"] + found)
    return re.sub(r"(?<=^        contents: \[)[^\]]+", listed, sidebar, flags=re.M)


def write_sidebar() -> None:
    "Bring the sidebar of _quarto.yml in step with the folders of notebooks."
    cfg = get_config()
    path = cfg.config_path/"_quarto.yml"
    text = path.read_text(encoding="utf-8")
    found = (nb.relative_to(cfg.nbs_path) for nb in cfg.nbs_path.rglob("*.ipynb"))
    names = [nb.as_posix() for nb in found if not nb.parent.name.startswith((".", "_"))]
    if (new := with_files(text, names)) != text: path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    nbdev_export()
    nbdev_clean()
    write_sidebar()
    write_readme()
