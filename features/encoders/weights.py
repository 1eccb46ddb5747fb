"""Files of weights of encoders: those that come with vaflow, and those that are refused."""

import hashlib
import pickle  # for its exception only: weights are loaded by torch's safe loader
import re
import zipfile
from pathlib import Path

from safetensors import SafetensorError

from features.errors import WeightsError, one_line
from features.system.weights_file import WeightsFile

SHIPPED = Path(__file__).parent / "weights"  # small encoders that come with vaflow

NO_WEIGHTS = hashlib.sha256(b"").hexdigest()
"""The digest in the spec of an encoder without weights."""

TORCHSCRIPT_PART = "constants.pkl"  # as torch itself tells a TorchScript archive from a state dict
STATE_DICT = "give a state dict, as a .safetensors or .pt file; one is made with"
# what open_clip and timm raise if a file does not fit a model (AssertionError: other widths; the
# errors of attributes and iteration: no dict of tensors)
LOADING_ERRORS = (
    RuntimeError, AssertionError, KeyError, TypeError, ValueError, AttributeError, StopIteration,
    OSError, SafetensorError, pickle.UnpicklingError,
)  # fmt: skip


def refuse_torchscript(path: Path) -> None:
    """Raise `WeightsError` if a file is a TorchScript archive: it holds a program, not weights."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        parts = [name.partition("/")[2] for name in archive.namelist()]
    if TORCHSCRIPT_PART in parts:
        raise WeightsError(
            f"{path} is a TorchScript archive (torch.jit.save): a program, which is not run. If "
            f"you trust its origin, {STATE_DICT} torch.save(torch.jit.load({str(path)!r}, "
            "map_location='cpu').state_dict(), 'weights.pt')"
        )


def check_digest(weights: WeightsFile, expected: str | None, key: str) -> None:
    """Raise `WeightsError` if the file is not the expected one; `key` is that of the digest.

    A file that is not safetensors is a pickle. torch loads only tensors from it
    (`weights_only=True`), but the user must name its digest all the same.
    """
    path, digest = weights.path, weights.sha256
    if expected is None and path.suffix != ".safetensors":
        raise WeightsError(
            f"{path} is no safetensors file; if you trust its origin, say that it is the one "
            f"you mean with {key}={digest}, or convert it to safetensors"
        )
    if expected not in (None, digest):
        raise WeightsError(
            f"{path} has the sha256 {digest}, and {key} says {expected}: "
            "it is another file, or a damaged one; fetch it again, or correct the key"
        )


def loading_problem(error: Exception) -> str:
    """Why loading failed; torch's own message would advise to load an unsafe pickle."""
    if isinstance(error, pickle.UnpicklingError | KeyError) or "weights_only" in str(error):
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        has = f": it has an object of {found[1]}, which could run code" if found else ""
        return (
            f"it is no safetensors file, nor a pickle of weights alone{has}; {STATE_DICT} "
            "torch.save(model.state_dict(), 'weights.pt')"
        )
    if isinstance(error, AttributeError | StopIteration):
        return (
            f"it has no tensors by name; {STATE_DICT} torch.save(model.state_dict(), 'weights.pt')"
        )
    return one_line(error)
