"Write mae_nb/ and README.md from the notebooks, which lose what only one machine knows."
from nbdev.clean import nbdev_clean
from nbdev.doclinks import nbdev_export
from readme import write_readme

if __name__ == "__main__":
    nbdev_export()
    nbdev_clean()
    write_readme()
