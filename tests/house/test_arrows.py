# SPDX-License-Identifier: Apache-2.0
"""Who may include or import whom: the arrows between the rooms, read from the sources."""

import ast
import re

import pytest

from tests.house import tree

# A room may include itself and these.
ARROWS = {
    "core": set(),
    "plan": {"core"},
    "cpu": {"plan", "core"},
    "cuda": {"plan", "core"},
    "search": {"plan", "core"},
    "bindings": {"search", "cpu", "cuda", "plan", "core"},
}
# cpu/ and cuda/ see the request and the seam, not the checks: kernels check nothing.
SEAM_ONLY = {"cpu", "cuda"}
ROOMS = [room for room in ARROWS if (tree.CPP / room).is_dir()]

PYTHON_HEADERS = re.compile(r"^(pybind11/|Python\.h|numpy/|dlpack)")
CORE_HEADERS = {"cstddef", "cstdint", "cfloat", "climits", "type_traits"}
# ISA objects hold no std template: any of them could be merged with another object's copy of it.
KERNEL_HEADERS = CORE_HEADERS | {"immintrin.h", "arm_neon.h"}
FORBIDDEN_IN_CORE = re.compile(
    r"\b(new|delete|throw|try|catch|malloc|free|virtual|thread_local)\b|\bstd::(?!u?int\d+_t|size_t)"
)


def ids(path: object) -> str:
    return tree.named(path)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", tree.cpp_files(), ids=ids)
def test_includes_follow_the_arrows(path):
    room = path.relative_to(tree.CPP).parts[0]
    for name, angled in tree.includes(path):
        if angled:
            assert room == "bindings" or not PYTHON_HEADERS.search(name), (
                f"{name}: only bindings/ knows Python"
            )
            continue
        target = name.split("/")[0]
        assert (tree.CPP / name).is_file(), f"{name}: includes are named from cpp/"
        assert target == room or target in ARROWS[room], f"{room}/ may not include {name}"


@pytest.mark.parametrize("path", tree.cpp_files("core"), ids=ids)
def test_core_is_numbers_only(path):
    for name, angled in tree.includes(path):
        assert not angled or name in CORE_HEADERS, f"core/ includes <{name}>"
    found = FORBIDDEN_IN_CORE.search(tree.code_of(path))
    assert found is None, f"core/ holds {found.group()!r}"


@pytest.mark.parametrize("path", [path for path in tree.cpp_files() if path.name.endswith("-inl.h")], ids=ids)
def test_what_is_compiled_per_isa_has_internal_linkage(path):
    """The symbols of the objects are tested in test_symbols.py; this names the line."""
    for name, angled in tree.includes(path):
        assert not angled or name in KERNEL_HEADERS, f"an ISA unit includes <{name}>"
    code = tree.code_of(path)
    assert re.search(r"namespace tokendraw::cpu \{\s*namespace \{", code), (
        "an anonymous namespace holds it all"
    )
    assert not re.search(r"\bstd::(?!u?int\d+_t|size_t)", code), "an ISA unit uses the standard library"
    assert not re.search(r"\b(new|throw|try|malloc|thread_local)\b", code)


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "bindings"])
def test_only_bindings_know_python(room):
    for path in tree.cpp_files(room):
        assert not re.search(r"\b(py::|Py[A-Z]\w+|PyObject|DLTensor|DLManaged)", tree.code_of(path)), (
            tree.named(path)
        )


@pytest.mark.parametrize("path", tree.cpp_files("plan"), ids=ids)
def test_plan_never_touches_a_logit(path):
    assert not re.search(
        r"\b(static_cast|reinterpret_cast)<const (float|Float16|Bfloat16|double)\s*\*>", tree.code_of(path)
    )


@pytest.mark.parametrize("room", [room for room in ROOMS if room in SEAM_ONLY])
def test_backends_check_nothing(room):
    for path in tree.cpp_files(room):
        assert "check_" not in re.sub(r"\bcheck_\w+\.h", "", tree.code_of(path)), f"{tree.named(path)} checks"


# ---- Python ----

# Beside the public API a room may import these: lab/ uses the models, and has commands that show progress.
PUBLIC_ONLY = {"models": set(), "lab": {"models", "options", "progress"}}
OPTIONAL = {"torch", "jax", "rich", "transformers", "scipy", "matplotlib", "ml_dtypes", "gguf", "tokenizers"}
STANDARD_AND_NUMPY = {
    "numpy",
    "collections",
    "typing",
    "__future__",
    "math",
    "itertools",
    "functools",
    "dataclasses",
}


def test_the_reference_imports_numpy_only():
    for name in tree.imports(tree.PACKAGE / "reference.py"):
        root = name.split(".")[0]
        assert root in STANDARD_AND_NUMPY or name.startswith("tokendraw.errors."), (
            f"reference.py imports {name}"
        )


@pytest.mark.parametrize(
    "path",
    [path for path in tree.python_files() if path.relative_to(tree.PACKAGE).parts[0] in PUBLIC_ONLY],
    ids=ids,
)
def test_models_and_lab_use_the_public_api_only(path):
    room = path.relative_to(tree.PACKAGE).parts[0]
    for name in tree.imports(path):
        parts = name.split(".")
        if parts[0] != "tokendraw":
            continue
        shared = len(parts) > 1 and parts[1] in {room, *PUBLIC_ONLY[room]}
        # `import tokendraw` or `from tokendraw import name`, never a module of another room.
        public = len(parts) <= 2 and not parts[-1].startswith("_")
        assert shared or public, f"{room}/ imports {name}"


@pytest.mark.parametrize("path", tree.python_files(), ids=ids)
def test_heavy_libraries_are_imported_where_they_are_used(path):
    """At the top of a module stand NumPy and the standard library; the rest comes with its user."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node in body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.split(".")[0] not in OPTIONAL, f"imports {name}"


def test_the_package_root_only_reexports():
    module = ast.parse((tree.PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    docstring, *body = module.body
    assert isinstance(docstring, ast.Expr)
    exported = None
    imported = []
    for node in body:
        if isinstance(node, ast.ImportFrom | ast.Import):
            imported += [alias.asname or alias.name for alias in node.names]
        else:
            assert isinstance(node, ast.Assign), f"line {node.lineno}: only imports and __all__"
            assert [ast.unparse(target) for target in node.targets] == ["__all__"]
            exported = ast.literal_eval(node.value)
    assert exported is not None
    assert sorted(imported) == sorted(exported), "what is imported is what is exported"
    assert exported == sorted(exported), "in order"
