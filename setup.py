"Packaging, read from settings.ini: for pyproject.toml, which nbdev writes, each field is dynamic."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(root/"settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]
name = cfg["lib_name"]
oldest = int(cfg["min_python"].split(".")[1])
python_versions = [f"Programming Language :: Python :: 3.{minor}" for minor in range(oldest, 14)]
extras = ("dev", "flows", "jobs", "save", "sklearn", "tensorboard")

setup(
    name=name,
    version=cfg["version"],
    description=cfg["description"],
    long_description=(root/"README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords=cfg["keywords"].split(),
    license="Apache-2.0 AND PSF-2.0",  # the second for mae_nb/corpora
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    project_urls={"Documentation": cfg["doc_host"] + cfg["doc_baseurl"] + "/"},
    classifiers=["Development Status :: 3 - Alpha", "Intended Audience :: Science/Research",
                 "Natural Language :: English", *python_versions],
    packages=find_packages(include=[name, f"{name}.*"]),
    package_data={name: ["corpora/*"]},  # a file of sentences, and its licence
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require={extra: cfg[f"{extra}_requirements"].split() for extra in extras},
    # The second entry lets other nbdev projects link to these docs.
    entry_points={"console_scripts": cfg["console_scripts"].split(),
                  "nbdev": [f"{name}={name}._modidx:d"]},
    zip_safe=False,
)
