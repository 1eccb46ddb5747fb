"""The plan of an ablation: groups of variants that each change something in the default."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import AliasChoices, Field, JsonValue, ValidationError, model_validator

from features.config import Config
from features.config_errors import describe, describe_yaml, keys_at
from features.errors import InputError
from models.baselines import AnyBaselineConfig
from models.data.feature_sets import MODALITIES
from models.heads import AnyHeadConfig
from models.heads.config import HeadConfig
from models.training.config import TrainConfig, preset_train
from models.training.loss_config import head_for_streams
from models.training.old_keys import move_old_keys

FOLDER = Path(__file__).parents[2] / "configs" / "ablations"  # installed editable, from a checkout
DEFAULT = "default"
OWN_TRAINER = ", own trainer"
"""Ends the name of a variant that is trained by its preset's keys of `train`."""
OF_THE_MACHINE = {"seed", "precision", "device", "threads", "bank_mib"}
"""Keys of `train` that every variant shares, whatever its trainer."""


class Variant(Config):
    """The keys that differ from the default."""

    head: dict[str, JsonValue] = Field(default_factory=dict)
    """Keys of the head. With another `kind`, that preset with these keys."""
    train: dict[str, JsonValue] = Field(default_factory=dict)
    baseline: AnyBaselineConfig | None = None
    """A baseline instead of a head."""

    @model_validator(mode="before")
    @classmethod
    def _accept_old_keys(cls, fields: object) -> object:
        return move_old_keys(fields) if isinstance(fields, dict) else fields

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> "Variant":
        if self.baseline and (self.head or self.train):
            raise ValueError("a baseline reads no keys of head or train: leave them out")
        if "seed" in self.train:
            raise ValueError("seeds count up from train.seed in every variant: leave seed out")
        return self

    def reads_missing(self, streams: Sequence[str]) -> bool:
        """Whether it reads the stream `visual` or `audio`, and there is none."""
        named = [self.head.get("fusion"), self.head.get("residual")]
        named += getattr(self.baseline, "streams", None) or ()
        return any(name in MODALITIES and name not in streams for name in named)


class Group(Config):
    """Variants that answer one question."""

    name: str
    variants: dict[str, Variant] = Field(
        min_length=1,
        validation_alias=AliasChoices("variants", "rows"),  # the name before 0.2.0
    )


