"Packaging, read from settings.ini: for pyproject.toml, which nbdev writes, each field is dynamic."
import re
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
files = f"{cfg['git_url']}/{{}}/{cfg['branch']}/"
# README.md, whose pictures and links are found from an index, too
readme = (root/"README.md").read_text(encoding="utf-8")
readme = re.sub(r"(!\[[^\]]*\]\()(?!\w+:)", rf"\1{files.format('raw')}", readme)
readme = re.sub(r"(?<=\]\()(?!\w+:|#)", files.format("blob"), readme)

setup(
    name=name,
    version=cfg["version"],
    description=cfg["description"],
    long_description=readme,
    long_description_content_type="text/markdown",
    keywords=cfg["keywords"].split(),
    license_expression="Apache-2.0 AND PSF-2.0",  # the second for mae_nb/corpora
    license_files=["LICENSE", f"{name}/corpora/LICENSE.txt"],
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    project_urls={"Documentation": cfg["doc_host"] + cfg["doc_baseurl"] + "/",
                  "Changelog": files.format("blob") + "CHANGELOG.md",
                  "Issues": cfg["git_url"] + "/issues"},
    classifiers=["Development Status :: 3 - Alpha", "Intended Audience :: Science/Research",
                 "Natural Language :: English",
                 "Programming Language :: Python :: 3", *python_versions,
                 "Topic :: Scientific/Engineering :: Artificial Intelligence"],
    packages=find_packages(include=[name, f"{name}.*"]),
    include_package_data=False,  # only what the next line names
    package_data={name: ["corpora/*"]},  # a file of sentences, and its licence
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require={extra: cfg[f"{extra}_requirements"].split() for extra in extras},
    # The second entry lets other nbdev projects link to these docs.
    entry_points={"console_scripts": cfg["console_scripts"].split(),
                  "nbdev": [f"{name}={name}._modidx:d"]},
    zip_safe=False,
)
