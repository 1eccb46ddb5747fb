"""YAML whose mappings have each key once: the last of two would silently win."""

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """The safe loader, which refuses a key that comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[tuple[str, str]]()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (each := (key.tag, key.value)) in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value!r} comes twice; remove or rename one",
                    problem_mark=key.start_mark,
                )
            seen.add(each)
        return super().construct_mapping(node, deep=deep)


def parse_yaml(text: str) -> Any:
    """Return the content of a YAML text; raises `yaml.YAMLError`, also if a key comes twice."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
