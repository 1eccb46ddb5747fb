"""Where a bank lies while it is worked with: on the device whole, or streamed to it."""

from dataclasses import replace

import torch

from models.data.packed import PackedFeatures, Streaming

MIB = 2**20
FREE_SHARE = 0.5  # of a GPU's free memory, that a bank may take: a head needs some, too
ROWS_SHARE = 0.9  # of the room of a streamed bank: the rest is for windows made of the rows


def place_on_device(
    bank: PackedFeatures,
    device: torch.device,
    mib: int | None,
    beside: PackedFeatures | None = None,
) -> PackedFeatures:
    """The bank on the device, or one that is streamed to it where it takes more than `mib`.

    By default a GPU gives half of its free memory; on a CPU the memory map needs none, and stands
    as it is. What lies `beside` it counts, too. A streamed bank's rows stay where they are:
    `gather` copies the windows that are asked for, `epoch` large blocks.
    """
    if device.type == "cpu" and mib is None:
        return bank
    taken = beside.n_bytes if beside and not beside.streaming else 0
    if mib is not None:
        room = mib * MIB - taken
    else:
        free, _ = torch.cuda.mem_get_info(device)
        room = int(FREE_SHARE * (free + taken)) - taken
    if bank.n_bytes <= room:
        return bank.to(device)
    n_rows = int(ROWS_SHARE * max(room, 0) / bank.n_bytes * len(bank.time_s))
    return replace(bank, streaming=Streaming(device, n_rows))


def streaming_note(train: PackedFeatures) -> tuple[str, ...]:
    """A note where the training clips were streamed: their windows were mixed less."""
    if not train.streaming:
        return ()
    return (
        f"the training clips take {train.n_bytes / MIB:.0f} MiB, more than train.bank_mib allows "
        f"on {train.device}: they were streamed, {train.streaming.n_rows} of {len(train.time_s)} "
        "rows at a time, so that windows were mixed less",
    )
