"""What an ablation compares: a head as it is, and rows that each change one thing of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from features.config_errors import describe, describe_yaml, keys_at
from features.errors import InputError
from models.baselines import AnyBaselineConfig
from models.heads import AnyHeadConfig
from models.heads.config import HeadConfig
from models.training.config import TrainConfig
from models.training.loss_config import check_loss
from models.training.old_keys import move_old_keys

FOLDER = Path(__file__).parents[2] / "configs" / "ablations"  # installed editable, from a checkout
HEAD: TypeAdapter[AnyHeadConfig] = TypeAdapter(AnyHeadConfig)
DEFAULT = "default"


class Variant(BaseModel):
    """What is other than in the default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: dict[str, JsonValue] = {}
    """Keys of the head; with another `kind` that preset as it stands, with these keys."""
    train: dict[str, JsonValue] = {}
    baseline: AnyBaselineConfig | None = None
    """No head at all, but this."""

    @model_validator(mode="before")
    @classmethod
    def _accept_old_keys(cls, fields: object) -> object:
        return move_old_keys(fields) if isinstance(fields, dict) else fields

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> "Variant":
        if self.baseline and (self.head or self.train):
            raise ValueError("a baseline reads no keys of head or train: leave them out")
        if "seed" in self.train:
            raise ValueError("seeds are counted up from train.seed in every row: leave seed out")
        return self


class Group(BaseModel):
    """Rows that answer one question."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows: dict[str, Variant] = Field(min_length=1)


class Plan(BaseModel):
    """All groups."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: tuple[Group, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class AblationCase:
    """One line of the table: what is trained for it."""

    group: str
    name: str
    model: tuple[AnyHeadConfig, TrainConfig] | AnyBaselineConfig

    @property
    def folder(self) -> str:
        """A name for its runs that is safe as a folder's."""
        return "-".join(re.findall(r"[a-z0-9][a-z0-9.]*", f"{self.group} {self.name}".lower()))


def read_plan(name: str) -> Plan:
    """The plan called `name` in configs/ablations, or in the YAML file of that path."""
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
        raise InputError(f"{path} is no text in UTF-8; give a YAML file") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {describe_yaml(error)}") from None
    except ValidationError as error:
        why = describe(error, Plan) if error.errors()[0]["loc"] else "it holds no groups"
        raise InputError(f"{path}: {why}; configs/ablations/default.yaml shows the form") from None


def ablation_cases(plan: Plan, head: AnyHeadConfig, train: TrainConfig) -> tuple[AblationCase, ...]:
    """The default first, then every row; `InputError` names a row that is no valid config.

    A row that comes to the very config of the default is the default, and is left out; so is a
    second row of one config and group.
    """
    found = [AblationCase(DEFAULT, DEFAULT, (head, train))]
    for group in plan.groups:
        seen: list[Any] = [found[0].model]
        for name, row in group.rows.items():
            model = row.baseline or _changed(group.name, name, row, head, train)
            if model not in seen:
                seen.append(model)
                found.append(AblationCase(group.name, name, model))
    folders = [case.folder for case in found]
    if nameless := next((case.name for case in found if not case.folder), None):
        raise InputError(
            f"row {nameless!r} of the ablation has no letter or digit to name a folder by; give it "
            "another name"
        )
    if clash := next((name for name in folders if folders.count(name) > 1), None):
        raise InputError(f"two rows of the ablation go by {clash!r}; give one another name")
    return tuple(found)


def _changed(
    group: str, name: str, row: Variant, head: AnyHeadConfig, train: TrainConfig
) -> tuple[AnyHeadConfig, TrainConfig]:
    """The configs with the keys of the row in place."""
    head_fields = head.model_dump(mode="json")
    train_fields = train.model_dump(mode="json")
    if row.head.get("kind", head.kind) != head.kind:  # another preset, with its own loss
        head_fields = {}
        del train_fields["loss"]
    try:
        changed = (
            HEAD.validate_python(_merged(head_fields, row.head)),
            TrainConfig.model_validate(_merged(train_fields, row.train)),
        )
        check_loss(changed[0], changed[1].loss)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    except InputError as error:
        why = str(error)
    else:
        return changed
    raise InputError(
        f"ablation {group!r}, row {name!r}: {why}; correct the row, or the head that it changes"
    )


def _merged(kept: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The keys with the changes, inside a key too: a row changes one thing of it."""
    return {**kept, **{key: _value(key, kept.get(key), value) for key, value in changes.items()}}


def _value(key: str, old: Any, new: Any) -> Any:
    """The new value, with what it does not say of the old one: of another kind, what that has."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    kind = new.get("kind", old.get("kind"))
    if kind != old.get("kind"):
        old = {
            name: value
            for name, value in old.items()
            if name in keys_at(HeadConfig, (key, str(kind)))
        }
    return _merged(old, new)
