"""Faces in video: detectors, the tracker, and the alignment of crops.

To add a detector, write its module in this package and add its config to this union.
"""

from typing import Annotated

from pydantic import Field

from features.faces.retinaface import RetinaFaceConfig
from features.faces.yunet import YuNetConfig

AnyDetectorConfig = Annotated[YuNetConfig | RetinaFaceConfig, Field(discriminator="kind")]
