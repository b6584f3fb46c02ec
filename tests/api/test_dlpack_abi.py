# SPDX-License-Identifier: Apache-2.0
"""Our header of DLPack's binary interface agrees with the official one, wherever that can be found."""

import importlib.util
import pathlib
import shutil
import subprocess
import sysconfig

import pytest

ROOT = pathlib.Path(__file__).parents[2]

TYPES = {
    "Version": ("DLPackVersion", {"major": "major", "minor": "minor"}),
    "Device": ("DLDevice", {"type": "device_type", "index": "device_id"}),
    "DataType": ("DLDataType", {"code": "code", "bits": "bits", "lanes": "lanes"}),
    "Tensor": (
        "DLTensor",
        {
            "data": "data",
            "device": "device",
            "ndim": "ndim",
            "dtype": "dtype",
            "shape": "shape",
            "strides": "strides",
            "byte_offset": "byte_offset",
        },
    ),
    "LegacyTensor": (
        "DLManagedTensor",
        {"tensor": "dl_tensor", "context": "manager_ctx", "deleter": "deleter"},
    ),
    "VersionedTensor": (
        "DLManagedTensorVersioned",
        {
            "version": "version",
            "context": "manager_ctx",
            "deleter": "deleter",
            "flags": "flags",
            "tensor": "dl_tensor",
        },
    ),
    "ExchangeTable": (
        "DLPackExchangeAPI",
        {
            "version": "header.version",
            "previous": "header.prev_api",
            "allocate": "managed_tensor_allocator",
            "export_owned": "managed_tensor_from_py_object_no_sync",
            "import_owned": "managed_tensor_to_py_object_no_sync",
            "export_borrowed": "dltensor_from_py_object_no_sync",
            "current_stream": "current_work_stream",
        },
    ),
}

CONSTANTS = {
    "kMajorVersion": "DLPACK_MAJOR_VERSION",
    "kReadOnly": "DLPACK_FLAG_BITMASK_READ_ONLY",
    "kIsCopied": "DLPACK_FLAG_BITMASK_IS_COPIED",
    "kCpu": "kDLCPU",
    "kCuda": "kDLCUDA",
    "kCudaHost": "kDLCUDAHost",
    "kCudaManaged": "kDLCUDAManaged",
    "kInt": "kDLInt",
    "kUint": "kDLUInt",
    "kFloat": "kDLFloat",
    "kBfloat": "kDLBfloat",
    "kComplex": "kDLComplex",
    "kBool": "kDLBool",
}


def assertions():
    for ours, (theirs, fields) in TYPES.items():
        yield f"sizeof(ours::{ours}) == sizeof({theirs})"
        yield f"alignof(ours::{ours}) == alignof({theirs})"
        for mine, other in fields.items():
            yield f"offsetof(ours::{ours}, {mine}) == offsetof({theirs}, {other})"
            yield f"sizeof(ours::{ours}{{}}.{mine}) == sizeof({theirs}{{}}.{other})"
    for ours, theirs in CONSTANTS.items():
        yield f"static_cast<long>(ours::{ours}) == static_cast<long>({theirs})"
    yield "static_cast<long>(ours::kMinorVersion) <= static_cast<long>(DLPACK_MINOR_VERSION)"


def test_the_header_agrees_with_the_official_one(tmp_path):
    header = ROOT / "cpp" / "bindings" / "dlpack.h"
    if not header.exists():
        pytest.skip("the C++ sources are not beside the tests")
    package = importlib.util.find_spec("tvm_ffi")
    if package is None:
        pytest.skip("apache-tvm-ffi, which carries the official header, is not installed")
    compiler = shutil.which("c++") or shutil.which((sysconfig.get_config_var("CXX") or "c++").split()[0])
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    official = pathlib.Path(package.submodule_search_locations[0]) / "include"
    source = tmp_path / "abi.cpp"
    source.write_text(
        f'#include <dlpack/dlpack.h>\n#include <cstddef>\n#include "{header}"\n'
        "namespace ours = tokendraw::bindings::dlpack;\n"
        + "".join(f'static_assert({claim}, "");\n' for claim in assertions())
    )
    command = [compiler, "-std=c++17", "-fsyntax-only", "-I", official, source]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
