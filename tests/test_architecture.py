"""The map in docs/architecture.md, kept true by reading the source: imports point one way, device names stay inside."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "helix_cli"
SOURCES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 300

# A part may import those before it. Parts in one tuple do not import one another.
LAYERS: list[tuple[str, ...]] = [
    ("core", "stats", "errors", "phases", "prompt", "storage", "machine", "packages", "__init__"),
    ("backend", "sampling", "ui", "tokenizer"),
    ("native", "text"),
    ("cache",),
    ("attention", "verify"),
    ("model",),
    ("draft",),
    ("engine",),
    ("strict_yaml", "overrides", "sections", "drafter_choice", "config"),
    ("planning",),
    ("pools", "sampling_choice", "depth_choice", "vocabulary_choice"),
    ("session", "session_info", "assembly", "rewiring", "outlook"),
    ("chat", "bench", "checks", "doctor"),
    ("candidates",),
    ("commands",),
    ("app",),
    ("__main__",),
]
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
# Parts that see less than their place in the order would allow.
ONLY = {
    "ui": {"ui", "core", "stats", "errors"},
    "verify": {"verify", "sampling", "core", "errors"},
    "backend": {"backend", "errors"},
    "sampling": {"core", "errors"},
    "native": {"native", "backend", "storage"},
    "tokenizer": {"tokenizer", "errors"},
    "text": {"text", "tokenizer", "errors"},
}
STANDARD_LIBRARY_ONLY = [
    "cache/pool.py",
    "cache/table.py",
    "engine/request_queue.py",
    "core.py",
    "stats.py",
    "phases.py",
    "errors.py",
]
NO_TORCH_AT_IMPORT = [
    "app",
    "config",
    "errors",
    "core",
    "stats",
    "phases",
    "prompt",
    "ui",
    "chat",
    "commands",
    "__main__",
]


def part_of(path: Path) -> str:
    """`draft` for draft/model.py, `session` for session.py."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def runtime_imports(tree: ast.AST, *, top_level_only: bool = False) -> Iterator[str]:
    """The modules that a file imports when it runs; `if TYPE_CHECKING:` blocks are exempt."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ([node.module] if node.module != "helix_cli" else [f"helix_cli.{a.name}" for a in node.names])
        elif not (top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            yield from runtime_imports(node, top_level_only=top_level_only)


def imported_parts(path: Path) -> set[str]:
    """The parts of Helix that a file imports, anywhere in it."""
    names = runtime_imports(ast.parse(path.read_text()))
    return {name.split(".")[1] for name in names if name.startswith("helix_cli.") and not name.endswith("__version__")}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    for imported in imported_parts(path) - {part}:
        if part in ONLY:
            assert imported in ONLY[part], f"{part} must not see {imported}"
        else:
            assert RANK[imported] <= RANK[part], f"{part} imports {imported}, which lies above it"


@pytest.mark.parametrize("name", STANDARD_LIBRARY_ONLY)
def test_standard_library_only(name: str) -> None:
    import sys

    for module in runtime_imports(ast.parse((PACKAGE / name).read_text())):
        assert module.split(".")[0] in {*sys.stdlib_module_names, "helix_cli"}, f"{name} imports {module}"


@pytest.mark.parametrize("path", [p for p in SOURCES if part_of(p) in NO_TORCH_AT_IMPORT], ids=lambda path: path.name)
def test_no_heavy_import_at_start(path: Path) -> None:
    for module in runtime_imports(ast.parse(path.read_text()), top_level_only=True):
        assert module.split(".")[0] not in {"torch", "transformers", "tokenizers", "numpy"}, f"{path.name}: {module}"
        if part_of(path) != "ui":
            assert not module.startswith("helix_cli.session")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_one_idea_a_file(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_triton_is_imported_where_its_kernels_are_used() -> None:
    """Most machines have none, and where it is, importing it takes a quarter of a second."""
    kernels = {path.stem for path in SOURCES if "triton" in runtime_imports(ast.parse(path.read_text()))}
    assert kernels
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not kernels & {alias.name for alias in node.names}, f"{path.name} imports kernels at once"


def test_device_names_stay_in_backend() -> None:
    for path in SOURCES:
        if part_of(path) == "backend":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                text = ast.unparse(node)
                assert "backend.name" not in text and "device.type" not in text, f"{path.name}: {text}"


def test_the_map_names_every_part() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    for part in {part_of(path) for path in SOURCES} - {"__init__"}:
        assert f"`{part}" in text, f"docs/architecture.md does not mention {part}"
