"""An AST by its name: its three files, and the network and extractor that they make."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import ASTConfig as AstNetworkConfig
from transformers import ASTFeatureExtractor, ASTModel
from transformers.utils import logging as progress
from transformers.utils.hub import cached_file

from features.errors import WeightsError
from features.records import JsonObject

SHIPPED = Path(__file__).parent / "weights"  # small encoders of this project, for trying


@dataclass(frozen=True, slots=True)
class AstFiles:
    """The three files of an AST."""

    config: Path
    preprocessor: Path
    weights: Path


def find_ast(model: str) -> AstFiles:
    """The files of a model: shipped, in a local folder, or in the cache of the hub."""
    shipped = SHIPPED / model
    folder = shipped if shipped.is_dir() else Path(model)
    names = ("config.json", "preprocessor_config.json", "model.safetensors")
    if folder.is_dir():
        if missing := [name for name in names if not (folder / name).is_file()]:
            raise WeightsError(
                f"encoders.ast.model = {model!r}: the folder lacks {', '.join(missing)}; an AST "
                f"is the three files {', '.join(names)}"
            )
        return AstFiles(*(folder / name for name in names))
    try:
        return AstFiles(*(Path(str(cached_file(model, name))) for name in names))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"encoders.ast.model = {model!r} is no local folder, and its files are not in the "
            f"hub's cache and cannot be fetched ({str(error).splitlines()[0]}). They are "
            f"{', '.join(names)} of {model}: fetch them once with a network and HF_HUB_OFFLINE "
            f"unset, or point at a local copy with model=FOLDER. With vaflow comes {_shipped()}"
        ) from error


def _shipped() -> str:
    return ", ".join(repr(path.parent.name) for path in SHIPPED.glob("*/config.json"))


def network_config(files: AstFiles) -> AstNetworkConfig:
    """The sizes of the network."""
    return AstNetworkConfig.from_dict(_json(files.config))


def extractor_of(files: AstFiles) -> ASTFeatureExtractor:
    """What makes spectrograms for the network; `WeightsError` where it is not as published."""
    extractor = ASTFeatureExtractor.from_dict(_json(files.preprocessor))
    assert isinstance(extractor, ASTFeatureExtractor)  # a pair only where unused keys are asked for
    if not extractor.do_normalize:
        raise WeightsError(
            f"{files.preprocessor} says do_normalize: false, which no published AST does and "
            "vaflow does not support; set mean and std"
        )
    return extractor


def _json(path: Path) -> JsonObject:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON ({error}); fetch the file again") from None


def load(files: AstFiles) -> ASTModel:
    """The network with its weights, frozen, in float32."""
    with_bar = progress.is_progress_bar_enabled()
    progress.disable_progress_bar()  # it would break into ours
    try:
        model, report = ASTModel.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
            files.weights.parent,
            config=network_config(files),
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=True,
        )
    except (RuntimeError, OSError, ValueError, SafetensorError) as error:
        raise WeightsError(
            f"{files.weights} holds no weights of the AST in {files.config} ({str(error)[:300]}); "
            "config and weights must be of one model"
        ) from error
    finally:
        if with_bar:
            progress.enable_progress_bar()
    if report["missing_keys"] or report.get("mismatched_keys"):
        raise WeightsError(
            f"{files.weights} lacks weights of the AST in {files.config}, "
            f"{sorted(report['missing_keys'])[:3]} among others; "
            "config and weights must be of one model"
        )
    return model.eval().requires_grad_(False)
