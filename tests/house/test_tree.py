# SPDX-License-Identifier: Apache-2.0
"""Every file in a known room, licensed in its first lines, and silent about the machine it was written on."""

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tokendraw as td
from tests.house import tree

TOP_FILES = {
    "pyproject.toml",
    "CMakeLists.txt",
    "CMakePresets.json",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    ".clang-format",
    ".clang-tidy",
    ".pre-commit-config.yaml",
    ".gitignore",
}
CPP_ROOMS = {"core", "plan", "cpu", "cuda", "search", "bindings"}
TEST_ROOMS = CPP_ROOMS - {"bindings"} | {
    "steps",
    "draw",
    "scoring",
    "speculative",
    "api",
    "cli",
    "models",
    "lab",
    "house",
    "vectors",
}
FOLDERS = {".ci", "bench", "docs"}
SUFFIXES = {
    "cpp": {".h", ".cpp", ".cu", ".cuh", ".md", ".txt"},
    "python": {".py", ".pyi", ".typed", ".npz", ".jsonl"},
}


def is_placed(path: Path) -> bool:
    match path.relative_to(tree.ROOT).parts:
        case (name,):
            return name in TOP_FILES
        case ("cpp", "README.md" | "CMakeLists.txt"):
            return True
        case ("cpp", room, _):
            return room in CPP_ROOMS and path.suffix in SUFFIXES["cpp"]
        case ("python", "tokendraw", *_):
            return path.suffix in SUFFIXES["python"]
        case ("tests", name):
            return Path(name).suffix in {".py", ".h", ".cpp"} or name == "CMakeLists.txt"
        case ("tests", room, *_):
            return room in TEST_ROOMS
        case (folder, *_):
            return folder in FOLDERS
    return False


def test_every_file_is_in_a_known_room():
    strangers = [tree.named(path) for path in tree.files() if not is_placed(path)]
    assert not strangers


def test_a_stranger_would_be_seen():
    assert not is_placed(tree.ROOT / "scripts" / "build.sh")
    assert not is_placed(tree.ROOT / "cpp" / "utils" / "helpers.h")
    assert not is_placed(tree.ROOT / "cpp" / "core" / "table.bin")
    assert not is_placed(tree.ROOT / "notes.md")


# A licence's own text, data, and what has no comments.
NO_LICENCE_LINE = {"LICENSE", ".gitignore", "python/tokendraw/py.typed"}
DATA = {".csv", ".txt", ".json", ".jsonl", ".npz"}


def is_data(path: Path) -> bool:
    return path.suffix in DATA and path.name not in {"CMakeLists.txt", "CMakePresets.json"}


@pytest.mark.parametrize("path", [path for path, _ in tree.text_files()], ids=tree.named)
def test_the_first_line_names_the_licence(path):
    if tree.named(path) in NO_LICENCE_LINE or is_data(path):
        return
    head = path.read_text(encoding="utf-8").splitlines()[:2]
    assert any("SPDX-License-Identifier: Apache-2.0" in line for line in head)


# What only one machine knows: home folders, mounts, workplaces, hosts of a registry, and addresses.
PRIVATE = re.compile(
    r"""(?<![\w.])/(?:home|root|Users|work|mnt|opt|data|scratch)/\w
      | (?<![\w.$])/tmp/\w
      | \b(?:10|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2,3}\b
      | \blocalhost:\d
      | \.(?:internal|corp|local)\b(?!\w)
      | extra-index-url | find-links | --index-url""",
    re.VERBOSE,
)


@pytest.mark.parametrize("path", [path for path, _ in tree.text_files()], ids=tree.named)
def test_nothing_names_the_machine_it_was_written_on(path):
    if path == Path(__file__).resolve():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        found = PRIVATE.search(line)
        assert found is None, f"line {number}: {found.group()!r}"


@pytest.mark.parametrize(
    "text", ["see /home/me/x", "'/work/main'", "/tmp/build", "http://10.0.0.1:80", "a.corp/x"]
)
def test_a_private_path_would_be_seen(text):
    assert PRIVATE.search(text)


# ---- stems ----


def stems() -> list[str]:
    table = (tree.CPP / "plan" / "steps.h").read_text(encoding="utf-8")
    names = table.split("kStepNames{", 1)[1].split("}", 1)[0]
    return re.findall(r'"(\w+)"', names)


# Where a step and its parameter do not share a name; the joint step has the parameters of two others.
PARAMETERS = {
    "typical": "typical_p",
    "epsilon": "epsilon_cutoff",
    "eta": "eta_cutoff",
    "xtc": "xtc_probability",
}


def parameters_of_steps() -> set[str]:
    return {PARAMETERS.get(stem, stem) for stem in stems()} - {"top_k_top_p"}


def test_the_table_of_steps_was_read():
    assert {"temperature", "top_k", "top_p", "min_p"} <= set(stems())


@pytest.mark.parametrize("stem", stems())
def test_a_step_is_spelled_alike_in_every_room(stem):
    reference = (tree.PACKAGE / "reference.py").read_text(encoding="utf-8")
    assert re.search(rf"^def (apply|select)_{stem}\(", reference, re.MULTILINE), (
        "reference.py gives no meaning"
    )
    for folder in ("tests/steps", "bench"):
        texts = [
            path.read_text(encoding="utf-8") for path in tree.files() if tree.ROOT / folder in path.parents
        ]
        if folder == "bench":  # whose jobs ship with `tokendraw bench`
            texts.append((tree.PACKAGE / "budgets.py").read_text(encoding="utf-8"))
        assert any(re.search(rf"\b{stem}\b", text) for text in texts), f"{folder} does not know {stem}"


def test_every_step_is_a_parameter_of_the_public_face():
    callables = (
        td.SamplingParams,
        td.sample,
        td.draw,
        td.softmax,
        td.log_softmax,
        td.filter_logits,
        td.kept_set,
    )
    for function in callables:
        assert parameters_of_steps() <= set(inspect.signature(function).parameters), function.__name__


# ---- what is shipped ----


def test_the_version_is_written_once():
    project = tomllib.loads((tree.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert td.__version__ == project["version"]


def test_importing_needs_numpy_only():
    """In an interpreter of its own: importing brings in no optional library."""
    code = (
        "import sys, tokendraw; heavy = {'torch', 'jax', 'rich', 'scipy', 'ml_dtypes', 'transformers',"
        "'matplotlib', 'gguf', 'tokenizers'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
