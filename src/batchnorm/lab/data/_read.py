"""Raw data of a dataset, and what names its content."""

import hashlib
import inspect
import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from ..._errors import explain
from ._cache import cached
from ._catalogue import Entry
from ._checksums import checksums
from ._find import files_of, wanted_files
from ._folder import DATA_VARIABLE
from ._raw import Parts, Source

__all__ = ["digest_of", "raw_parts"]


def raw_parts(name: str, entry: Entry, folder: Path | None) -> tuple[Parts, str]:
    """Checked examples, and a digest that differs when they do.

    Raises:
        FileNotFoundError: the folder has no such files.
        ValueError: no folder, or a file that is not right.
    """
    return _made(entry) if entry.made else _read(name, entry, folder)


def digest_of(*what: object) -> str:
    """SHA-256 of anything that JSON can hold."""
    return _sha256([json.dumps(what).encode()])


def _made(entry: Entry) -> tuple[Parts, str]:
    assert entry.made is not None
    parts = entry.made()
    entry.wanted.check(entry.title, parts)
    content = (array.tobytes() for raw in parts for array in (raw.x, raw.y))

    return parts, _sha256(content)


def _read(name: str, entry: Entry, folder: Path | None) -> tuple[Parts, str]:
    found = files_of(entry, folder)
    if found is None:
        raise _missing(name, entry, folder)
    source, paths = found
    decoder = f"{source.decoder} {version(source.decoder)}" if source.decoder else ""
    content = digest_of(checksums(paths, source.sha256, of_content=source.of_content), decoder)

    def read() -> Parts:
        parts = source.read(paths)
        entry.wanted.check(str(paths[0]), parts)
        return parts

    return cached(_key(name, source, content), read) if source.slow else read(), content


def _missing(name: str, entry: Entry, folder: Path | None) -> OSError | ValueError:
    rule = f"its files must lie in a folder that you name: {wanted_files(entry)}"
    fetch = f", or run `batchnorm lab data {name} --download`" if entry.hub else ""
    if folder is None:
        cure = f"Use --data FOLDER or set {DATA_VARIABLE}{fetch}"
        return ValueError(explain(name, rule, "no folder", cure))
    cure = f"Put them there, from {entry.origin}{fetch}"

    return FileNotFoundError(explain(name, rule, f"'{folder}' without them", cure))


def _key(name: str, source: Source, content: str) -> str:
    """Of the cache: another content, or another way to read it, is another key."""
    written = Path(inspect.getfile(source.read)).read_bytes()

    return f"{name}-{_sha256([written, content.encode()])[:16]}"


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)

    return digest.hexdigest()
