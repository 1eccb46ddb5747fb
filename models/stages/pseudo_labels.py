"""Labels of unlabelled clips: predicted from the texts alone, or by heads of a first round."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import assert_never

import torch

from models.baselines.predict import predict_baseline
from models.baselines.text import TextConfig
from models.data.packed import PackedFeatures
from models.data.region_prototypes import read_regions
from models.data.splits import ClipGroups, subject_by_clip
from models.heads import AnyHeadConfig
from models.heads.base import Head
from models.heads.windows import head_windows
from models.metrics.predict import mean_prediction, predict
from models.regions.prompts import CoopPrompts, FixedPrompts
from models.training.config import TrainConfig

N_TEACHERS = 3  # heads of the first round


def pseudo_labelled(
    unlabelled: PackedFeatures,
    labelled: PackedFeatures,
    clips: ClipGroups,
    head: AnyHeadConfig,
    train: TrainConfig,
    train_teacher: Callable[[int], Head],
) -> PackedFeatures:
    """Return the unlabelled rows with predictions as their labels.

    `text`: of the baseline with that name, with the texts of the head's prompts, fitted to the
    labelled training rows; for the rows with a face. `ensemble`: the mean of `N_TEACHERS` heads;
    `train_teacher` trains one on the labelled clips from the given seed.
    """
    match train.pseudo_labels:
        case "text":
            texts = head.prompts or CoopPrompts()
            prompts = FixedPrompts(texts=texts.texts, control=texts.control)
            subjects = subject_by_clip(clips.clips["train"])
            stream = head.text_stream or next(iter(clips.sets.with_texts), "")
            encode = partial(read_regions, clips.sets, labelled.clip_ids[0], stream=stream)
            baseline = TextConfig(prompts=prompts)
            found = predict_baseline(baseline, labelled, unlabelled, subjects, encode)
            valid = unlabelled[stream].valid
        case "ensemble":
            windows = head_windows(unlabelled, head, size=train.window, stride=train.stride)
            seeds = range(N_TEACHERS * train.seed, N_TEACHERS * (train.seed + 1))
            teachers = (train_teacher(seed) for seed in seeds)
            found = mean_prediction([predict(each, unlabelled, windows) for each in teachers])
            valid = unlabelled.any_valid
        case _:
            assert_never(train.pseudo_labels)
    va = torch.from_numpy(found.va).to(unlabelled.va.device)
    return replace(unlabelled, va=va, va_valid=valid)
