# SPDX-License-Identifier: Apache-2.0
"""The files of the repository, and what its sources include and import."""

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python" / "tokendraw"
CPP = ROOT / "cpp"

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.MULTILINE)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
LITERAL = re.compile(r'R"\(.*?\)"|"(?:\\.|[^"\\\n])*"', re.DOTALL)
NOT_OURS = re.compile(
    r"(^|/)(build[^/]*|dist|\.venv[^/]*|__pycache__|\.[a-z]+_cache|\.hypothesis|\.benchmarks|\.git)/"
)


@cache
def files() -> tuple[Path, ...]:
    """Return every file that is, or is about to be, under version control."""
    return tuple(path for path in map(ROOT.joinpath, _names()) if path.is_file())


def _names() -> list[str]:
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return sorted(name for name in listed.stdout.split("\0") if name)
    names = (path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file())
    return sorted(name for name in names if not NOT_OURS.search(name) and not name.endswith((".so", ".pyc")))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def cpp_files(room: str = "") -> list[Path]:
    folder = CPP / room if room else CPP
    return [
        path for path in files() if path.suffix in {".h", ".cpp", ".cu", ".cuh"} and folder in path.parents
    ]


def python_files() -> list[Path]:
    return [path for path in files() if path.suffix == ".py" and PACKAGE in path.parents]


def text_files() -> list[tuple[Path, str]]:
    return list(_text_files())


@cache
def _text_files() -> tuple[tuple[Path, str], ...]:
    found = []
    for path in files():
        content = path.read_bytes()
        if b"\0" not in content:
            found.append((path, content.decode("utf-8")))
    return tuple(found)


def includes(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield what a C++ file includes, and whether in angle brackets."""
    for bracket, name in INCLUDE.findall(path.read_text(encoding="utf-8")):
        yield name, bracket == "<"


def code_of(path: Path) -> str:
    """Return a C++ file without comments and the insides of literals."""
    return LITERAL.sub('""', COMMENT.sub("", path.read_text(encoding="utf-8")))


def imports(path: Path) -> Iterator[str]:
    """Yield the absolute dotted name of every import of a Python file, whatever function it stands in."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{named(path)}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
