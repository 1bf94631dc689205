"""Files of arrays and JSON, without executable code, written atomically.

The format is safetensors (https://huggingface.co/docs/safetensors): a JSON header, then the
arrays. The header's metadata hold the contents as JSON, and a digest of contents and arrays.
"""

import errno
import glob
import hashlib
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from time import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_path", "from_json", "read", "to_json", "write"]

Array = NDArray[Any]

FORMAT = "1"
UNFINISHED = ".tmp"
LEFT_AFTER = 3600.0  # seconds; no write takes this long


def check_path(path: str | os.PathLike[str]) -> None:
    """Refuse a path at which no file can be written.

    Raises
    ------
    FileNotFoundError
        If the file's folder does not exist.
    IsADirectoryError
        If the path is a folder.
    """
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"path: there is no folder {folder}.")
    if Path(path).is_dir():
        raise IsADirectoryError(f"path must be a file, but {str(path)!r} is a folder.")


def write(path: str | os.PathLike[str], contents: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Write a temporary file in the same folder, then rename it to `path`.

    The permissions are those of the file it replaces, or of a new file. Temporary files left by a
    process that was killed while writing are removed once they are an hour old.

    Parameters
    ----------
    path : str or path-like
    contents : dict
        Values that JSON can express; see `to_json`.
    arrays : dict of str to ndarray
        In C order.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    from safetensors.numpy import save as to_bytes

    check_path(path)
    text = json.dumps(contents)
    metadata = {"fastbp": FORMAT, "contents": text, "digest": _digest(text, arrays)}
    path = Path(os.path.realpath(path))  # replace a link's target, not the link
    beside = path.with_name(f".{path.name}.{token_hex(4)}{UNFINISHED}")
    try:
        with open(beside, "xb") as file:
            file.write(to_bytes(arrays, metadata))
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            beside.chmod(stat.S_IMODE(path.stat().st_mode))
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????{UNFINISHED}"):
        with suppress(OSError):
            if left.stat().st_mtime < time() - LEFT_AFTER:
                left.unlink()


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the contents and arrays of a file.

    Raises
    ------
    ValueError
        If the file is not one of fastbp's, has another version of the format, is truncated, or was
        altered.
    OSError
        If the file does not exist, cannot be read, or is a folder.
    """
    from safetensors import SafetensorError, safe_open

    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as a model: {error}.") from error
    version = metadata.get("fastbp")
    if version != FORMAT:
        raise ValueError(
            f"{path} is not a model in fastbp's format {FORMAT}: its format is {version!r}."
        )
    text = metadata.get("contents", "")
    if metadata.get("digest") != _digest(text, arrays):
        raise ValueError(f"{path} was altered: its contents are not what was saved.")
    try:
        contents = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a model: {error}.") from error
    if not isinstance(contents, dict):
        raise ValueError(f"{path} cannot be read as a model: its contents are {contents!r:.50}.")
    return contents, arrays


def to_json(name: str, value: Any) -> Any:
    """Return a representation that JSON can express, from which `from_json` restores the value.

    Raises
    ------
    ValueError
        If the value is neither a number nor text nor composed of them; the message has the name.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [to_json(name, element) for element in value]}
    if isinstance(value, np.ndarray):
        return {"array": to_json(name, value.tolist()), "dtype": value.dtype.str}
    if isinstance(value, dict):
        return {"dict": [[to_json(name, k), to_json(name, v)] for k, v in value.items()]}
    if isinstance(value, np.random.RandomState):
        return {"RandomState": to_json(name, value.get_state(legacy=False))}
    raise ValueError(f"{name} cannot be saved: {value!r} is neither a number nor text.")


def from_json(value: Any) -> Any:
    """Return the value that `to_json` represented."""
    if not isinstance(value, dict):
        return value
    if "array" in value:
        kind = np.dtype(value["dtype"]).kind
        if kind not in "fiubUO":
            raise ValueError(f"{value['dtype']!r} is not a dtype of numbers or text.")
        # the width of a text array follows from the texts, whatever the dtype says
        return np.array(from_json(value["array"]), dtype="U" if kind == "U" else value["dtype"])
    ((kind, contents),) = value.items()
    if kind == "dict":
        return {from_json(k): from_json(v) for k, v in contents}
    if kind == "RandomState":
        generator = np.random.RandomState()
        generator.set_state(from_json(contents))
        return generator
    elements = [from_json(element) for element in contents]
    return tuple(elements) if kind == "tuple" else elements


def _digest(text: str, arrays: dict[str, Array]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
