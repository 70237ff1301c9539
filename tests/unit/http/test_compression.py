"""Decompression of request bodies: every encoding is limited, and damaged bodies are rejected."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
import zstandard

from relab.core.errors import MalformedBodyError, TooLargeError
from relab.http.compression import DECODERS, decompress

MB = 1_048_576
CONTENT = b'{"resourceSpans": []}' * 500
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zlib": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
every_encoding = pytest.mark.parametrize("encoding", sorted(COMPRESS))


def test_every_encoding_is_tested() -> None:
    assert set(COMPRESS) == set(DECODERS)


@every_encoding
def test_body_of_the_limit_is_decompressed(encoding: str) -> None:
    assert decompress(COMPRESS[encoding](CONTENT), encoding, len(CONTENT)) == CONTENT


@every_encoding
def test_empty_body_is_decompressed(encoding: str) -> None:
    assert decompress(COMPRESS[encoding](b""), encoding, 10) == b""


@every_encoding
def test_body_over_the_limit_is_rejected(encoding: str) -> None:
    with pytest.raises(TooLargeError, match="larger than 10,499 bytes"):
        decompress(COMPRESS[encoding](CONTENT), encoding, len(CONTENT) - 1)


@every_encoding
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(lambda raw: raw[:-3], "ends too early", id="cut short"),
        pytest.param(lambda _raw: b"", "ends too early", id="nothing"),
        pytest.param(lambda raw: raw + b"more", "followed by other bytes", id="followed by more"),
        pytest.param(lambda raw: raw * 2, "followed by other bytes", id="two streams"),
        pytest.param(lambda _raw: CONTENT, "is not", id="not compressed"),
    ],
)
def test_damaged_body_is_malformed(encoding: str, damage: Callable[[bytes], bytes], reason: str) -> None:
    with pytest.raises(MalformedBodyError, match=f"{encoding}.*{reason}|{reason} {encoding}"):
        decompress(damage(COMPRESS[encoding](CONTENT)), encoding, 2 * len(CONTENT))


def test_zstandard_whose_window_takes_too_much_memory_is_malformed() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    raw = packer.compress(CONTENT) + packer.flush()
    with pytest.raises(MalformedBodyError, match="is not zstd"):
        decompress(raw, "zstd", MB)
