"""Every setting, by section: its default, its range, and the sentence that help and documentation show for it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from helix_cli.drafter_choice import DEMO, WITHOUT_A_MODEL

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Weights = Literal["auto", "float32", "bfloat16", "int8"]
Implementation = Literal["auto", "native", "transformers"]
DrafterKind = Literal["none", "ngram", "model", "early_exit", "auto"]
VocabularyName = Literal["auto", "shared", "text"]
RuleName = Literal["auto", "greedy", "token", "block", "coupled"]
AUTO: Final = "auto"
MAX_FIXED_DEPTH: Final = 64
BlockSize = Literal[1, 2, 4, 8, 16, 32, 64, 128, 256]


def _known_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|(cuda|mps|directml)(:\d+)?", name):
        raise ValueError("must be auto, cpu, cuda, mps or directml, with a number after it if need be, as in cuda:1")
    return name


def _workable_temperature(temperature: float | None) -> float | None:
    # Logits divided by less than this overflow float32; the text would be the greedy one long before.
    if temperature is not None and 0 < temperature < 1e-5:
        raise ValueError("must be 0, which is greedy, or at least 0.00001")
    return temperature


def _on_or_off(value: Any) -> Any:
    # In YAML on and off are other words for true and false.
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def _depth(value: Any) -> Any:
    # The command line hands on what was typed.
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if value == AUTO or (type(value) is int and 0 <= value <= MAX_FIXED_DEPTH):
        return value
    raise ValueError(f"must be {AUTO} or a whole number from 0 to {MAX_FIXED_DEPTH}")


class Section(BaseModel):
    """What all sections share: nothing changes later, nothing unknown is accepted, nothing is converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelSection(Section):
    """The target: the model whose text is wanted."""

    path: str = Field(
        default=DEMO,
        min_length=1,
        description="The target model: a local folder, a Hugging Face id such as org/name or org/name@revision, "
        "or demo for the one that ships with Helix.",
    )
    dtype: Dtype = Field(
        default="auto", description="Number type to compute the target in; auto chooses one that suits the device."
    )
    weights: Weights = Field(
        default="auto",
        description="How the target's matrices are stored; auto takes the fastest format that rounds none of them. "
        "int8 is faster on a CPU and changes the text a little.",
    )
    implementation: Implementation = Field(
        default="auto",
        description="What computes the target: auto takes Helix's own decoder where it can and transformers' modules "
        "elsewhere; native or transformers insist, for comparison.",
    )
    template: str | None = Field(
        default=None,
        min_length=1,
        description="A file with a chat template (Jinja) to use instead of the model's own.",
    )
    exact: Annotated[Literal["auto", "on", "off"], BeforeValidator(_on_or_off)] = Field(
        default="auto",
        description="Compute every token by itself, so that no draft, chunk or other text can change even its last "
        "bit; auto does so where it costs less than 3 %, on is an error where it cannot be had.",
    )


class DraftSection(Section):
    """The drafter: what proposes tokens for the target to check."""

    kind: DrafterKind = Field(
        default=WITHOUT_A_MODEL,
        description="What proposes tokens: a second model, n-grams of the text so far, the target's own first layers, "
        "auto for n-grams where the text repeats itself and the second model elsewhere, or nothing. Left out, "
        "it is model where there is a draft model and ngram elsewhere.",
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        description="The draft model: a folder, a Hugging Face id, or demo. Naming one chooses drafter model.",
    )
    dtype: Dtype = Field(
        default="auto", description="Number type to compute the draft model in; auto chooses one that suits the device."
    )
    weights: Weights = Field(
        default="auto",
        description="How the draft model's matrices are stored; auto takes the fastest format, int8 too, because a "
        "draft cannot change what is said.",
    )
    vocabulary: VocabularyName = Field(
        default="auto",
        description="How a draft with another tokenizer talks to its target: shared restricts it to the tokens that "
        "both have, text lets it write freely and tokenises its text anew; auto takes text at temperature 0 and "
        "shared else.",
    )
    k: Annotated[int | str, BeforeValidator(_depth)] = Field(
        default=AUTO,
        description="The most tokens to propose in one step, 0 being plain decoding; auto measures what is fastest and "
        "follows it.",
    )
    layers: int | None = Field(
        default=None, ge=1, description="How many of the target's layers drafter early_exit runs; left out, an eighth."
    )
    ngram_max: int = Field(default=8, ge=1, description="The longest ending of the text that drafter ngram looks up.")
    ngram_min: int = Field(default=2, ge=1, description="The shortest ending of the text that drafter ngram looks up.")


