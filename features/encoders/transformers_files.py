"""Models of transformers: their three files, and their network with weights that fit.

transformers is imported on first use: it takes seconds.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from features.canonical_json import JsonObject
from features.encoders.weights import SHIPPED
from features.errors import WeightsError, one_line
from features.system.weights_file import WeightsFile

CONFIG, PREPROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The three files of a model."""

    config: Path
    preprocessor: Path
    weights: WeightsFile


def resolve_files(model: str, kind: str, what: str) -> ModelFiles:
    """The files of a model: shipped, in a local folder, or in the cache of the hub.

    `what` is the model in a message: "an AST". Raises `WeightsError` if a file is missing.
    """
    shipped = SHIPPED / model
    folder = shipped if shipped.is_dir() else Path(model)
    names = (CONFIG, PREPROCESSOR, WEIGHTS)
    if folder.is_dir():
        if missing := [name for name in names if not (folder / name).is_file()]:
            convert = (
                "; make model.safetensors of pytorch_model.bin with "
                "transformers.AutoModel.from_pretrained(FOLDER).save_pretrained(FOLDER)"
                if missing == [WEIGHTS] and (folder / "pytorch_model.bin").is_file()
                else ""
            )
            raise WeightsError(
                f"encoders.{kind}.model = {model!r}: the folder lacks {', '.join(missing)}; {what} "
                f"is the three files {', '.join(names)}{convert}"
            )
        config, preprocessor, weights = (folder / name for name in names)
    else:
        from transformers.utils.hub import cached_file

        try:
            config, preprocessor, weights = (Path(str(cached_file(model, name))) for name in names)
        except (OSError, ValueError) as error:
            shipped = ", ".join(repr(path.parent.name) for path in SHIPPED.glob("*/config.json"))
            raise WeightsError(
                f"encoders.{kind}.model = {model!r} is no local folder, and its files are not in "
                f"the hub's cache and cannot be fetched ({one_line(error)}). They are "
                f"{', '.join(names)} of https://huggingface.co/{model}: fetch them once with a "
                "network and HF_HUB_OFFLINE unset, or point at a local copy with model=FOLDER "
                "(encoders.1.model=FOLDER where it is the second encoder)"
                + (f". With vaflow comes {shipped}" if kind == "ast" else "")
            ) from error
    return ModelFiles(config, preprocessor, WeightsFile.of(weights))


def read_json(path: Path) -> JsonObject:
    """The object in a file; `WeightsError` if there is none."""
    try:
        fields = json.loads(path.read_bytes())
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON ({error}); fetch the file again") from None
    if not isinstance(fields, dict):
        raise WeightsError(f"{path} holds no JSON object; fetch the file again")
    return fields


def load_network(
    network: Any,
    config: Any,
    files: ModelFiles,
    what: str,
    unused: tuple[str, ...],
    renamed: dict[str, str] | None = None,
) -> Any:
    """The network of a class of transformers with its weights, frozen, in float32.

    `unused` has the beginnings of names of weights that change no value; `renamed` has patterns in
    the names of the file and what stands for them in the network. Raises `WeightsError` if other
    weights are missing, unexpected or of another size, or if the file changed since it was hashed.
    """
    from transformers.utils import logging as progress

    with_bar, verbosity = progress.is_progress_bar_enabled(), progress.get_verbosity()
    progress.disable_progress_bar()  # it would interrupt ours
    progress.set_verbosity_error()  # it would print a table of what our error says in one line
    try:
        model, report = network.from_pretrained(
            files.weights.path.parent,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=True,
            key_mapping=renamed,
            ignore_mismatched_sizes=True,  # reported, and raised as an error below
        )
    except (RuntimeError, OSError, ValueError, SafetensorError) as error:
        raise WeightsError(
            f"{files.weights.path} holds no weights of {what} in {files.config} "
            f"({one_line(error)}); config and weights must be of one model"
        ) from error
    finally:
        progress.set_verbosity(verbosity)
        if with_bar:
            progress.enable_progress_bar()
    files.weights.check_unchanged()
    absent = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]
    if missing := sorted(key for key in absent if not key.startswith(unused)):
        raise WeightsError(
            f"{files.weights.path} lacks weights of {what} in {files.config}, or has them in "
            f"another size, {missing[0]} for one; config and weights must be of one model"
        )
    if unexpected := sorted(k for k in report["unexpected_keys"] if not k.startswith(unused)):
        raise WeightsError(
            f"{files.weights.path} has weights that {what} in {files.config} does not have, "
            f"{unexpected[0]} for one; config and weights must be of one model"
        )
    return model.eval().requires_grad_(False)
