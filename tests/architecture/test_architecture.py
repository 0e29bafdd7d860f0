"""The architecture is a test: who may import whom, how large things may grow, what must be explained."""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "src" / "tympan"
MODULES = sorted(PACKAGE.rglob("*.py"))
TEXT = {".py", ".md", ".toml", ".txt", ".in", ".lock", ".yaml", ".yml", ".sh", ".json", ".html", ".js", ".css", ".cfg"}
SKIPPED = {".git", ".venv", ".cache", "__pycache__", ".mypy_cache", ".ruff_cache", ".hypothesis", "node_modules"}

MAX_FUNCTION_LINES = 40
MEDIAN_FUNCTION_LINES = 10
MAX_MODULE_LINES = 400
MAX_PARAMETERS = 6
MIN_TESTS_PER_SOURCE = 0.8  # See docs/decisions/0009-tests-at-least-four-fifths-of-the-source.md.

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = Function | ast.ClassDef
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))


def _functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(_parse(path)):
        if isinstance(node, Function):
            yield node


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _public(nodes: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Documented]]:
    """Yield public classes and functions and, within public classes, public methods; overloads have no prose."""
    for node in nodes:
        if isinstance(node, Documented) and not node.name.startswith("_") and not _is_overload(node):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, f"{prefix}{node.name}.")


def _is_overload(node: Documented) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list)


def _tracked_text() -> list[Path]:
    """Return every text file of the project, whether or not it has been added to version control yet."""
    return [
        path
        for path in sorted(REPOSITORY.rglob("*"))
        if path.is_file()
        and not SKIPPED & set(path.relative_to(REPOSITORY).parts)
        and (path.suffix in TEXT or path.name in {"Makefile", "run", ".gitignore"})
    ]


def test_imports_keep_to_the_layers() -> None:
    """Every import contract in pyproject.toml holds."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@each_module
def test_modules_and_functions_stay_small(path: Path) -> None:
    """No module, function or list of parameters is over its budget."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_MODULE_LINES
    for function in _functions(path):
        assert _length(function) <= MAX_FUNCTION_LINES, f"{function.name} has {_length(function)} lines"
        arguments = function.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        wanted = [name for name in names if name not in {"self", "cls"}]
        assert len(wanted) <= MAX_PARAMETERS or _is_framework_hook(function), f"{function.name} takes {len(wanted)}"


def _is_framework_hook(function: Function) -> bool:
    """Return whether a decorator or an overridden method dictates the parameters."""
    return bool(function.decorator_list) or function.name == "settings_customise_sources"


def test_the_usual_function_is_short() -> None:
    """The median function is under ten lines."""
    lengths = [_length(function) for path in MODULES for function in _functions(path)]
    assert statistics.median(lengths) < MEDIAN_FUNCTION_LINES


def test_tests_keep_up_with_the_source() -> None:
    """The tests have at least four fifths of the lines of the source."""
    source, tests = (
        sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*.py"))
        for folder in (PACKAGE, REPOSITORY / "tests")
    )
    assert tests >= MIN_TESTS_PER_SOURCE * source, f"{tests} lines of tests for {source} lines of source"


@each_module
def test_public_names_say_what_the_caller_gets(path: Path) -> None:
    """Every public module, class, function and method has a docstring whose first line is a sentence."""
    tree = _parse(path)
    documented: list[tuple[str, ast.Module | Documented]] = [("the module", tree), *_public(tree.body)]
    for name, node in documented:
        text = ast.get_docstring(node)
        assert text, f"{name} has no docstring"
        assert re.search(r"[.!?:]$", text.split("\n\n")[0].strip()), f"{name}: {text.splitlines()[0]!r} is no sentence"


@each_module
def test_exported_names_exist(path: Path) -> None:
    """What ``__all__`` promises is there."""
    tree = _parse(path)
    defined = {name for node in tree.body for name in _bound(node)}
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            assert set(ast.literal_eval(node.value)) <= defined


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, Documented):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {node.target.id} if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else set()


def test_the_project_speaks_of_itself_alone() -> None:
    """No address of a package registry, no path of a machine it was made on."""
    # Put together here so that this file does not hold them itself.
    pairs = {
        ".": (("pypi", "org"), ("registry", "npmjs"), ("deb", "debian")),
        "/": (("", "work", ""), ("..", "shared")),
    }
    words = [joint.join(parts) for joint, all_parts in pairs.items() for parts in all_parts]
    found = [
        f"{path.relative_to(REPOSITORY)}: {word}"
        for path in _tracked_text()
        for word in words
        if word in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert found == []


def test_nothing_is_left_undone_behind_a_finished_surface() -> None:
    """The source holds no note of work put off, and nothing that is not implemented."""
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")
    found = [str(path.relative_to(PACKAGE)) for path in MODULES if marks.search(path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize("name", ["runtime", "dev", "samples", "cuda", "whispercpp", "onnx-asr", "cluster", "audit"])
def test_locks_are_hashed_and_name_no_address(name: str) -> None:
    """Every requirement of a lock is one exact version with hashes, and no line names a server."""
    text = (REPOSITORY / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    requirements = [block for block in re.split(r"\n(?=\S)", text) if block.strip() and not block.startswith("#")]
    assert requirements
    for block in requirements:
        assert re.match(r"[\w.-]+==\S+", block), block
        assert "--hash=sha256:" in block, block
    assert "://" not in text


def test_the_runtime_lock_covers_what_the_project_declares() -> None:
    """Every dependency in pyproject.toml has its line in the lock."""
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    assert block is not None
    declared = {name.lower() for name in re.findall(r'^ +"([\w.-]+)', block[1], re.MULTILINE)}
    locked = set(
        re.findall(
            r"^([\w.-]+)==", (REPOSITORY / "requirements" / "runtime.txt").read_text(encoding="utf-8"), re.MULTILINE
        )
    )
    assert declared
    assert declared <= locked
