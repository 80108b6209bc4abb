"""A checkpoint's tokenizer: prompts and conversations to ids, ids to text and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from helix_cli.errors import InputError
from helix_cli.tokenizer.byte_tokens import ByteLevelTokens, ByteTokens, byte_tokens_of
from helix_cli.tokenizer.chat_template import ChatTemplate
from helix_cli.tokenizer.loading import load


class Tokenizer:
    """The tokenizer in a model's folder. Its ids are those of transformers' AutoTokenizer."""

    def __init__(self, path: str | Path, chat_template: str | None = None) -> None:
        """Load the tokenizer of the model in folder `path`; raises ModelError when there is none that works.

        `chat_template` is a Jinja source that takes the place of the model's own.
        """
        self.path = Path(path)
        loaded = load(self.path)
        self._codec = loaded.codec
        self._template_source = loaded.chat_template if chat_template is None else chat_template
        self.special_tokens: Mapping[str, str] = loaded.special_tokens
        """Named special tokens: "bos_token" -> "<s>"."""

    def encode(self, text: str) -> list[int]:
        """Ids of a plain prompt, with the special tokens that the model expects around it (usually BOS).

        Raises:
            InputError: the text is not valid Unicode.
        """
        return self._encode(text, add_special_tokens=True)

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> list[int]:
        """Ids of a conversation in the model's format; a message has at least a `role` and a `content`.

        The template writes every special token itself, so none is added and BOS cannot be doubled.

        Raises:
            InputError: the model has no chat template, or the template refuses the conversation.
            ModelError: the template is not valid.
        """
        return self.encode_rendered(self.render_chat(messages, add_generation_prompt))

    def encode_rendered(self, text: str) -> list[int]:
        """Ids of a rendered conversation, or of the end of one; no special token is added. Raises InputError."""
        return self._encode(text, add_special_tokens=False)

    def render_chat(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True) -> str:
        """The text that `encode_chat` encodes; raises as it does."""
        return self._template.render(messages, add_generation_prompt)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of `ids`; bytes that form no character become U+FFFD."""
        return self._codec.decode(ids, skip_special_tokens)

    def token(self, id: int) -> str | None:
        """The vocabulary entry of `id` in the tokenizer's own spelling ("▁the"); None when there is none."""
        return self._codec.token(id)

    def token_bytes(self, id: int) -> bytes | None:
        """The bytes that `id` stands for, None when its text depends on its neighbours."""
        return self._byte_tokens.bytes_of(id)

    @property
    def is_byte_level(self) -> bool:
        """Whether every entry is bytes, so that none of them is a fallback for what has no entry of its own."""
        return isinstance(self._byte_tokens, ByteLevelTokens)

    @cached_property
    def leading_ids(self) -> tuple[int, ...]:
        """What `encode` puts before a text: usually BOS, or nothing."""
        whole, bare = self.encode("a"), self.encode_rendered("a")
        starts = (place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
        return tuple(whole[: next(starts, 0)])

    def vocabulary(self) -> dict[str, int]:
        """Every entry and its id, added tokens included."""
        return self._codec.vocabulary()

    def serialised(self) -> str | None:
        """The whole tokenizer as the JSON text of a tokenizer.json; None where it has no such form."""
        return self._codec.serialised()

    @property
    def has_chat_template(self) -> bool:
        """Whether conversations can be encoded."""
        return self._template_source is not None

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids that stand for no text: BOS, EOS, turn markers."""
        return self._codec.special_ids()

    @cached_property
    def _template(self) -> ChatTemplate:
        if self._template_source is None:
            raise InputError(
                f"The model in {self.path} has no chat template, so it does not take conversations.",
                "Give a plain prompt to `helix generate`, or a template of your own with --template FILE.",
            )
        return ChatTemplate(self._template_source, self.special_tokens)

    @cached_property
    def _byte_tokens(self) -> ByteTokens:
        return byte_tokens_of(self._codec)

    def _encode(self, text: str, add_special_tokens: bool) -> list[int]:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError(
                f"The prompt is not valid Unicode: a lone surrogate at character {error.start}.", "Save it as UTF-8."
            ) from error
        return self._codec.encode(text, add_special_tokens)
