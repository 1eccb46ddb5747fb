"""Placement of packed features: all on the device, or streamed to it."""

from dataclasses import replace

import torch

from models.data.packed import PackedFeatures, Streaming

MIB = 2**20
FREE_SHARE = 0.5  # of a GPU's free memory that features may take; a head needs the rest
ROWS_SHARE = 0.9  # of the memory of streamed features; the rest is for their windows


def place_on_device(
    packed: PackedFeatures,
    device: torch.device,
    memory_mib: int | None,
    *already_placed: PackedFeatures,
) -> PackedFeatures:
    """Return the features on the device, or streamed to it if they exceed `memory_mib`.

    The default is half of the free memory of a GPU; on a CPU, memory maps are left unchanged.
    The features in `already_placed` count towards the limit. The rows of streamed features are not
    moved: `gather` copies single windows, `shuffled_batches` large blocks.
    """
    if device.type == "cpu" and memory_mib is None:
        return packed
    used = sum(each.n_bytes for each in already_placed if not each.streaming)
    if memory_mib is not None:
        room = memory_mib * MIB - used
    else:
        free, _ = torch.cuda.mem_get_info(device)
        room = int(FREE_SHARE * (free + used)) - used
    if packed.n_bytes <= room:
        return packed.to(device)
    n_rows = int(ROWS_SHARE * max(room, 0) / packed.n_bytes * len(packed.time_s))
    return replace(packed, streaming=Streaming(device, n_rows))


def streaming_note(packed: PackedFeatures, name: str = "training") -> tuple[str, ...]:
    """Return a note if these clips were streamed, which shuffles their windows less."""
    if not packed.streaming:
        return ()
    return (
        f"the {name} clips take {packed.n_bytes / MIB:.0f} MiB, more than train.bank_mib allows "
        f"on {packed.device}: they were streamed, {packed.streaming.n_rows} of "
        f"{len(packed.time_s)} rows at a time, so that windows were mixed less",
    )
