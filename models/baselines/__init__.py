"""Every baseline. To add one, write its module here and add its config to this union."""

from typing import Annotated

from pydantic import Field

from models.baselines.late_fusion import LateFusionConfig
from models.baselines.mean import MeanConfig
from models.baselines.mlp import MlpConfig
from models.baselines.ridge import RidgeConfig
from models.baselines.ridge_window import RidgeWindowConfig
from models.baselines.text import TextConfig

AnyBaselineConfig = Annotated[
    MeanConfig | RidgeConfig | RidgeWindowConfig | LateFusionConfig | MlpConfig | TextConfig,
    Field(discriminator="kind"),
]
