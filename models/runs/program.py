"""The network of a trained head as a program of `torch.export`, which runs without this code."""

import importlib
import io
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from features.errors import InputError, one_line
from models.data.batch import Batch, StreamBatch
from models.data.windows import N_AUDIO, N_VISUAL
from models.heads.base import Head
from models.runs.checkpoint import CheckpointMeta

VA, REGION_LOGITS, REGION_VALID = "va", "region_logits", "region_valid"
"""The outputs of a program; the latter two if its region branch was trained."""
N_EXAMPLES = 3  # windows that are traced; a program takes any number
ONNX_PACKAGES = ("onnx", "onnxscript")
RNN_WARNING = "The tensor attributes .*_flat_weights.* were assigned during export"
"""Torch's own RNN modules keep a list of their weights, which are parameters all the same."""

Arrays = tuple[dict[str, Tensor], dict[str, Tensor]]
"""The arguments of a program: by stream the values (B, T, D) in float32, and valid (B, T)."""


class HeadProgram(nn.Module):
    """A head with the prototypes of its texts, on plain dictionaries of tensors.

    Returns `va` (B, P, 2), not clipped, and with `regions` also `region_logits` (B, P, R) and
    `region_valid` (B, P).
    """

    def __init__(self, head: Head, streams: Sequence[str], *, regions: bool) -> None:
        super().__init__()
        self.head = head
        self.streams = tuple(streams)
        self.regions = regions

    def forward(self, values: dict[str, Tensor], valid: dict[str, Tensor]) -> dict[str, Tensor]:
        """The outputs for some windows."""
        batch = Batch({name: StreamBatch(values[name], valid[name]) for name in self.streams})
        output = self.head(batch, self.head.prototypes() if self.regions else None)
        if not self.regions or output.regions is None:
            return {VA: output.va}
        return {
            VA: output.va,
            REGION_LOGITS: output.regions.logits,
            REGION_VALID: output.regions.valid,
        }


def window_rows(meta: CheckpointMeta) -> dict[str, int]:
    """Return how many rows of each stream a window has."""
    if meta.head.windows == "dense":
        return dict.fromkeys(meta.streams, meta.window)
    rows = {"visual": N_VISUAL, "audio": N_AUDIO}
    return {name: rows[each.modality] for name, each in meta.streams.items()}


def drawn_windows(meta: CheckpointMeta, n: int = N_EXAMPLES) -> Arrays:
    """Return random windows with gaps; in each but the first, one stream has no valid row."""
    random = torch.Generator().manual_seed(0)
    values, valid = dict[str, Tensor](), dict[str, Tensor]()
    for k, (name, n_rows) in enumerate(window_rows(meta).items()):
        valid[name] = torch.rand(n, n_rows, generator=random) > 0.2
        valid[name][1 + k :: len(meta.streams)] = False
        drawn = torch.randn(n, n_rows, meta.streams[name].width, generator=random)
        values[name] = drawn * valid[name].unsqueeze(-1)
    return values, valid


def arrays_of(batch: Batch) -> Arrays:
    """Return the arguments of a program for the windows of a batch."""
    streams = batch.streams.items()
    return {name: each.values for name, each in streams}, {
        name: each.valid for name, each in streams
    }


def head_program(head: Head, meta: CheckpointMeta) -> HeadProgram:
    """Return the module that is exported, in eval mode and without gradient."""
    regions = meta.loss.region_weight > 0 and head.prototypes() is not None
    program = HeadProgram(head, tuple(meta.streams), regions=regions)
    return program.eval().requires_grad_(False)


def export_program(program: HeadProgram, meta: CheckpointMeta) -> ExportedProgram:
    """Return the program for any number of windows; raises `InputError` if it cannot be traced."""
    windows = torch.export.Dim("windows", min=1)
    arguments = drawn_windows(meta)
    shapes = tuple({name: {0: windows} for name in each} for each in arguments)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", RNN_WARNING)
            return torch.export.export(program, arguments, dynamic_shapes=shapes)
    except RuntimeError as error:  # those of torch's tracing are subclasses
        raise InputError(
            f"a head of kind {meta.head.kind!r} cannot be exported by torch.export "
            f"({one_line(error)}); write its `forward` with operations of torch that do not depend "
            "on the values or on the number of windows"
        ) from error


def check_onnx() -> None:
    """Raise `InputError` if the packages for ONNX are not installed."""
    for name in ONNX_PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            raise InputError(
                f"--onnx needs {name}, which is not installed: `pip install -e '.[onnx]'` installs "
                "it; or leave --onnx out"
            ) from None


def onnx_model(program: ExportedProgram, outputs: Mapping[str, Tensor]) -> bytes:
    """Return the program in the format of ONNX, with inputs `NAME` and `NAME_valid` per stream."""
    assert program.example_inputs is not None  # of a program that was not loaded from a file
    (values, valid), _ = program.example_inputs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own deprecated calls
        exported = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=[*values, *(f"{name}_valid" for name in valid)],
            output_names=[*outputs],
        )
    assert exported is not None  # with dynamo
    return exported.model_proto.SerializeToString()


def saved(program: ExportedProgram) -> bytes:
    """Return the content of a `.pt2` file."""
    written = io.BytesIO()
    torch.export.save(program, written)
    return written.getvalue()
