"""Heads of other distributions, by entry points.

`vaflow plugins` lists them, with the reason why one cannot be used. It does so with
`features.plugins`, which heads do not import.
"""

from collections.abc import Container, Iterator
from importlib.metadata import entry_points

from models.heads.config import HeadConfig

GROUP = "vaflow.heads"


def usable_heads(own: Container[str]) -> Iterator[tuple[str, type[HeadConfig]]]:
    """Yield kind and config class of each plug-in that can be used and whose kind is not ours."""
    for point in entry_points(group=GROUP):
        try:
            config = point.load()
        except Exception:  # the code of others; `vaflow plugins` shows what it raises
            continue
        if not (isinstance(config, type) and issubclass(config, HeadConfig)):
            continue
        field = config.model_fields.get("kind")
        if field is not None and field.default == point.name and point.name not in own:
            yield point.name, config
