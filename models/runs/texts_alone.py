"""What the region texts alone predict, kept in a run's folder for the report to compare with."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from features.errors import InputError
from models.regions.grid import Grid
from models.regions.zero_shot import Moments, RegionPrototypes, ZeroShotSettings
from models.runs.folder import TEXTS_ALONE, read_json, write_json

REMEDY = "delete it to do without, or train again"


@dataclass(frozen=True, slots=True)
class TextsAlone:
    """A zero-shot prediction that is matched to the training labels of a run."""

    regions: RegionPrototypes
    settings: ZeroShotSettings

    def write(self, run: Path) -> None:
        """Write it to the run's folder."""
        content = {
            "settings": asdict(self.settings),
            "stream": self.regions.stream,
            "prototypes": self.regions.prototypes.tolist(),
        }
        write_json(run / TEXTS_ALONE, content)


def read_texts_alone(run: Path, grid: Grid) -> TextsAlone | None:
    """Return that of a run; None if there is none. Raises `InputError` if the file is damaged."""
    content = read_json(run / TEXTS_ALONE, REMEDY)
    if not content:
        return None
    try:
        scale, width_s, found, wanted = (
            content["settings"][key] for key in ("scale", "width_s", "found", "wanted")
        )
        moments = [Moments(tuple(each["mean"]), tuple(each["std"])) for each in (found, wanted)]
        settings = ZeroShotSettings(tuple(scale), tuple(width_s), *moments)
        stream = content.get("stream", "visual")
        regions = RegionPrototypes(torch.tensor(content["prototypes"]), grid, stream)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{run / TEXTS_ALONE} is damaged ({error}); {REMEDY}") from None
    return TextsAlone(regions, settings)
