# SPDX-License-Identifier: Apache-2.0
"""Whether a source distribution and the wheel built from it hold what they should, and nothing else."""

import re
import sys
import tarfile
import zipfile
from pathlib import Path

SDIST = re.compile(
    r"""(PKG-INFO|LICENSE|README\.md|CMakeLists\.txt|pyproject\.toml
      | cpp/(README\.md|(cuda/)?CMakeLists\.txt|[a-z]+/\w[\w-]*\.(h|cpp|cu|cuh))
      | python/tokendraw/([a-z]+/)*(\w+\.pyi?|py\.typed|weights/[\w-]+\.npz|data/\w+\.jsonl))""",
    re.VERBOSE,
)
WHEEL = re.compile(
    r"""tokendraw/(([a-z]+/)*(\w+\.pyi?|py\.typed)|models/weights/[\w-]+\.npz|_(core|cuda)\.[\w.-]+\.so
          |lab/data/\w+\.jsonl)
      | tokendraw-[\d.]+\.dist-info/(METADATA|WHEEL|RECORD|entry_points\.txt|licenses/LICENSE)""",
    re.VERBOSE,
)
NEEDED = {
    "sdist": {"PKG-INFO", "LICENSE", "pyproject.toml", "CMakeLists.txt", "cpp/bindings/module.cpp"},
    "wheel": {
        "tokendraw/__init__.py",
        "tokendraw/_core.pyi",
        "tokendraw/py.typed",
        "tokendraw/reference.py",
        "tokendraw/models/weights/kjv.npz",
        "tokendraw/lab/data/verses.jsonl",
    },
}
MOST_BYTES = {"sdist": 4_000_000, "wheel": 5_000_000}


def check(kind: str, package: Path, names: set[str], allowed: re.Pattern[str]) -> None:
    """Print what is wrong with a package and exit, or say that it is right."""
    strangers = sorted(name for name in names if not allowed.fullmatch(name))
    missing = sorted(NEEDED[kind] - names)
    size = package.stat().st_size
    if strangers or missing or size > MOST_BYTES[kind]:
        sys.exit(f"{package.name}: {size} bytes, should not hold {strangers}, should hold {missing}")
    print(f"{package.name}: {len(names)} files, {size} bytes")


def main(folder: Path) -> None:
    """Check the one source distribution and the one wheel of a folder."""
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    with tarfile.open(sdist) as archive:
        members = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    check("sdist", sdist, members, SDIST)
    with zipfile.ZipFile(wheel) as archive:
        check("wheel", wheel, set(archive.namelist()), WHEEL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
