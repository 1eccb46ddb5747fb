"""The command `export-head`: a trained head as a program that runs without vaflow."""

import argparse
from pathlib import Path
from typing import Any

from flows.terminal import print_lines


def add_export_head_command(commands: Any) -> None:
    """Add `export-head`."""
    export = commands.add_parser(
        "export-head",
        help="write a trained head as a program of torch.export, with a model card",
        description="Write a trained head as a program that runs with torch alone, or with ONNX, "
        "beside a description of what it reads and a model card.",
    )
    export.add_argument("run", type=Path, metavar="RUN", help="folder of a trained head")
    export.add_argument("output", type=Path, metavar="OUT", help="a new folder, or an earlier one")
    export.add_argument(
        "--onnx", action="store_true", help="also write head.onnx (needs onnx and onnxscript)"
    )
    export.set_defaults(command=_export_head)


def _export_head(arguments: argparse.Namespace) -> int:
    from models.stages.export_head import export_head

    result = export_head(arguments.run, arguments.output, onnx=arguments.onnx)
    print_lines(result.summary())
    for note in result.notes:
        print_lines(f"  note: {note}")
    return 0
