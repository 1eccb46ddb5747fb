"""Files of weights of encoders: those that come with vaflow, and those that are refused."""

import hashlib
import zipfile
from pathlib import Path

from features.errors import WeightsError

SHIPPED = Path(__file__).parent / "weights"  # small encoders that come with vaflow

NO_WEIGHTS = hashlib.sha256(b"").hexdigest()
"""The digest in the spec of an encoder without weights."""

TORCHSCRIPT_PART = "constants.pkl"  # as torch itself tells a TorchScript archive from a state dict
STATE_DICT = "give a state dict, as a .safetensors or .pt file; one is made with"


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
