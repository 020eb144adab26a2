from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from i0tscore.errors import SampleFileError
from i0tscore.samples.embeddings import BLOCK, StoredRows, pair_embeddings, read_embeddings

VALUES = np.array([[3.0, 4.0], [0.0, -2.0], [1e-30, 0.0]])
UNIT = np.array([[0.6, 0.8], [0, -1], [1, 0]], dtype=np.float32)
IDS = ("a", "b", "ü 3")


def _npy(folder: Path, values: np.ndarray = VALUES, ids: tuple[str, ...] = IDS) -> Path:
    np.save(folder / "e.npy", values)
    (folder / "e.ids.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    return folder / "e.npy"


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", ">f4"])
def test_npy(tmp_path: Path, dtype: str) -> None:
    values = VALUES if dtype == "float64" else VALUES + np.array([[0], [0], [1]])
    found = read_embeddings(_npy(tmp_path, values.astype(dtype)))
    assert found.ids == IDS
    assert found.vectors.dtype == np.float32
    expected = values / np.linalg.norm(values, axis=1, keepdims=True)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-3 if dtype == "float16" else 1e-6)


def test_json_ids_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = _npy(tmp_path)
    (tmp_path / "e.ids.txt").write_text("\ufeffa\nb\nc\n", encoding="utf-8")
    assert read_embeddings(path).ids == ("a", "b", "c")
    (tmp_path / "e.ids.txt").unlink()
    (tmp_path / "e.ids.json").write_text(json.dumps(["x", 2, "z"]))
    assert read_embeddings(path).ids == ("x", "2", "z")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_safetensors(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "e.safetensors"
    tensor = torch.tensor(VALUES[:2], dtype=dtype)
    save_file({"embeddings": tensor, "other": tensor.clone()}, path, {"ids": json.dumps(["a", "b"])})
    found = read_embeddings(path)
    assert found.ids == ("a", "b")
    np.testing.assert_allclose(found.vectors, UNIT[:2], atol=1e-6)
    save_file({"anything": tensor}, path)
    with pytest.raises(SampleFileError, match=r"e\.ids\.txt \(one per line\)"):
        read_embeddings(path)
    (tmp_path / "e.ids.txt").write_text("a\nb")
    assert read_embeddings(path).ids == ("a", "b")
    save_file({"one": tensor, "two": tensor.clone()}, path)
    with pytest.raises(SampleFileError, match="one tensor or one named"):
        read_embeddings(path)


def _set(row: int, value: float) -> np.ndarray:
    values = VALUES.copy()
    values[row] = value
    return values


@pytest.mark.parametrize(
    ("values", "ids", "messages"),
    [
        (_set(1, np.nan), IDS, [r"1 rows are NaN or infinite \(rows 1\)"]),
        (_set(1, np.inf), IDS, ["NaN or infinite"]),
        (_set(0, 0.0), IDS, [r"1 rows are all zeros and have no direction \(rows 0\)"]),
        (VALUES, IDS[:2], ["2 ids for 3 rows"]),
        (VALUES, ("a", "a", "b"), [r"got 1 repeated ones \(a\)"]),
        (VALUES, ("a", " ", "b"), ["Expected ids, got empty ones"]),
        (VALUES[0], IDS, [r"shape \(n, d\), got float64 \(2,\)"]),
        (VALUES[:, :0], IDS, [r"shape \(n, d\)"]),
        (np.array([["a"]]), IDS, [r"shape \(n, d\), got <U1"]),
        (VALUES * 1j, IDS, ["real numbers"]),
        (
            _set(0, 0.0) + np.array([[0], [np.nan], [0]]),
            ("a", "a"),
            ["all zeros", "NaN", "2 ids for 3", "1 repeated"],
        ),
    ],
)
def test_everything_wrong_is_listed(
    tmp_path: Path, values: np.ndarray, ids: tuple[str, ...], messages: list[str]
) -> None:
    for message in messages:
        with pytest.raises(SampleFileError, match=message):
            read_embeddings(_npy(tmp_path, values, ids))


def test_ids_may_repeat_where_allowed(tmp_path: Path) -> None:
    assert read_embeddings(_npy(tmp_path, ids=("a", "a", "b")), unique_ids=False).ids == ("a", "a", "b")


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(SampleFileError, match="Not a readable array of numbers"):
        read_embeddings(tmp_path / "e.npy")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.npy", b"", "Not a readable array"),
        ("e.npy", b"rubbish", "Not a readable array"),
        ("e.safetensors", b"rubbish", "Not a readable safetensors file"),
        ("e.pt", b"", r"Expected \.npy or \.safetensors"),
        ("e", b"", r"Expected \.npy or \.safetensors"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "e.ids.txt").write_text("a")
    with pytest.raises(SampleFileError, match=message):
        read_embeddings(tmp_path / name)


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".ids.json", b"{", "got invalid JSON"),
        (".ids.json", b'{"a": 1}', "as a JSON list of strings"),
        (".ids.json", b"[1.5]", "as a JSON list of strings"),
        (".ids.txt", b"\xff\xfe", "Expected UTF-8"),
    ],
)
def test_unreadable_ids(tmp_path: Path, suffix: str, content: bytes, message: str) -> None:
    np.save(tmp_path / "e.npy", VALUES)
    (tmp_path / f"e{suffix}").write_bytes(content)
    with pytest.raises(SampleFileError, match=message):
        read_embeddings(tmp_path / "e.npy")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SampleFileError, match="No such file"):
        read_embeddings(tmp_path / "e.npy")


def test_captions_are_paired_with_the_image_of_their_id(tmp_path: Path) -> None:
    for name, rows, ids in (("x", 2, ["a", "b"]), ("y", 3, ["b", "a", "b"])):
        np.save(tmp_path / f"{name}.npy", np.eye(3)[:rows])
        (tmp_path / f"{name}.ids.json").write_text(json.dumps(ids))
    pairs = pair_embeddings(tmp_path / "x.npy", tmp_path / "y.npy")
    assert pairs.ids == ("b", "a", "b")
    np.testing.assert_array_equal(pairs.images[:], np.eye(3, dtype=np.float32)[[1, 0, 1]])
    np.testing.assert_array_equal(pairs.captions[:], np.eye(3, dtype=np.float32))
    (tmp_path / "y.ids.json").write_text('["b", "c", "d"]')
    with pytest.raises(SampleFileError, match=r"c: .*x\.npy has no embedding of this id") as error:
        pair_embeddings(tmp_path / "x.npy", tmp_path / "y.npy")
    assert len(error.value.problems) == 2


@pytest.mark.parametrize("order", ["C", "F"])
def test_stored_rows_are_read_in_any_order_from_several_files(tmp_path: Path, order) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(n, 4)) for n in (BLOCK + 3, 2, BLOCK)]
    for i, part in enumerate(parts):
        np.save(tmp_path / f"{i}.npy", np.asarray(part, order=order))
    whole = np.concatenate(parts)
    whole = (whole / np.linalg.norm(whole, axis=1, keepdims=True)).astype(np.float32)
    chosen = rng.integers(0, len(whole), 3 * BLOCK)
    stored = StoredRows([np.load(tmp_path / f"{i}.npy", mmap_mode="r") for i in range(3)], chosen)
    assert stored.shape == (3 * BLOCK, 4)
    np.testing.assert_array_equal(stored[:], whole[chosen])
    np.testing.assert_array_equal(stored[5:9], whole[chosen[5:9]])
    np.testing.assert_array_equal(stored[np.array([7, 7, 0])], whole[chosen[[7, 7, 0]]])
