"""The rows of a video as a file: CSV, JSON or Parquet."""

import csv
import importlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from features.errors import InputError
from features.system.files import write_atomic
from models.prediction.rows import PersonRows, region_words
from models.regions.grid import Grid

TableFormat = Literal["csv", "parquet", "json"]
COLUMNS = (
    "frame",
    "time_s",
    "person",
    "face_x",
    "face_y",
    "face_w",
    "face_h",
    "valid",
    "valence",
    "arousal",
    "region",
    "region_probability",
    "valence_spread",
    "arousal_spread",
)
"""The columns of every format. Frames and people count from 1; `valid` is 1 or 0."""
DECIMALS = {"time_s": 6, "region_probability": 4}
OTHER_DECIMALS = 6
BOX_DECIMALS = 1

Cell = int | float | str | None
Column = Sequence[Cell]


def check_table_format(table: TableFormat) -> None:
    """Raise `InputError` if the library of a format is not installed."""
    if table == "parquet":
        try:
            importlib.import_module("pyarrow.parquet")
        except ImportError:
            raise InputError(
                "format = parquet needs pyarrow, which is not installed; install it with "
                "`pip install pyarrow`, or take csv or json"
            ) from None


def write_table(path: Path, table: TableFormat, people: Sequence[PersonRows], grid: Grid) -> None:
    """Write the rows of all people, whole or not at all; person after person."""
    write_atomic(path, WRITERS[table]([columns_of(person, grid) for person in people]))


def columns_of(person: PersonRows, grid: Grid) -> dict[str, Column]:
    """Return the cells of each of `COLUMNS`, a cell per frame; None where there is no value."""
    n_rows = len(person.time_s)
    empty: Column = [None] * n_rows
    columns: dict[str, Column] = dict.fromkeys(COLUMNS, empty)
    columns |= {
        "frame": range(1, n_rows + 1),
        "time_s": _rounded(person.time_s, "time_s"),
        "person": [person.number] * n_rows,
        "valid": person.valid.astype(int).tolist(),
        "valence": _rounded(person.va[:, 0]),
        "arousal": _rounded(person.va[:, 1]),
    }
    if person.boxes is not None:
        for name, column in zip(COLUMNS[3:7], person.boxes.T, strict=True):
            columns[name] = [
                None if np.isnan(c) else round(c, BOX_DECIMALS) for c in column.tolist()
            ]
    if person.regions is not None:
        words, known = region_words(grid), person.regions.valid.tolist()
        best = person.regions.posterior.argmax(axis=1).tolist()
        shares = _rounded(person.regions.posterior.max(axis=1), "region_probability")
        pairs = list(zip(best, shares, known, strict=True))
        columns["region"] = [words[index] if is_known else None for index, _, is_known in pairs]
        columns["region_probability"] = [
            share if is_known else None for _, share, is_known in pairs
        ]
    if person.spread is not None:
        columns["valence_spread"] = _rounded(person.spread[:, 0])
        columns["arousal_spread"] = _rounded(person.spread[:, 1])
    return columns


def _rounded(values: np.ndarray, name: str = "") -> list[float]:
    return np.round(values, DECIMALS.get(name, OTHER_DECIMALS)).tolist()


def _csv(people: Sequence[Mapping[str, Column]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for columns in people:
        cells: Iterator[Iterable[str]] = (_texts(name, columns[name]) for name in COLUMNS)
        writer.writerows(zip(*cells, strict=True))
    return text.getvalue().encode()


def _texts(name: str, column: Column) -> Iterator[str]:
    """Yield the cells as text: numbers that are measured have a fixed number of decimals."""
    decimals = DECIMALS.get(name, BOX_DECIMALS if name.startswith("face") else OTHER_DECIMALS)
    for cell in column:
        if isinstance(cell, float):
            yield f"{cell:.{decimals}f}"
        else:
            yield "" if cell is None else str(cell)


def _json(people: Sequence[Mapping[str, Column]]) -> bytes:
    lists = [{name: list(columns[name]) for name in COLUMNS} for columns in people]
    return (json.dumps({"people": lists}, separators=(",", ":")) + "\n").encode()


def _parquet(people: Sequence[Mapping[str, Column]]) -> bytes:
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    types = {"frame": arrow.int64(), "person": arrow.int64(), "valid": arrow.int64()}
    schema = arrow.schema(
        [(name, arrow.string() if name == "region" else types.get(name, arrow.float64()))
         for name in COLUMNS]
    )  # fmt: skip
    tables = [
        arrow.table({name: list(columns[name]) for name in COLUMNS}, schema=schema)
        for columns in people
    ]
    written = arrow.BufferOutputStream()
    parquet.write_table(arrow.concat_tables(tables) if tables else schema.empty_table(), written)
    return written.getvalue().to_pybytes()


WRITERS: Mapping[TableFormat, Callable[[Sequence[Mapping[str, Column]]], bytes]] = {
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
}
