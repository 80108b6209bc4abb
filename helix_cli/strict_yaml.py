"""YAML that says no: a key written twice is an error. And 1e-2 is a number, as in YAML 1.2."""

from __future__ import annotations

import re
from typing import Any

import yaml

from helix_cli.errors import ConfigError

NUMBER_WITHOUT_POINT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the two changes."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(problem="a key must be a word", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} is set twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER_WITHOUT_POINT, list("-+0123456789"))


def parse(text: str, name: str) -> Any:
    """The content of `text`; `name` says where it stands in the ConfigError for text that does not parse."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = error.problem
    except yaml.YAMLError:
        place, problem = "", "it holds a character that YAML does not allow"
    except (ValueError, TypeError, LookupError, AttributeError):
        # What Python says of a date such as 2001-99-99, a number of 5000 digits or `!!bool maybe`.
        place, problem = "", "it holds a value that means nothing"
    except RecursionError:
        place, problem = "", "it is nested too deeply"
    raise ConfigError(f"{name}{place} does not parse as YAML: {problem}.", "Mend the YAML; quoting a text often helps.")


def write(value: Any) -> str:
    """A scalar or a list as text that `parse` turns back into the same value, whatever characters it holds."""
    return yaml.safe_dump(value, default_flow_style=True, width=float("inf")).removesuffix("...\n").strip()
