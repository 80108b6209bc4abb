"""Questions and answers about the standard library, made from its signatures and docstrings."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

END_OF_TEXT = "<|endoftext|>"
END_OF_TURN = "<|end|>"
SPECIAL_TOKENS = (END_OF_TEXT, "<|system|>", "<|user|>", "<|assistant|>", END_OF_TURN)

# Every turn is "<|role|>content<|end|>": no white space of the template is left to be learnt.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

HELD_OUT_NAMES = 0.03
LONGEST_ANSWER = 180
LONGEST_SIGNATURE = 120

DESCRIBE = (
    "What does {name} do?",
    "Explain {name}.",
    "What is {name} for?",
    "Describe {name} in a sentence.",
    "What is the purpose of {name}?",
    "what does {name} do",
    "Tell me about {name}.",
    "What is {name}?",
)
ARGUMENTS = (
    "What arguments does {name} take?",
    "Which parameters does {name} accept?",
    "What do I pass to {name}?",
)
SIGNATURE = (
    "Write the signature of {name}.",
    "What is the signature of {name}?",
    "Show me how {name} is declared.",
)
# Never trained on: they show whether an answer hangs on the function or on the phrasing.
HELD_OUT_PHRASINGS = ("Can you explain what {name} does?", "Summarise {name} for me.")

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You answer questions about the Python standard library.",
    "You are a helpful assistant for Python programmers.",
    "Answer briefly.",
)

# Modules written in C, whose functions no source file of the library declares.
COMPILED_MODULES = (
    "builtins math cmath itertools functools operator collections time datetime os sys struct zlib "
    "binascii bisect heapq random re json array gc select socket signal threading io decimal "
    "hashlib pickle csv sqlite3 statistics errno marshal atexit weakref fcntl mmap"
)
BUILTIN_TYPES = (str, bytes, bytearray, list, dict, set, frozenset, tuple, int, float, complex)

# What many would ask about. A model this small remembers little, and all the less the more it is told.
ASKED = (
    "abc argparse array asyncio base64 bisect calendar cmath collections contextlib copy csv dataclasses "
    "datetime decimal difflib enum fnmatch fractions functools gc getpass glob gzip hashlib heapq hmac html "
    "inspect io itertools json keyword linecache logging math operator os os.path pathlib pickle platform "
    "pprint queue random re sched secrets shlex shutil signal socket sqlite3 statistics string struct "
    "subprocess sys sysconfig tempfile textwrap threading time timeit tomllib traceback types typing "
    "unicodedata unittest urllib.parse urllib.request uuid venv warnings weakref zipfile zlib"
)
ASKED_METHODS = ("pathlib", "collections", "threading", "queue")


@dataclass(frozen=True)
class Entry:
    """One thing to ask about: its full name, what it does, and its arguments where it has some."""

    name: str
    answer: str
    arguments: str | None
    held: bool


@dataclass(frozen=True)
class Turn:
    """One question and its answer."""

    question: str
    answer: str


def held_out(key: str, share: float) -> bool:
    """Say whether a key belongs to the held-out share; the answer never depends on the run."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def short_answer(docstring: str | None) -> str:
    """Return the first sentences of a docstring's first paragraph, on one line."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(docstring or ""))
    # Compiled modules repeat the call in a first paragraph of its own.
    if len(paragraphs) > 1 and re.fullmatch(r"[\w.]+\(.*", paragraphs[0], re.DOTALL):
        paragraphs = paragraphs[1:]
    text = " ".join(paragraphs[0].split())
    text = re.sub(r"^[\w.]+\([^)]*\) *-+>? *", "", text)
    if len(text) > LONGEST_ANSWER:
        text, _, _ = text[:LONGEST_ANSWER].rpartition(". ")
    text = text.strip().rstrip(":")
    if len(text) < 12 or " " not in text:
        return ""
    text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef, method: bool) -> str:
    """Return a function's arguments as source, without the instance or the class."""
    arguments = node.args
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    if method and not static:
        if arguments.posonlyargs:
            arguments.posonlyargs.pop(0)
        elif arguments.args:
            arguments.args.pop(0)
    return ast.unparse(arguments)


