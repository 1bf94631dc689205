"""Read the data files of this folder and verify that they are the files that were shipped."""

import csv
import gzip
import hashlib
import io
from pathlib import Path

__all__ = ["FOLDER", "SHA256", "read_bytes", "read_csv"]

FOLDER = Path(__file__).parent

SHA256 = {
    "adult.csv.gz": "a5e65ce3ba02108cc7c4cef67c8a6dd4100530da5ff714fd3370f76133c4805b",
    "california_housing.csv.gz": "9a1ba4429dfb78071088f7d2eec7ecc4046c32480a0d18c956b0820fd4a4c8ac",
    "clothing_reviews.csv.gz": "4bde9545147c4bb668322923629efaa25348f6d140c5a8e4bd5e6d9fd20a4af7",
    "letter.csv.gz": "40ff855c1bb5143a3386bfd67dd7e0b4ee6b780eee6b8d7b00b04b5bfa2ead1a",
    "mnist.npz": "58c05ffd9880e3b6ddfe8c74b89ccc40c0da6f6152f4c5203a7c6a12919c2344",
}


def read_bytes(name: str) -> bytes:
    """Read one data file, verified.

    Parameters
    ----------
    name : str
        The name of the file, a key of ``SHA256``.

    Returns
    -------
    bytes
        The content of the file: the very bytes whose checksum was verified.

    Raises
    ------
    FileNotFoundError
        If the file is not in the folder.
    ValueError
        If the SHA-256 checksum of the file is not the one in ``SHA256``, or `name` is not a key.
    """
    if name not in SHA256:
        raise ValueError(f"name must be one of {sorted(SHA256)}; got {name!r}.")
    path = FOLDER / name
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"The data file {name} is missing from {FOLDER}; reinstall fastbp to restore it."
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise ValueError(
            f"The data file {name} in {FOLDER} is damaged: its SHA-256 is {found}, not "
            f"{SHA256[name]}; reinstall fastbp to restore it."
        )
    return content


def read_csv(name: str) -> tuple[list[str], list[list[str]]]:
    """Read one compressed table, verified, every field as text.

    Parameters
    ----------
    name : str
        The name of a ``.csv.gz`` file, a key of ``SHA256``.

    Returns
    -------
    header : list of str
        The names of the columns.
    rows : list of list of str
        One list of fields for each row, in the order of the file.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`read_bytes` does.
    """
    text = gzip.decompress(read_bytes(name)).decode("utf-8")
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    return header, rows