class Plan(Config):
    """All groups of variants."""

    groups: tuple[Group, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class AblationCase:
    """One line of the table, and the model for it."""

    group: str
    name: str
    model: tuple[AnyHeadConfig, TrainConfig] | AnyBaselineConfig = field(hash=False)

    @property
    def folder(self) -> str:
        """The name of the folder of its runs."""
        return "-".join(re.findall(r"[a-z0-9][a-z0-9.]*", f"{self.group} {self.name}".lower()))


def read_plan(name: str) -> Plan:
    """Return the plan `name` in configs/ablations, or in a YAML file.

    Raises `InputError` if the plan is missing or not valid.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name}.yaml"
    try:
        return Plan.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError:
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise InputError(
            f"there is no ablation {name!r} (no file {path}); give one of {known}, or the path of "
            "a YAML file"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; give a YAML file") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {describe_yaml(error)}") from None
    except ValidationError as error:
        why = describe(error, Plan) if error.errors()[0]["loc"] else "it holds no groups"
        raise InputError(f"{path}: {why}; configs/ablations/default.yaml shows the form") from None


def ablation_cases(
    plan: Plan,
    head: AnyHeadConfig,
    train: TrainConfig,
    streams: Sequence[str] = MODALITIES,
    with_texts: Sequence[str] = MODALITIES[:1],
) -> tuple[AblationCase, ...]:
    """Return the default, then every variant; raises `InputError` if a variant is not valid.

    The heads read `streams`, of which some are of an encoder with a text tower. A variant with the
    config of the default, or of another variant of its group, is left out, and so is one of the
    stream `visual` or `audio` alone if there is none. A variant of another preset that has a
    trainer of its own is trained by that; its name says so.
    """
    default = preset_train(head, train)
    head = head_for_streams(head, default.loss, streams, with_texts)
    cases = [AblationCase(DEFAULT, DEFAULT, (head, default))]
    for group in plan.groups:
        seen: list[Any] = [cases[0].model]
        for name, variant in group.variants.items():
            if variant.reads_missing(streams):
                continue
            try:
                model = variant.baseline or changed_model(variant, head, train, streams, with_texts)
            except InputError as error:
                raise InputError(
                    f"ablation {group.name!r}, variant {name!r}: {error}; correct it, or the head "
                    "that it changes"
                ) from None
            if model not in seen:
                seen.append(model)
                own = isinstance(model, tuple) and model[0].kind != head.kind and model[0].trainer
                cases.append(AblationCase(group.name, f"{name}{OWN_TRAINER if own else ''}", model))
    folders = [case.folder for case in cases]
    if nameless := next((case.name for case in cases if not case.folder), None):
        raise InputError(
            f"variant {nameless!r} of the ablation has no letter or digit to name a folder by; "
            "give it another name"
        )
    if clash := next((name for name in folders if folders.count(name) > 1), None):
        raise InputError(
            f"two variants of the ablation have the folder {clash!r}; give one another name"
        )
    return tuple(cases)


def selection_note(cases: Sequence[AblationCase]) -> str:
    """Return which rows have epochs that were chosen on the val split, on which they are scored."""
    chosen = [
        case.name
        for case in cases
        if isinstance(case.model, tuple) and case.model[1].select == "val"
    ]
    if not chosen:
        return "No epoch is chosen on this split."
    return (
        "These rows have their epoch chosen on this very split, which makes their score too high, "
        f"and no other row has: {', '.join(chosen)}."
    )


def changed_model(
    variant: Variant,
    head: AnyHeadConfig,
    train: TrainConfig,
    streams: Sequence[str],
    with_texts: Sequence[str],
) -> tuple[AnyHeadConfig, TrainConfig]:
    """Return the head and the training with the changes of a variant.

    The head reads `streams`, as in `ablation_cases`. Raises `InputError` if they are not valid.
    """
    head_fields = head.model_dump(mode="json")
    train_fields = train.model_dump(mode="json", exclude_unset=True)
    is_other = variant.head.get("kind", head.kind) != head.kind  # another preset, as published
    try:
        fields = _merged({} if is_other else head_fields, variant.head)
        changed_head = _OfHead.model_validate({"head": fields}).head
        if is_other:  # with its own loss, and its own trainer if it has one
            kept = OF_THE_MACHINE if changed_head.trainer else train_fields.keys() - {"loss"}
            train_fields = {key: train_fields[key] for key in train_fields.keys() & kept}
        fields = _merged(train_fields, variant.train)
        changed_train = preset_train(changed_head, _OfTrain.model_validate({"train": fields}).train)
        changed_head = head_for_streams(changed_head, changed_train.loss, streams, with_texts)
    except ValidationError as error:
        model = _OfHead if error.title == _OfHead.__name__ else _OfTrain
        raise InputError(describe(error, model)) from None
    return changed_head, changed_train


class _OfHead(Config):
    head: AnyHeadConfig


class _OfTrain(Config):
    train: TrainConfig


def _merged(kept: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The keys with the changes, which may be nested."""
    return {**kept, **{key: _value(key, kept.get(key), value) for key, value in changes.items()}}


def _value(key: str, old: Any, new: Any) -> Any:
    """Return the new value with the missing keys of the old one, if its kind has them."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    kind = new.get("kind", old.get("kind"))
    if kind != old.get("kind"):
        known = keys_at(HeadConfig, (key, str(kind)))
        old = {name: value for name, value in old.items() if name in known}
    return _merged(old, new)
