"""SHA-256 of files, against those that are known."""

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path

from ._raw import parsing, refused

__all__ = ["LIST", "checksums", "unpacked"]

LIST = "SHA256SUMS"


def checksums(paths: Sequence[Path], known: Sequence[str], *, of_content: bool) -> list[str]:
    """SHA-256 of each file, or of all files of a folder.

    Checked against `known`, and against a list ``SHA256SUMS`` beside the file, such as
    ``sha256sum`` writes.

    Args:
        paths: the files.
        known: for each its checksum; empty where none is known.
        of_content: `known` is of what is in a file that ends in ``.gz``.

    Raises:
        ValueError: one differs.
    """
    found = [_of(path) for path in paths]
    for path, checksum in zip(paths, found, strict=True):
        _compare(path, checksum, _listed(path), f"its checksum must be that in {LIST}")
    for path, checksum, right in zip(paths, found, known, strict=False):
        if of_content and path.suffix == ".gz":
            checksum = hashlib.sha256(unpacked(path)).hexdigest()
        _compare(path, checksum, right, "its checksum must be that of the published file")

    return found


def unpacked(path: Path) -> bytes:
    """The bytes of a file, those inside if its name ends in ``.gz``.

    Raises:
        ValueError: it is cut short or no such archive.
    """
    if path.suffix != ".gz":
        return path.read_bytes()
    with parsing(path, "gzip archive"):
        return gzip.decompress(path.read_bytes())


def _compare(path: Path, checksum: str, right: str | None, rule: str) -> None:
    if right is not None and checksum != right:
        raise refused(path, rule, f"SHA-256 {checksum[:16]}… instead of {right[:16]}…")


def _of(path: Path) -> str:
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for inner in sorted(path.iterdir()):
        digest.update(f"{inner.name} {_of(inner)}\n".encode())

    return digest.hexdigest()


def _listed(path: Path) -> str | None:
    """What the list beside the file says of it."""
    try:
        text = (path.parent / LIST).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    lines = (line.split(maxsplit=1) for line in text.splitlines())
    named = {
        line[1].lstrip("*").removeprefix("./").strip(): line[0].lower()
        for line in lines
        if len(line) == 2
    }

    return named.get(path.name)
