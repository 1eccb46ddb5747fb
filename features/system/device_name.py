"""The names of devices. Imports no torch, so that configs load fast."""

from typing import Literal

DeviceName = (
    Literal["auto", "cpu", "cuda"]
    | Literal["cuda:0", "cuda:1", "cuda:2", "cuda:3", "cuda:4", "cuda:5", "cuda:6", "cuda:7"]
)
"""`auto` is a GPU if there is one; `cuda` the first free one; with a number, that one."""
