"""The learning curves of several data sets together: the mean difference of each row.

    python benchmarks/words_over_sets.py data/demo/curve data/seed-1/curve ...

reads the `learning_curve.csv` that `vaflow run learning-curve` wrote in each folder. For each
number of people and each row that all of them have, prints the difference to the default of each
set, the mean over the sets, and its 95 % interval (Student's t: each set has people of its own).
"""

import argparse
import csv
from pathlib import Path

from features.errors import InputError
from models.metrics.intervals import interval_over_seeds
from models.stages.learning_curve import CSV


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    folders: list[Path] = parser.parse_args().folders
    curves = [_differences(folder / CSV) for folder in folders]
    print("| people | row | " + " | ".join(map(str, folders)) + " | mean (95 %) |")
    print("|--:|---" + "|--:" * (len(folders) + 1) + "|")
    for row in curves[0]:
        if not all(row in curve for curve in curves):
            continue
        differences = [curve[row] for curve in curves]
        over = interval_over_seeds(differences)
        mean = "" if over is None else f"{over.value:+.3f} ({over.low:+.3f} to {over.high:+.3f})"
        cells = [str(row[0]), row[1], *(f"{value:+.3f}" for value in differences), mean]
        print("| " + " | ".join(cells) + " |")


def _differences(path: Path) -> dict[tuple[int, str], float]:
    """The difference to the default by number of people and row, without label noise."""
    if not path.exists():
        raise InputError(f"there is no {path}: `vaflow run learning-curve` writes it")
    with path.open(newline="", encoding="utf-8") as file:
        return {
            (int(row["people"]), row["row"]): float(row["difference"])
            for row in csv.DictReader(file)
            if not float(row["noise"]) and row["row"] != "default" and row["difference"]
        }


if __name__ == "__main__":
    main()
