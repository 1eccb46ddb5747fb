"""The command `vaflow import-features`: its arguments and its output."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.terminal import print_lines

DESCRIPTION = """\
Bring features that were made elsewhere into a store, as a feature set that heads read like any
other. Files of the same kind and version are one feature set, to which later imports add clips; a
clip that changed is replaced. Options go ahead of the files or after STORE.
"""
EPILOG = """\
files:
  .npy               (rows, width) of one clip, that of the file's name or of --clip;
                     times by --fps or --times
  .npz               an array (rows, width) per clip and its times as CLIP.time_s, or the arrays
                     features, clip and time with an entry per row
  .csv .tsv .parquet a column of clips, one of times, all others are features; a table without a
                     column of clips is of the clip of the file's name or of --clip
  .h5 .hdf5          a group per clip, with features (rows, width) and time_s (rows,)

Times are on the clock of the video, in seconds or as --time-unit or --frame-column say, increasing
within a clip. Values must be finite unless --valid-column marks the row with 0, and are stored in
float16. In an .npz, the marks of a clip are CLIP.NAME, in an .h5 CLIP/NAME.
"""


def add_import_features_command(commands: Any) -> None:
    """Add `import-features` to the command line."""
    command = commands.add_parser(
        "import-features",
        help="bring features made elsewhere into a store",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("files", type=Path, nargs="+", metavar="FILE")
    command.add_argument("store", metavar="STORE")
    command.add_argument(
        "--manifest", type=Path, required=True, help="names the clips and their media"
    )
    command.add_argument(
        "--kind", required=True, metavar="NAME", help="a name for the features, such as openface"
    )
    command.add_argument(
        "--modality", choices=("visual", "audio"), required=True, help="what they are made of"
    )
    command.add_argument(
        "--version",
        metavar="TEXT",
        help="the version of what made them; another one makes a feature set of its own",
    )
    command.add_argument("--clip", metavar="CLIP", help="the clip of a file that names none")
    command.add_argument(
        "--clip-column", metavar="NAME", help="the column or array of clips (clip)"
    )
    command.add_argument(
        "--time-column", metavar="NAME", help="the column or array of times (time)"
    )
    command.add_argument("--time-unit", choices=("s", "ms"), help="the unit of times (s)")
    command.add_argument(
        "--frame-column",
        metavar="NAME",
        help="a column of numbers of frames, which are times at --fps frames a second",
    )
    command.add_argument(
        "--first-frame",
        type=int,
        default=0,
        metavar="N",
        help="the number of the video's first frame in --frame-column (0)",
    )
    command.add_argument(
        "--valid-column",
        metavar="NAME",
        help="a column of 1 and 0; rows with 0 are not valid and may hold anything",
    )
    command.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="NAME",
        help="a column that is no feature; may be repeated",
    )
    command.add_argument(
        "--fps", type=float, metavar="F", help="rows a second, from 0, of files without times"
    )
    command.add_argument(
        "--times", type=Path, metavar="FILE.npy", help="the times (rows,) of a .npy"
    )
    command.add_argument(
        "--frame-rows",
        action="store_true",
        help="each row is a frame of the video, so that labels can be counted by them",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(command=_import_features)


def _import_features(arguments: argparse.Namespace) -> int:
    from features.imports.import_features import import_features, render_import
    from features.imports.options import ImportOptions, ReadOptions
    from flows.progress import progress_bar

    reading = ReadOptions(
        clip=arguments.clip,
        fps=arguments.fps,
        times=arguments.times,
        clip_column=arguments.clip_column,
        time_column=arguments.time_column,
        time_unit=arguments.time_unit,
        frame_column=arguments.frame_column,
        first_frame=arguments.first_frame,
        valid_column=arguments.valid_column,
        drop=tuple(arguments.drop),
    )
    options = ImportOptions(
        tuple(arguments.files),
        arguments.kind,
        arguments.modality,
        reading,
        has_frame_rows=arguments.frame_rows,
        version=arguments.version,
    )
    with progress_bar("import-features") as on_progress:
        result = import_features(options, arguments.store, arguments.manifest, on_progress)
    if arguments.json:
        print(json.dumps(asdict(result), indent=2))
    else:
        print_lines(
            *render_import(result),
            f"import-features: {result.feature_set}: {len(result.written)} clips written"
            f"{f' ({len(result.replaced)} of them replaced)' if result.replaced else ''}, "
            f"{len(result.present)} already there; {result.n_rows} rows of {result.width} numbers, "
            f"in {arguments.store}",
        )
    return 1 if result.unknown or result.failed else 0
