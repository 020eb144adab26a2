from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from i0tscore.encoders.cache import EmbeddingCache
from i0tscore.encoders.loop import embed_captions
from i0tscore.files import default_cache_dir


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> None:
    tiny_models.register(tmp_path_factory.mktemp("configs"))


@pytest.fixture(scope="module")
def encoder():
    return tiny_models.encoder("tiny")


def _vector(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=16).astype(np.float32)
    return vector / np.linalg.norm(vector)


def _open_and_look_up(encoder, folder: Path) -> EmbeddingCache:
    """Open a damaged file, which is detected on opening or on the first read."""
    cache = EmbeddingCache(encoder, folder)
    assert cache.get("image", "5") is None
    return cache


def test_round_trip_is_exact(tmp_path: Path, encoder) -> None:
    with EmbeddingCache(encoder, tmp_path) as cache:
        assert cache.get("image", "a") is None
        cache.put("image", {"a": _vector(1), "b": _vector(2)})
        np.testing.assert_array_equal(cache.get("image", "a"), _vector(1))
    with EmbeddingCache(encoder, tmp_path) as cache:
        np.testing.assert_array_equal(cache.get("image", "b"), _vector(2))
        assert cache.get("text", "b") is None


def test_embeddings_are_written_at_once(tmp_path: Path, encoder) -> None:
    cache = EmbeddingCache(encoder, tmp_path)
    cache.put("image", {str(i): _vector(i) for i in range(10)})
    other = EmbeddingCache(encoder, tmp_path)
    np.testing.assert_array_equal(other.get("image", "7"), _vector(7))
    other.close()
    cache.close()


def test_one_file_for_each_space_and_precision(tmp_path: Path) -> None:
    encoders = [
        tiny_models.encoder("tiny"),
        tiny_models.encoder("tiny", seed=1),
        tiny_models.encoder("tiny-quickgelu"),
        tiny_models.encoder("tiny", precision="bf16"),
    ]
    paths = set()
    for encoder in encoders:
        with EmbeddingCache(encoder, tmp_path) as cache:
            assert cache.get("image", "a") is None
            cache.put("image", {"a": _vector(0)})
            paths.add(cache.path)
    assert len(paths) == len(encoders)


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("I0TSCORE_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("I0TSCORE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir().name == "i0tscore"


@pytest.mark.parametrize("damage", ["not a database, but long enough to look like one " * 9, "head", "middle"])
def test_damaged_file_is_moved_aside(tmp_path: Path, encoder, damage: str) -> None:
    with EmbeddingCache(encoder, tmp_path) as cache:
        cache.put("image", {str(i): _vector(i) for i in range(200)})
    content = bytearray(cache.path.read_bytes())
    if damage == "head":
        content[:100] = b"\xff" * 100
    elif damage == "middle":
        content[4096:] = b"\xff" * (len(content) - 4096)
    else:
        content = bytearray(damage.encode())
    cache.path.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged .* started a new one"):
        cache = _open_and_look_up(encoder, tmp_path)
    cache.put("image", {"5": _vector(5)})
    cache.close()
    assert cache.path.with_suffix(".damaged").exists()
    with EmbeddingCache(encoder, tmp_path) as cache:
        np.testing.assert_array_equal(cache.get("image", "5"), _vector(5))


def test_damaged_vectors_are_not_returned(tmp_path: Path, encoder) -> None:
    with EmbeddingCache(encoder, tmp_path) as cache:
        cache.put("image", {"short": _vector(1)[:8], "long": 2 * _vector(1), "nan": _vector(1) * np.float32("nan")})
    with EmbeddingCache(encoder, tmp_path) as cache:
        assert [cache.get("image", key) for key in ("short", "long", "nan")] == [None] * 3


def test_unwritable_folder_disables_the_cache(tmp_path: Path, encoder) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.warns(UserWarning, match=r"cannot be used .* Continuing without") as caught:
        cache = EmbeddingCache(encoder, blocked / "folder")
    assert len(caught) == 1
    embedded = embed_captions(encoder, ["a dog"], cache=cache)
    assert embedded.vectors.shape == (1, 16)
    cache.close()


def test_database_that_becomes_unwritable_warns_once(tmp_path: Path, encoder) -> None:
    cache = EmbeddingCache(encoder, tmp_path)
    with sqlite3.connect(cache.path) as other:
        other.execute("DROP TABLE embeddings")
    other.close()
    with pytest.warns(UserWarning, match="Continuing without") as caught:
        assert cache.get("image", "a") is None
    assert len(caught) == 1
    cache.put("image", {"a": _vector(1)})
    assert cache.get("image", "a") is None
    cache.close()


WRITER = """
import sys
import threading
from types import SimpleNamespace
import numpy as np
from i0tscore.encoders.base import Fingerprint
from i0tscore.encoders.cache import EmbeddingCache

folder, start, fingerprint = sys.argv[1], int(sys.argv[2]), Fingerprint(*sys.argv[3:])
with EmbeddingCache(SimpleNamespace(fingerprint=fingerprint, dimension=16), folder) as cache:
    for i in range(start, start + 50):
        vector = np.random.default_rng(i).normal(size=16).astype(np.float32)
        cache.put("image", {str(i): vector / np.linalg.norm(vector)})
"""


def test_concurrent_writers(tmp_path: Path, encoder) -> None:
    fields = astuple(encoder.fingerprint)
    command = [sys.executable, "-W", "error", "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(start), *fields]) for start in (0, 10, 20, 30)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0]
    with EmbeddingCache(encoder, tmp_path) as cache:
        for i in range(80):
            np.testing.assert_array_equal(cache.get("image", str(i)), _vector(i))


def test_waits_for_a_process_that_creates_the_file(tmp_path: Path, encoder) -> None:
    with EmbeddingCache(encoder, tmp_path) as cache:
        path = cache.path
    path.unlink()
    other = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    other.execute("CREATE TABLE unrelated (a)")
    other.execute("BEGIN")
    other.execute("INSERT INTO unrelated VALUES (1)")
    done = threading.Timer(0.5, lambda: other.execute("COMMIT"))
    done.start()
    with EmbeddingCache(encoder, tmp_path) as cache:
        cache.put("image", {"a": _vector(1)})
        np.testing.assert_array_equal(cache.get("image", "a"), _vector(1))
    done.join()
    other.close()
