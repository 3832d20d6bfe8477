"""A YAML file as a mapping; what people get wrong in one is said with its line."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from router_gateway.core.errors import ConfigError


def read_mapping(source: Path) -> dict[str, Any]:
    """The mapping of settings in a file. Raises ConfigError, with the line where there is one."""
    try:
        raw = yaml.load(source.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except OSError as error:
        raise ConfigError([f"{source}: {error.strerror or 'cannot be read'}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{source}: is not UTF-8"]) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError([f"{source}: line {line}: {error.problem}"]) from None
    except yaml.YAMLError as error:
        raise ConfigError([f"{source}: is not YAML ({type(error).__name__})"]) from None
    if not isinstance(raw, dict):
        raise ConfigError([f"{source}: must be a mapping of settings"])
    return {str(key): value for key, value in raw.items()}


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key may stand only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, Hashable):
                raise ConfigError([f"line {line}: a list or a mapping cannot be a key"])
            if key in seen:
                raise ConfigError([f"line {line}: the key {key!r} stands twice"])
            seen.add(key)
        return super().construct_mapping(node, deep=deep)
