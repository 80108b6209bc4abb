"""Chat templates: Jinja programs that come with a model and turn messages into its prompt format.

They are untrusted code, so they run in Jinja's immutable sandbox. The environment (filters, globals, block trimming) is
the one that Hugging Face defines for chat templates; importing it from there would cost over a second at start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from helix_cli.errors import InputError, ModelError

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

_REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
"""Names under which a message's reasoning is passed; templates read the first."""


class ChatTemplate:
    """A compiled chat template, with the named special tokens ("bos_token") that it may print."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """Compile `source`; raises ModelError when it is not valid Jinja."""
        from jinja2.exceptions import TemplateSyntaxError

        try:
            self._template = _environment().from_string(source)
        except TemplateSyntaxError as error:
            raise ModelError(
                f"The model's chat template is not valid: {error.message} (line {error.lineno}).",
                "Mend chat_template in the model's folder, or give a plain prompt.",
            ) from error
        self._special_tokens = dict(special_tokens)

    def render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> str:
        """The prompt for `messages`, open for the assistant's answer if `add_generation_prompt`.

        Raises:
            InputError: there are no messages, or the template refuses them.
        """
        from jinja2.exceptions import TemplateError

        if not messages:
            raise InputError("A conversation needs at least one message.", "Add a message with role user.")
        try:
            return self._template.render(
                messages=[_plain_message(message) for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special_tokens,
            )
        except (TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
            raise InputError(
                f"The model's chat template does not accept this conversation: {error}.",
                "Check the roles and their order (usually user and assistant in turn, system first), "
                "or give a plain prompt.",
            ) from error


def _plain_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Without empty fields, on which many templates print "None"; reasoning under every name that templates read."""
    plain = {key: value for key, value in message.items() if value is not None}
    reasoning = next((plain[key] for key in _REASONING_FIELDS if key in plain), None)
    return plain if reasoning is None else {"thinking": reasoning, **plain, "reasoning_content": reasoning}


def _environment() -> ImmutableSandboxedEnvironment:
    import jinja2.ext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_generation_tag(), jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    environment.globals["dict"] = _DictMaker()
    environment.globals["namespace"] = _namespace()
    return environment


def _generation_tag() -> type[Any]:
    """The tag `generation`, which marks the assistant's words for training; here its body is simply printed."""
    from jinja2.ext import Extension
    from jinja2.nodes import Node
    from jinja2.parser import Parser

    class GenerationTag(Extension):
        tags = {"generation"}  # noqa: RUF012 (Jinja reads a plain set)

        def parse(self, parser: Parser) -> list[Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return GenerationTag


def _namespace() -> type[Any]:
    """Jinja's namespace without underscored names, through which a template could reach Python's internals."""
    from jinja2.exceptions import SecurityError
    from jinja2.utils import Namespace

    def check(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"chat templates may not use the attribute {name!r} of a namespace")

    class SafeNamespace(Namespace):
        def __init__(*args: Any, **kwargs: Any) -> None:  # a template may name an attribute "self"
            instance, rest = args[0], args[1:]
            for name in dict(*rest, **kwargs):
                check(name)
            Namespace.__init__(instance, *rest, **kwargs)

        def __setitem__(self, name: str, value: Any) -> None:
            check(name)
            super().__setitem__(name, value)

    return SafeNamespace


class _DictMaker:
    """`dict` for templates: it makes dictionaries and gives no access to the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML characters, which no model was trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    from jinja2.exceptions import TemplateError

    raise TemplateError(message)
