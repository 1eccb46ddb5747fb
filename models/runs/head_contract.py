"""What every head keeps, checked on random streams; for our own and for plug-ins."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Float
from torch import Tensor

from features.plugins import Check, Rule, run_checks
from models.data.batch import Batch, StreamBatch
from models.data.statistics import Statistics
from models.heads.base import Head, HeadInputs, HeadOutput
from models.heads.config import HeadConfig
from models.regions.grid import NINE
from models.regions.prototypes import FixedPrototypes
from models.runs.checkpoint import CheckpointMeta, StreamMeta, load_head, save_head
from models.training.gradient_paths import check_gradient_paths

WIDTHS = {"visual": 24, "audio": 16}
TEXTS = "visual"  # the stream with a text tower
N_WINDOWS, N_ROWS = 3, 11
HUGE = 1e6  # what masked rows are replaced by
TOLERANCE = 1e-4  # of values of about 1: sums of another batch have another order


def check_head(config: HeadConfig) -> tuple[Check, ...]:
    """Check a head against the contract on the CPU; the first broken rule is the last result.

    Raises what the head itself raises, such as `ValueError` if it cannot have such streams.
    """
    with torch.random.fork_rng(devices=[]), TemporaryDirectory() as folder:
        torch.manual_seed(0)
        config = config.for_streams(tuple(WIDTHS), (TEXTS,))
        return run_checks(_rules(config, Path(folder) / "head.safetensors"))


@dataclass(frozen=True, slots=True)
class _Subject:
    """A head in eval mode, and what it predicts for a batch."""

    config: HeadConfig
    head: Head
    batch: Batch
    output: HeadOutput

    @property
    def n_predicted(self) -> int:
        return N_ROWS if self.config.windows == "dense" else 1


def _rules(config: HeadConfig, path: Path) -> Iterator[Rule]:
    yield "the config, written as JSON and read again, is the same", lambda: _config(config)
    head = config.build(_inputs())
    yield "`build` returns a models.heads.base.Head", lambda: _type(head)
    batch = _random_batch()
    with torch.no_grad():
        output = head.eval()(batch, head.prototypes())
    subject = _Subject(config, head, batch, output)
    yield "it predicts V and A of each row, or of the last one", lambda: _shapes(subject)
    yield "no prediction is NaN or infinite", lambda: _finite(subject)
    yield "a batch has the same predictions each time", lambda: _repeats(subject)
    yield "values of rows that are not valid change nothing", lambda: _masked(subject)
    yield "windows of a batch do not influence each other", lambda: _alone(subject)
    yield "gradients are finite, and reach a parameter", lambda: _gradients(subject)
    yield "a head that is saved and loaded predicts the same", lambda: _saved(subject, path)


def _inputs() -> HeadInputs:
    prototypes = torch.nn.functional.normalize(torch.randn(NINE.n_regions, WIDTHS[TEXTS]), dim=-1)
    return HeadInputs(
        {
            name: Statistics(torch.randn(width), 0.5 + torch.rand(width))
            for name, width in WIDTHS.items()
        },
        (TEXTS,),
        lambda _: FixedPrototypes(prototypes),
    )


def _random_batch() -> Batch:
    """Windows with gaps: the second has no sound, the third nothing at all from row 7 on."""
    streams: dict[str, StreamBatch] = {}
    for name, width in WIDTHS.items():
        valid = torch.rand(N_WINDOWS, N_ROWS) > 0.2
        valid[:, :2] = True
        valid[1] &= name == TEXTS
        valid[2, 7:] = False
        values = torch.randn(N_WINDOWS, N_ROWS, width)
        streams[name] = StreamBatch(values * valid.unsqueeze(-1), valid)
    return Batch(streams)


def _config(config: HeadConfig) -> str | None:
    copy = type(config).model_validate(config.model_dump(mode="json"))
    return None if copy == config else "a key has another value afterwards"


def _type(head: object) -> str | None:
    return None if isinstance(head, Head) else f"it returned a {type(head).__name__}"


def _shapes(subject: _Subject) -> str | None:
    shape = (N_WINDOWS, subject.n_predicted, 2)
    if subject.output.va.shape != shape:
        return f"va has {tuple(subject.output.va.shape)}, not {shape} (windows, rows, V and A)"
    if subject.output.regions is None:
        return "it has prototypes, but no region logits" if subject.head.prototypes() else None
    shape = (N_WINDOWS, subject.n_predicted, NINE.n_regions)
    logits = subject.output.regions.logits
    return None if logits.shape == shape else f"logits have {tuple(logits.shape)}, not {shape}"


def _finite(subject: _Subject) -> str | None:
    streams = subject.batch.streams.items()
    nothing = Batch(
        {name: StreamBatch(each.values * 0, each.valid & False) for name, each in streams}
    )
    if not subject.output.va.isfinite().all():
        return "a batch with gaps has such predictions"
    if not _predict(subject.head, nothing).isfinite().all():
        return "windows without any valid row have such predictions"
    return None


def _repeats(subject: _Subject) -> str | None:
    again = _predict(subject.head, subject.batch)
    return None if torch.equal(again, subject.output.va) else "in eval mode they differ"


def _masked(subject: _Subject) -> str | None:
    spoiled = {
        name: StreamBatch(each.values.masked_fill(~each.valid.unsqueeze(-1), HUGE), each.valid)
        for name, each in subject.batch.streams.items()
    }
    va = _predict(subject.head, Batch(spoiled))
    return None if _alike(va, subject.output.va) else f"values of {HUGE:g} there change V or A"


def _alone(subject: _Subject) -> str | None:
    for k in range(N_WINDOWS):
        window = {
            name: StreamBatch(each.values[k : k + 1], each.valid[k : k + 1])
            for name, each in subject.batch.streams.items()
        }
        if not _alike(_predict(subject.head, Batch(window))[0], subject.output.va[k]):
            return f"window {k + 1} has other predictions when it is alone in the batch"
    return None


def _gradients(subject: _Subject) -> str | None:
    head = subject.head.train()
    head.zero_grad()
    loss = head(subject.batch, head.prototypes()).va.square().sum()
    if loss.requires_grad:
        loss.backward()
    gradients = [p.grad for p in head.parameters() if p.grad is not None]
    head.eval()
    if not any(gradient.any() for gradient in gradients):
        return "no parameter has a gradient of V and A"
    if not all(gradient.isfinite().all() for gradient in gradients):
        return "a gradient of V and A is NaN or infinite"
    if subject.config.allow_ineffective_region_loss:
        return None
    try:
        check_gradient_paths(head, subject.batch)
    except ValueError as error:
        return str(error)
    return None


def _saved(subject: _Subject, path: Path) -> str | None:
    head = subject.head
    meta = CheckpointMeta(
        head=subject.config,
        streams={
            name: StreamMeta(
                feature_set=name, modality="visual" if name == TEXTS else "audio", width=width
            )
            for name, width in WIDTHS.items()
        },
        window=N_ROWS,
        stride=N_ROWS,
        key="",
    )
    prototypes = head.prototypes()
    copy = None if prototypes is None else prototypes.clone()  # they may be tensors of the state
    save_head(path, head.state_dict(), copy, meta)
    loaded = load_head(path, torch.device("cpu"))
    same = torch.equal(_predict(loaded, subject.batch), subject.output.va)
    return None if same else "the predictions differ: is a number no parameter and no buffer?"


def _predict(head: Head, batch: Batch) -> Float[Tensor, "B P 2"]:
    with torch.no_grad():
        return head(batch, head.prototypes()).va


def _alike(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE)
