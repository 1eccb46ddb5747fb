"""The rows of a CSV, TSV, JSON Lines or Parquet file, one by one, each with its number."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from features.errors import InputError, one_line

DELIMITERS = (",", ";", "\t")
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
Row = tuple[int, dict[str, str]]


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the number and the cells of each row, by column; an empty cell is "".

    A row is numbered by its line in the file, in Parquet from 1. The delimiter of a text file is
    the one of comma, semicolon and tab that its first line has most often. Raises `InputError` for
    what is not a table, with the number of the row.
    """
    try:
        if path.suffix.lower() == ".parquet":
            yield from _parquet(path)
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() in JSON_SUFFIXES:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield number, _json_row(path, number, line)
                return
            first = file.readline()
            file.seek(0)
            delimiter = max(DELIMITERS, key=first.count)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            if len(set(header)) < len(header):
                double = next(name for name in header if header.count(name) > 1)
                raise InputError(f"{path} has two columns {double!r}; rename one")
            for cells in reader:
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    raise InputError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells, but the header has "
                        f"{len(header)} columns; is a cell with a delimiter not in quotes?"
                    )
                yield reader.line_num, dict(zip(header, map(str.strip, cells), strict=True))
    except OSError as error:
        raise InputError(f"the table {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"the table {path} is not text in UTF-8 ({error.reason}); save it as UTF-8"
        ) from None
    except csv.Error as error:
        raise InputError(f"the table {path} cannot be read: {one_line(error)}") from None


def _json_row(path: Path, number: int, line: str) -> dict[str, str]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}, line {number}: not JSON ({one_line(error)})") from None
    if not isinstance(fields, dict):
        raise InputError(
            f"{path}, line {number}: each line must be one object, with a key a column"
        )
    return _texts(fields)


def _parquet(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise InputError(
            f"{path} is Parquet, which needs pyarrow: install vaflow with [parquet]"
        ) from None
    number = 0
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches():
                for fields in batch.to_pylist():
                    number += 1
                    yield number, _texts(fields)
    except ArrowException as error:
        raise InputError(f"the table {path} is not Parquet ({one_line(error)})") from None


def _texts(fields: Mapping[str, object]) -> dict[str, str]:
    return {
        name: "" if value is None else value if isinstance(value, str) else str(value)
        for name, value in fields.items()
    }
