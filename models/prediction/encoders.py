"""The encoders whose features a trained model reads."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from features.canonical_json import JsonObject
from features.encoders import AnyEncoderConfig
from features.encoders.visual import VisualConfig
from features.errors import InputError, SpecMismatch, VaflowError, WeightsError
from features.spec import FeatureSpec
from models.data.feature_sets import encoder_of_any_record
from models.runs.exported import AnyModel, ExportedHead
from models.runs.folder import PROVENANCE, read_json
from models.runs.predictor import TrainedEnsemble

REMEDY = "delete it, and give encoders=[...], or -c with a YAML file that has them"
CONFIG: TypeAdapter[AnyEncoderConfig] = TypeAdapter(AnyEncoderConfig)


def encoders_of(
    model: AnyModel, given: Sequence[AnyEncoderConfig] | None
) -> tuple[AnyEncoderConfig, ...]:
    """Return the configs of the encoders of a model, one for each feature set that it reads.

    They are those `given`, or else those that the run's provenance or the store of its training
    names. Raises `SpecMismatch` if one of them makes other features than the model reads, such as
    with other weights, and `InputError` if one is not known.
    """
    needed = tuple(model.meta.feature_sets.values())
    found: dict[str, AnyEncoderConfig] = {}
    problems: list[str] = []
    candidates = iter(given) if given else _candidates(model, needed)
    for config in candidates:
        try:
            name = name_in(needed, config)
        except WeightsError as error:
            problems.append(f"{_shown(config)}: {error}")
            continue
        if name not in needed:
            problems.append(f"{_shown(config)} makes {name}: {_difference(model, config)}")
        found.setdefault(name, config)
        if all(each in found for each in needed):
            break
    missing = [name for name in needed if name not in found]
    if imported := [name for name in missing if _is_imported(model, name)]:
        raise InputError(
            f"{model.run} reads the features {' and '.join(imported)}, which were imported from "
            "files: no encoder makes them of a video. Import all clips at once, these too, and "
            "train on that"
        )
    if missing:
        raise (SpecMismatch if problems else InputError)(
            f"{model.run} reads the features {' and '.join(missing)}, and the encoders that make "
            "them are not at hand; give the ones of its training with encoders=[...], or -c with "
            "a YAML file that has them, and their weights",
            *(f"  {problem}" for problem in dict.fromkeys(problems)),
        )
    return tuple(found[name] for name in dict.fromkeys(needed))


def name_in(needed: Iterable[str], config: AnyEncoderConfig) -> str:
    """Return the name of the set that a config makes, if need be without its search for faces.

    A head that was trained on the crops of a data set reads those that are found here, too.
    """
    name = config.spec().name
    if name not in needed and isinstance(config, VisualConfig) and config.faces:
        return config.model_copy(update={"faces": None}).spec().name
    return name


def _candidates(model: AnyModel, needed: Iterable[str]) -> Iterator[AnyEncoderConfig]:
    """Yield the configs that the run's provenance names, then those of the training's store.

    An exported head names its own.
    """
    if isinstance(model, ExportedHead):
        for stream in model.meta.streams.values():
            yield from _parsed(stream.encoder)
        return
    for folder in folders_of(model):
        named = read_json(folder / PROVENANCE, REMEDY).get("encoders")
        for config in named.values() if isinstance(named, dict) else ():
            yield from _parsed(config)
    stores = model.config.store
    for name in needed:
        for store in (stores,) if isinstance(stores, str) else stores:
            try:
                yield from _parsed(encoder_of_any_record(store, name))
            except (VaflowError, OSError):  # the store of the training is gone, or elsewhere
                continue


def folders_of(model: AnyModel) -> tuple[Path, ...]:
    """Return the folder of a run, and those of an ensemble's members."""
    members = model.members if isinstance(model, TrainedEnsemble) else ()
    return (model.run, *(member.run for member in members))


def _is_imported(model: AnyModel, name: str) -> bool:
    """Whether features were made elsewhere, according to the specs that are known."""
    for spec in _specs(model):
        try:
            parsed = FeatureSpec.model_validate(spec)
        except ValidationError:  # of a version with other fields
            continue
        if parsed.name == name and parsed.imported:
            return True
    return False


def _specs(model: AnyModel) -> Iterator[JsonObject]:
    """Yield the specs in the run's provenance, or those of an exported head."""
    if isinstance(model, ExportedHead):
        yield from (each.spec for each in model.meta.streams.values() if each.spec)
        return
    for folder in folders_of(model):
        specs = read_json(folder / PROVENANCE, REMEDY).get("specs")
        for spec in specs.values() if isinstance(specs, dict) else ():
            if isinstance(spec, dict):
                yield spec


def _parsed(config: object) -> Iterator[AnyEncoderConfig]:
    try:
        yield CONFIG.validate_python(config)
    except ValidationError:
        return  # none, or of a version with other keys


def _shown(config: AnyEncoderConfig) -> str:
    return json.dumps(config.model_dump(mode="json", exclude_defaults=True) | {"kind": config.kind})


def _difference(model: AnyModel, config: AnyEncoderConfig) -> str:
    """Say in which fields the spec of a config differs from the one of the training."""
    spec = config.spec()
    of_kind = (each for each in _specs(model) if each.get("kind") == spec.kind)
    if wanted := next(of_kind, None):
        made = spec.model_dump(mode="json")
        fields = [name for name in FeatureSpec.model_fields if made[name] != wanted.get(name)]
        shown = (f"{name} is {made[name]}, not {wanted.get(name)}" for name in fields)
        return "; ".join(shown)[:400]
    return f"its weights have the sha256 {spec.weights_sha256}"
