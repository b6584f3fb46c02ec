# SPDX-License-Identifier: Apache-2.0
"""The file: values, tensors of every type, and what is refused."""

import contextlib
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models.tiny_llama import METADATA, VOCAB, expected_logits, gguf, random_tensors, write_gguf
from tokendraw.models import load
from tokendraw.models.gguf import read_gguf
from tokendraw.models.gguf_llama import read_llama
from tokendraw.models.llama import LlamaModel

PLAIN = ["F32", "F16", "BF16"]
BLOCKS_OF_32 = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
BLOCKS_OF_256 = ["Q4_K", "Q6_K"]


def halves(data: bytes) -> list[float]:
    return [float(value) for value in np.frombuffer(data, dtype="<f2")]


def six_bits(data: bytes, place: int) -> tuple[int, int]:
    """Return scale and minimum of a group of Q4_K: eight of each, six bits long, in twelve bytes."""
    if place < 4:
        return data[place] & 63, data[place + 4] & 63
    low = data[place + 4]
    return (low & 15) | (data[place - 4] >> 6) << 4, (low >> 4) | (data[place] >> 6) << 4


def block_values(kind: str, block: bytes) -> list[float]:
    """Return what a block stands for, value by value. Source: ggml-common.h and ggml-quants.c of ggml."""
    if kind == "Q8_0":
        return [halves(block[:2])[0] * value for value in np.frombuffer(block[2:], dtype=np.int8).tolist()]
    if kind == "Q4_K":
        scale, least = halves(block[:4])
        values = []
        for group in range(8):
            quants = block[16 + 32 * (group // 2) :][:32]
            own_scale, own_least = six_bits(block[4:16], group)
            values += [
                scale * own_scale * (byte >> 4 * (group % 2) & 15) - least * own_least for byte in quants
            ]
        return values
    if kind == "Q6_K":
        [scale] = halves(block[208:])
        scales = np.frombuffer(block[192:208], dtype=np.int8).tolist()
        values = []
        for place in range(256):
            half, inside = divmod(place, 128)
            low = block[64 * half + inside % 64] >> 4 * (inside // 64) & 15
            high = block[128 + 32 * half + inside % 32] >> 2 * (inside // 32) & 3
            values.append(scale * scales[place // 16] * ((low | high << 4) - 32))
        return values
    has_least, bits = kind.endswith("_1"), int(kind[1])
    [scale], block = halves(block[:2]), block[2:]
    least = 0.0
    if has_least:
        [least], block = halves(block[:2]), block[2:]
    high = 0
    if bits == 5:
        high, block = int.from_bytes(block[:4], "little"), block[4:]
    quants = [byte & 15 for byte in block] + [byte >> 4 for byte in block]
    quants = [quant | (high >> place & 1) << 4 for place, quant in enumerate(quants)]
    return [scale * (quant if has_least else quant - 2 ** (bits - 1)) + least for quant in quants]


def random_blocks(kind: str, rows: int, blocks: int) -> Any:
    """Return random bytes whose scales are finite numbers of moderate size."""
    random = np.random.default_rng(0)
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][1]
    data = random.integers(0, 256, size=(rows, blocks, size), dtype=np.uint8)
    scales = random.uniform(-2, 2, size=(rows, blocks, 2)).astype("<f2").view(np.uint8)
    if kind == "Q6_K":
        data[..., -2:] = scales[..., :2]
    else:
        count = 4 if kind.endswith("_1") or kind == "Q4_K" else 2
        data[..., :count] = scales[..., :count]
    return data.reshape(rows, -1)


def write_raw(path: Path, data: Any, kind: str) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("first", np.zeros(3, dtype=np.float32))  # so that the next one is not where data begins
    writer.add_tensor("x", data, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class TestTensors:
    @pytest.mark.parametrize("kind", PLAIN)
    def test_plain_types(self, tmp_path: Path, kind: str) -> None:
        values = np.arange(-6, 6, dtype=np.float32).reshape(3, 4) / 2
        path = write_gguf(tmp_path / "a.gguf", {"x": values}, {}, types={"x": kind})
        found = read_gguf(path).tensor("x")
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, values)

    @pytest.mark.parametrize("kind", [*BLOCKS_OF_32, *BLOCKS_OF_256])
    def test_quantised_types_mean_what_the_format_says(self, tmp_path: Path, kind: str) -> None:
        data = random_blocks(kind, 3, 2)
        file = read_gguf(write_raw(tmp_path / "a.gguf", data, kind))
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
        assert (file.tensors["x"].shape, file.tensors["x"].type) == ((3, 2 * block), kind)
        wanted = [
            [
                value
                for first in (0, size)
                for value in block_values(kind, row[first : first + size].tobytes())
            ]
            for row in data
        ]
        found = file.tensor("x")
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-5)
        np.testing.assert_array_equal(found, gguf.dequantize(data, gguf.GGMLQuantizationType[kind]))

    @pytest.mark.parametrize("kind", [*PLAIN[1:], *BLOCKS_OF_32])
    def test_a_model_of_quantised_tensors(self, tmp_path: Path, kind: str) -> None:
        tensors = random_tensors()
        kinds = {name: kind for name, tensor in tensors.items() if tensor.ndim == 2}
        model = read_llama(write_gguf(tmp_path / "a.gguf", tensors, types=kinds))
        rounded = {name: quantised(tensor, kinds.get(name, "F32")) for name, tensor in tensors.items()}
        text = [3, 1, 4, 1, 5]
        np.testing.assert_allclose(
            model.start([text])[1][0], expected_logits(rounded, text)[-1], rtol=0, atol=2e-5
        )
        assert np.abs(expected_logits(rounded, text) - expected_logits(tensors, text)).max() > 1e-4

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        file = read_gguf(write_gguf(tmp_path / "a.gguf", {"x": np.zeros(3, np.float32)}, {}))
        with pytest.raises(ValueError, match=r"^a model needs the tensor 'y', which .*a\.gguf lacks$"):
            file.tensor("y")

    def test_types_that_are_not_widened(self, tmp_path: Path) -> None:
        file = read_gguf(write_raw(tmp_path / "a.gguf", np.zeros((2, 4), dtype=np.int32), "I32"))
        with pytest.raises(
            ValueError, match=r"^tensors must be F32, F16, BF16 or .*, got I32 \('x' of .*\)$"
        ):
            file.tensor("x")


def quantised(tensor: Any, kind: str) -> Any:
    kind = gguf.GGMLQuantizationType[kind]
    return gguf.dequantize(gguf.quantize(tensor, kind), kind)


class TestMetadata:
    def test_every_type_of_value(self, tmp_path: Path) -> None:
        writer = gguf.GGUFWriter(tmp_path / "a.gguf", "other")
        values: dict[str, Any] = {
            "uint8": 255,
            "int8": -128,
            "uint16": 65535,
            "int16": -32768,
            "uint32": 2**32 - 1,
            "int32": -(2**31),
            "uint64": 2**64 - 1,
            "int64": -(2**63),
            "float32": 0.5,
            "float64": 1e300,
            "bool": True,
            "string": "ça, 文",
        }
        for name, value in values.items():
            getattr(writer, f"add_{name}")(name, value)
        lists = {"texts": ["", "a", "Ġb"], "ids": [1, -2, 3], "scores": [0.5, -1.0], "flags": [True, False]}
        for name, items in lists.items():
            writer.add_array(name, items)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        file = read_gguf(tmp_path / "a.gguf")
        assert file.metadata == {"general.architecture": "other", **values, **lists}
        assert file.tensors == {}

    def test_another_alignment(self, tmp_path: Path) -> None:
        values = np.arange(5, dtype=np.float32)
        writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
        writer.add_custom_alignment(256)
        writer.add_tensor("x", values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        file = read_gguf(tmp_path / "a.gguf")
        assert file.tensors["x"].offset % 256 == 0
        np.testing.assert_array_equal(file.tensor("x"), values)


# --- Files that are something else -------------------------------------------------------------------------

HEADER = b"GGUF" + struct.pack("<I", 3)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def pairs(*items: bytes) -> bytes:
    return HEADER + struct.pack("<QQ", 0, len(items)) + b"".join(items)


def one_tensor(*dimensions: int, kind: int = 0) -> bytes:
    entry = text(b"x") + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, 0)
    return HEADER + struct.pack("<QQ", 1, 0) + entry


BROKEN = [
    (b"", r"^a GGUF file must be complete, got .*a\.gguf which ends at byte 0$"),
    (b"PK\x03\x04", r"^a GGUF file must begin with b'GGUF', got .*a\.gguf$"),
    (b"GGUF" + struct.pack(">I", 3), r"^the version of a GGUF file must be one of \(2, 3\), got 50331648 "),
    (HEADER + struct.pack("<QQ", 2**63, 2**63), r"^a GGUF file must be complete, .* ends at byte 24$"),
    (pairs(struct.pack("<Q", 2**64 - 1)), r"^a GGUF file must be complete, .* ends at byte 32$"),
    (pairs(text(b"\xff") + struct.pack("<I", 4)), r"^strings in a GGUF file must be UTF-8, got b'\\xff' \("),
    (pairs(text(b"k") + struct.pack("<I", 13)), r"^values in a GGUF file must be numbers, .*, got type 13$"),
    (
        pairs(text(b"k") + struct.pack("<IIQ", 9, 9, 1)),
        r"^values in a GGUF file must be .* or lists of these, got type 9$",
    ),
    (
        pairs(text(b"k") + struct.pack("<IIQ", 9, 5, 2**62)),
        r"^a GGUF file must be complete, .* ends at byte 49$",
    ),
    (
        pairs(*[text(b"k") + struct.pack("<II", 4, 1)] * 2),
        r"^names in a GGUF file must differ, got 'k' twice \(",
    ),
    (
        pairs(text(b"general.alignment") + struct.pack("<II", 4, 0)),
        r"^general.alignment must be a positive integer, got 0 \(",
    ),
    (one_tensor(1, 1, 1, 1, 1), r"^tensors must have 1 to 4 axes, got 5 \("),
    (one_tensor(4, 0), r"^tensors must hold values, got shape \(0, 4\) \("),
    (one_tensor(4, kind=99), r"^the types of tensors must be known to the package gguf, got type 99$"),
    (one_tensor(33, kind=2), r"^rows of Q4_0 must be multiples of 32, got 33 \("),
    (one_tensor(2**40, 2**40), r"^a GGUF file must be complete, .* ends at byte 65$"),
]


@pytest.mark.parametrize(("content", "message"), BROKEN, ids=range(len(BROKEN)))
def test_broken_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "a.gguf")


@pytest.fixture(scope="module")
def complete_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return write_gguf(path, {"x": np.ones((2, 3), np.float32)}, METADATA).read_bytes().rstrip(b"\0")


def test_a_file_that_was_cut_is_refused_wherever_that_was(tmp_path: Path, complete_file: bytes) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(complete_file)
    assert read_gguf(path).tensor("x").tolist() == [[1.0] * 3] * 2
    for length in range(len(complete_file)):
        path.write_bytes(complete_file[:length])
        with pytest.raises(ValueError, match=rf"^a GGUF file must be complete, .* ends at byte {length}$"):
            read_gguf(path)


@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_changed_byte_gives_a_model_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    if not path.exists():
        write_gguf(path, random_tensors(), METADATA)
    content = bytearray(path.read_bytes())
    header = next(iter(read_gguf(path).tensors.values())).offset
    content[place % header] = value
    changed = path.with_name("other.gguf")
    changed.write_bytes(content)
    with contextlib.suppress(ValueError):
        assert isinstance(load(changed), LlamaModel)


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in METADATA.items() if name != key}


MODELS: list[tuple[dict[str, Any], str]] = [
    ({"architecture": "gpt2"}, r"^the architecture of a GGUF model must be 'llama', got 'gpt2' \("),
    (
        {"metadata": METADATA | {"llama.rope.scaling.type": "yarn"}},
        r"^llama.rope.scaling.type must be 'none', got 'yarn' \(",
    ),
    ({"metadata": METADATA | {"llama.expert_count": 8}}, r"^llama.expert_count must be 0, got 8 \("),
    (
        {"metadata": METADATA | {"llama.attention.head_count_kv": [2, 2]}},
        r"^llama.attention.head_count_kv must be an integer >= 1, got \[2, 2\] \(",
    ),
    (
        {"metadata": METADATA | {"llama.attention.head_count": 0}},
        r"^llama.attention.head_count must be an integer >= 1, got 0 \(",
    ),
    (
        {"metadata": METADATA | {"llama.attention.layer_norm_rms_epsilon": float("nan")}},
        r"^llama.attention.layer_norm_rms_epsilon must be a number >= .*, got nan \(",
    ),
    (
        {"metadata": METADATA | {"llama.attention.value_length": 8}},
        r"^values must be as long as keys, got 8 and 16 \(",
    ),
    (
        {"metadata": METADATA | {"llama.block_count": 2**32 - 1}},
        r"^a Llama of 4294967295 layers needs more than 21 tensors$",
    ),
    ({"metadata": METADATA | {"llama.block_count": 1}}, r"^a Llama has no tensor 'blk.1.attn_norm.weight', "),
    (
        {"metadata": METADATA | {"llama.block_count": 3}},
        r"^a Llama needs the tensor 'blk.2.attn_norm.weight'",
    ),
    (
        {"metadata": METADATA | {"llama.feed_forward_length": 64}},
        r"^tensor 'blk.0.ffn_gate.weight' must have shape \(64, 64\), got \(96, 64\) \(",
    ),
    (
        {"metadata": METADATA | {"tokenizer.ggml.eos_token_id": VOCAB}},
        r"^eos_token_id must be in \[0, 40\), got 40$",
    ),
    *[
        ({"metadata": without(key)}, rf"^a Llama needs the key '{key}', which .*a\.gguf lacks$")
        for key in METADATA
        if key not in ("llama.attention.head_count_kv", "llama.rope.freq_base")
    ],
]


@pytest.mark.parametrize(("changes", "message"), MODELS, ids=range(len(MODELS)))
def test_models_of_another_kind(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_gguf(tmp_path / "a.gguf", random_tensors(), **changes)
    with pytest.raises(ValueError, match=message):
        load(path)


def test_missing_and_unknown_tensors(tmp_path: Path) -> None:
    tensors = random_tensors()
    embedding = tensors.pop("token_embd.weight")
    with pytest.raises(ValueError, match=r"^a model needs the tensor 'token_embd.weight', which .* lacks$"):
        load(write_gguf(tmp_path / "a.gguf", tensors))
    biased = {"token_embd.weight": embedding, **tensors, "blk.0.attn_q.bias": np.zeros(64, np.float32)}
    with pytest.raises(
        ValueError, match=r"^a Llama has no tensor 'blk.0.attn_q.bias', got one in .*b\.gguf$"
    ):
        load(write_gguf(tmp_path / "b.gguf", biased))


def test_a_file_is_known_by_its_content_or_its_name(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.bin", random_tensors())
    assert isinstance(load(path), LlamaModel)
    assert isinstance(load(str(path)), LlamaModel)
    (tmp_path / "a.gguf").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"^a GGUF file must begin with b'GGUF', got .*a\.gguf$"):
        load(tmp_path / "a.gguf")


def test_facts_of_the_file_are_kept(tmp_path: Path) -> None:
    facts = {"general.name": "Tiny", "general.languages": ["en"]}
    model = read_llama(write_gguf(tmp_path / "a.gguf", random_tensors(), METADATA | facts))
    assert model.metadata == {"general.architecture": "llama", "general.name": "Tiny", **METADATA}


@pytest.mark.parametrize("library", ["gguf", "tokenizers"])
def test_what_is_not_installed_is_named(tmp_path: Path, library: str) -> None:
    """In an interpreter that cannot import it."""
    metadata: dict[str, Any] = METADATA | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [chr(ord("0") + token) for token in range(VOCAB)],
        "tokenizer.ggml.merges": ["0 1"],
    }
    path = write_gguf(tmp_path / "a.gguf", random_tensors(), metadata)
    code = (
        f"import sys; sys.modules[{library!r}] = None; import tokendraw as td; td.models.load({str(path)!r})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1] == (
        f'ImportError: a GGUF model needs the library {library}: pip install "tokendraw[gguf]"'
    )