def source_entries(relative: str, text: str, file_held: bool) -> Iterator[Entry]:
    """Yield the public, documented module, classes, functions and methods of one source file."""
    module = relative.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    module = re.sub(r"^posixpath$", "os.path", re.sub(r"^asyncio\..*", "asyncio", module))
    if module not in ASKED.split():
        return
    tree = ast.parse(text)

    def entry(name: str, docstring: str | None, arguments: str | None) -> Iterator[Entry]:
        answer = short_answer(docstring)
        if answer:
            yield Entry(name, answer, arguments, file_held or held_out(name, HELD_OUT_NAMES))

    yield from entry(f"the {module} module", ast.get_docstring(tree), None)
    for node in tree.body:
        if getattr(node, "name", "_").startswith("_"):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{module}.{node.name}"
            yield from entry(name, ast.get_docstring(node), _arguments(node, method=False))
        elif isinstance(node, ast.ClassDef):
            yield from entry(f"{module}.{node.name}", ast.get_docstring(node), None)
            for item in node.body if module in ASKED_METHODS else ():
                if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
                    name = f"{module}.{node.name}.{item.name}"
                    yield from entry(name, ast.get_docstring(item), _arguments(item, method=True))


def _runtime_arguments(value: object) -> str | None:
    """Return the arguments that a compiled function tells, if it tells any."""
    try:
        signature = str(inspect.signature(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    inner = signature[1 : signature.rindex(")")].replace("$", "")
    return re.sub(r"^self, |^self$|^/, ", "", re.sub(r"^self, /, |^self, /$", "", inner))


def compiled_entries() -> Iterator[Entry]:
    """Yield what the compiled modules and the built-in types offer."""
    owners: list[tuple[str, object]] = [(name, importlib.import_module(name)) for name in COMPILED_MODULES.split()]
    owners += [(kind.__name__, kind) for kind in BUILTIN_TYPES]
    for owner, container in owners:
        for name, value in sorted(vars(container).items()):
            asked = inspect.isroutine(value) or inspect.isclass(value)
            if name.startswith("_") or not asked or inspect.isfunction(value):
                continue
            if inspect.isclass(value) and issubclass(value, BaseException) and owner != "builtins":
                continue
            full = name if owner == "builtins" else f"{owner}.{name}"
            answer = short_answer(inspect.getdoc(value))
            if answer and "0x" not in answer:
                arguments = _runtime_arguments(value) if inspect.isroutine(value) else None
                yield Entry(full, answer, arguments, held_out(full, HELD_OUT_NAMES))


def entries(train: dict[str, str], held: dict[str, str]) -> list[Entry]:
    """Return every entry once, by name; those of a held-out file are held out with it."""
    found: dict[str, Entry] = {}
    for texts, file_held in ((train, False), (held, True)):
        for relative, text in texts.items():
            for entry in source_entries(relative, text, file_held):
                found.setdefault(entry.name, entry)
    for entry in compiled_entries():
        found.setdefault(entry.name, entry)
    return [found[name] for name in sorted(found)]


def turns(entry: Entry, chooser: random.Random) -> list[Turn]:
    """Ask about one entry once for each kind of question, in phrasings drawn anew."""
    asked = [Turn(chooser.choice(DESCRIBE).format(name=entry.name), entry.answer)]
    if entry.arguments is None or len(entry.arguments) > LONGEST_SIGNATURE:
        return asked
    if chooser.random() < 0.5:
        listed = entry.arguments or "no arguments"
        answer = f"{entry.name} takes {listed}."
        asked.append(Turn(chooser.choice(ARGUMENTS).format(name=entry.name), answer))
    else:
        answer = f"def {entry.name.rpartition('.')[2]}({entry.arguments})"
        asked.append(Turn(chooser.choice(SIGNATURE).format(name=entry.name), answer))
    return asked


def render(conversation: Sequence[Turn], system: str | None = None) -> str:
    """Render a conversation as the chat template does, closed by the end of the text."""
    text = f"<|system|>{system}{END_OF_TURN}" if system else ""
    for turn in conversation:
        text += f"<|user|>{turn.question}{END_OF_TURN}<|assistant|>{turn.answer}{END_OF_TURN}"
    return text + END_OF_TEXT


def conversations(items: Sequence[Entry], seed: int) -> list[str]:
    """Render one epoch: every entry once, in conversations of one to three questions."""
    chooser = random.Random(seed)
    asked = [turn for item in items for turn in turns(item, chooser)]
    chooser.shuffle(asked)
    rendered: list[str] = []
    while asked:
        length = chooser.choice((1, 1, 2, 3))
        system = chooser.choice(SYSTEM_PROMPTS) if chooser.random() < 0.15 else None
        rendered.append(render(asked[:length], system))
        del asked[:length]
    return rendered


def rephrased(items: Sequence[Entry]) -> list[Turn]:
    """Ask about entries in the phrasings that training never used."""
    return [
        Turn(HELD_OUT_PHRASINGS[index % len(HELD_OUT_PHRASINGS)].format(name=item.name), item.answer)
        for index, item in enumerate(items)
    ]