class SamplingSection(Section):
    """How tokens are chosen and when a text ends. What is left out follows the model's generation_config.json."""

    temperature: Annotated[float | None, AfterValidator(_workable_temperature)] = Field(
        default=None, ge=0, description="How random the text is; 0 always takes the likeliest token."
    )
    top_k: int | None = Field(
        default=None, ge=0, description="Choose among this many of the likeliest tokens; 0 means all."
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="Choose among the likeliest tokens that together have this probability."
    )
    min_p: float | None = Field(
        default=None, ge=0, le=1, description="Leave out tokens less likely than this share of the likeliest one."
    )
    repetition_penalty: float | None = Field(
        default=None,
        ge=0.01,
        le=100,
        description="Above 1 makes tokens that have occurred less likely; 1 changes nothing.",
    )
    max_tokens: int = Field(default=256, ge=1, description="The most tokens to generate.")
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        description="Start of the random numbers; with rule coupled, which a seed chooses, it alone decides the text.",
    )
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), strict=False, description="Texts that end the generation; they are not part of the result."
    )
    ignore_eos: bool = Field(default=False, description="Go on after the model's end-of-text token, up to the limit.")


class VerifySection(Section):
    """How drafted tokens are accepted."""

    rule: RuleName = Field(
        default="auto",
        description="The rule that accepts drafted tokens; none changes what the target would say. auto takes greedy "
        "at temperature 0, else coupled with a seed and block without.",
    )


class CacheSection(Section):
    """The pool of keys and values."""

    block_size: BlockSize = Field(default=16, description="Tokens in one block of the key and value cache.")
    blocks: int | None = Field(
        default=None,
        ge=1,
        le=2**31,
        description="Blocks in the cache; left out, as many as the share of memory below holds.",
    )
    memory_share: float = Field(
        default=0.5, gt=0, le=0.95, description="The share of free memory that the cache takes when blocks is left out."
    )
    prefix_reuse: bool = Field(
        default=True, description="Keep computed prompts, so that a shared beginning is computed once."
    )
    persist: bool = Field(
        default=False, description="Keep computed prompts on disk too, so that the next start finds them again."
    )
    prompt_cache: str | None = Field(
        default=None,
        min_length=1,
        description="Keep the computed prompt on disk under this name, and begin with what is kept there.",
    )


class EngineSection(Section):
    """How much one step does."""

    max_step_tokens: int = Field(
        default=512, ge=1, description="The most tokens that one step computes; a longer prompt is computed in pieces."
    )
    max_sequences: int = Field(default=16, ge=1, description="The most texts that are generated at the same time.")


class BackendSection(Section):
    """What it runs on."""

    device: Annotated[str, AfterValidator(_known_device)] = Field(
        default="auto",
        description="Where to run: auto, cpu, cuda (also ROCm), mps, directml, or one of several cards as in cuda:1.",
    )
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="CPU threads to use; left out, the physical cores."
    )


class ChatSection(Section):
    """What `helix chat` adds; no other command looks at it."""

    system: str | None = Field(
        default=None, min_length=1, description="The system prompt of a conversation: what the model is told first."
    )
    system_file: str | None = Field(
        default=None, min_length=1, description="A text file that holds the system prompt, in place of chat.system."
    )
