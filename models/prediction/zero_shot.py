"""The model of a prediction without a run: region texts, and how similarity becomes values."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from features.encoders import AnyEncoderConfig
from features.errors import InputError, SpecMismatch
from models.data.feature_sets import WITH_TEXTS, FeatureSets
from models.data.region_prototypes import read_regions
from models.prediction.encoders import name_in
from models.prediction.estimate import ZeroShotEstimator
from models.regions.prompts import FixedPrompts
from models.regions.zero_shot import ZeroShotSettings
from models.runs.folder import read_json

REMEDY = "give the zero_shot.json that `vaflow run zero-shot` writes"


class ZeroShotModel(BaseModel):
    """What `vaflow run zero-shot` writes of its settings; by default those that match nothing."""

    model_config = ConfigDict(frozen=True)

    visual: str | None = None
    """The feature set that the settings are of; None if they are of none."""
    prompts: FixedPrompts = FixedPrompts()
    settings: ZeroShotSettings = ZeroShotSettings()

    @property
    def is_matched(self) -> bool:
        """Whether the values are given the mean and deviation of labels."""
        return self.settings.found != self.settings.wanted

    @classmethod
    def read(cls, path: Path, prompts: FixedPrompts) -> "ZeroShotModel":
        """Return the model of a zero-shot prediction.

        Raises `InputError` if the file is none, or is of other texts than these prompts, unless
        they are the default.
        """
        try:
            model = cls.model_validate({"settings": None} | read_json(path, REMEDY))
        except ValidationError:
            raise InputError(f"affine = {path} holds no zero-shot settings; {REMEDY}") from None
        if prompts not in (FixedPrompts(), model.prompts):
            raise InputError(
                f"affine = {path} is of other prompts than those given; leave the prompts out, or "
                "run zero-shot with them"
            )
        return model

    def check_encoders(self, encoders: Sequence[AnyEncoderConfig]) -> None:
        """Raise `InputError` if there is none with texts.

        Raises `SpecMismatch` if it makes other features than the settings are of.
        """
        if not any(config.kind in WITH_TEXTS for config in encoders):
            raise InputError(
                "a zero-shot prediction needs the encoders in a config, one of them of kind clip, "
                f"whose texts are read; {len(encoders)} are given. Give -c with a YAML file such "
                "as configs/encoders/affwild2.yaml"
            )
        if self.visual is None:
            return
        names = [name_in([self.visual], each) for each in encoders if each.kind in WITH_TEXTS]
        if self.visual not in names:
            raise SpecMismatch(
                f"affine is of the features {self.visual}, and the given encoder makes {names[0]}; "
                "give the encoder of that zero-shot prediction, or run zero-shot with this one"
            )

    def estimator(self, sets: FeatureSets, clip_id: str) -> ZeroShotEstimator:
        """Return what predicts rows; raises as `load_text_tower` does."""
        return ZeroShotEstimator(read_regions(sets, clip_id, self.prompts), self.settings)
