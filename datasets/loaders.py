"""The loaders of the datasets that ship with fastbp."""

import io
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
from sklearn.utils import Bunch

from . import descriptions
from .checks import check_choice, check_dtype, check_flag, import_pandas
from .files import read_bytes, read_csv

__all__ = [
    "load_adult",
    "load_california_housing",
    "load_clothing_reviews",
    "load_letter",
    "load_mnist",
]


def tabular_result(
    data: npt.NDArray[Any],
    target: npt.NDArray[Any],
    *,
    pandas: Any,
    return_X_y: bool,
    target_column: str,
    categorical: tuple[str, ...] = (),
    **entries: Any,
) -> Any:
    """Return a table in the form that the caller asked for.

    Parameters
    ----------
    data : ndarray of shape (n_samples, n_features)
        The features.
    target : ndarray of shape (n_samples,)
        The target.
    pandas : module or None
        The pandas module, if data frames are asked for.
    return_X_y : bool
        Whether to return a pair instead of a Bunch.
    target_column : str
        The name of the target.
    categorical : tuple of str, default=()
        The columns, the target among them, that get the dtype ``category`` in a data frame.
    **entries
        The other entries of the Bunch; ``feature_names`` is required.

    Returns
    -------
    Bunch or tuple
        A Bunch, or ``(data, target)`` when `return_X_y`.
    """
    features: Any = data
    labels: Any = target
    frame = None
    if pandas is not None:
        frame = pandas.DataFrame(data, columns=entries["feature_names"])
        frame[target_column] = target
        # Only a table of mixed columns is an object array; its numbers become float64 again.
        types = {name: np.float64 for name in frame if frame[name].dtype == object}
        frame = frame.astype(types | dict.fromkeys(categorical, "category"))
        features = frame[entries["feature_names"]]
        labels = frame[target_column]
    if return_X_y:
        return features, labels
    return Bunch(data=features, target=labels, frame=frame, data_module=__package__, **entries)


@overload
def load_mnist(
    *,
    subset: Literal["train", "test", "all"] = ...,
    return_X_y: Literal[False] = ...,
    dtype: npt.DTypeLike = ...,
    scale: bool = ...,
) -> Bunch: ...
@overload
def load_mnist(
    *,
    subset: Literal["train", "test", "all"] = ...,
    return_X_y: Literal[True],
    dtype: npt.DTypeLike = ...,
    scale: bool = ...,
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.int64]]: ...
def load_mnist(
    *,
    subset: Literal["train", "test", "all"] = "train",
    return_X_y: bool = False,
    dtype: npt.DTypeLike = np.float32,
    scale: bool = True,
) -> Any:
    """Load MNIST, 70,000 images of handwritten digits (10 classes).

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        The 60,000 training images, the 10,000 test images, or both, the training images first.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.
    dtype : numpy.float32 or numpy.float64, default=numpy.float32
        The dtype of the pixels.
    scale : bool, default=True
        Whether to divide the pixels by 255. They are in [0, 1] if so, else in [0, 255].

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : ndarray of shape (n_samples, 784) and of dtype `dtype`
            One image a row, its pixels row by row.
        target : ndarray of shape (n_samples,) and of dtype int64
            The digits, 0 to 9.
        images : ndarray of shape (n_samples, 28, 28) and of dtype `dtype`
            A view of `data`.
        feature_names : list of 784 str
            ``"pixel_{row}_{column}"``.
        target_names : ndarray of shape (10,)
            The digits.
        DESCR, filename, data_module : str
            The description, the name of the file and the package that holds the file.
    (data, target) : tuple of two ndarrays
        The first two of these, if `return_X_y`.

    Raises
    ------
    ValueError
        If an argument is not one of the values above, or the file is damaged.
    FileNotFoundError
        If the file is missing.

    Notes
    -----
    Source: LeCun, Cortes and Burges. Licence: CC BY-SA 3.0.

    Examples
    --------
    >>> from fastbp.datasets import load_mnist
    >>> X, y = load_mnist(subset="test", return_X_y=True)
    >>> X.shape, X.dtype.name, y[:3].tolist()
    ((10000, 784), 'float32', [7, 2, 1])
    """
    check_choice("subset", subset, ("train", "test", "all"))
    check_flag("return_X_y", return_X_y)
    check_flag("scale", scale)
    float_type = check_dtype(dtype)
    parts = ("train", "test") if subset == "all" else (subset,)
    with np.load(io.BytesIO(read_bytes("mnist.npz")), allow_pickle=False) as arrays:
        pixels = [arrays[f"X_{part}"] for part in parts]
        target = np.concatenate([arrays[f"y_{part}"] for part in parts], dtype=np.int64)
    data = np.concatenate(pixels, dtype=float_type)
    if scale:
        data /= 255
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        images=data.reshape(-1, 28, 28),
        feature_names=[f"pixel_{row}_{column}" for row in range(28) for column in range(28)],
        target_names=np.arange(10),
        DESCR=descriptions.MNIST,
        filename="mnist.npz",
        data_module=__package__,
    )


@overload
def load_letter(
    *, return_X_y: Literal[False] = ..., as_frame: bool = ..., dtype: npt.DTypeLike = ...
) -> Bunch: ...
@overload
def load_letter(
    *, return_X_y: Literal[True], as_frame: Literal[False] = ..., dtype: npt.DTypeLike = ...
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.str_]]: ...
@overload
def load_letter(
    *, return_X_y: Literal[True], as_frame: bool, dtype: npt.DTypeLike = ...
) -> tuple[Any, Any]: ...
def load_letter(
    *, return_X_y: bool = False, as_frame: bool = False, dtype: npt.DTypeLike = np.float64
) -> Any:
    """Load letter recognition, 20,000 images of capital letters as 16 numbers each (26 classes).

    Parameters
    ----------
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Whether `data` is a pandas DataFrame and `target` a Series of dtype ``category``.
    dtype : numpy.float32 or numpy.float64, default=numpy.float64
        The dtype of `data`.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : {ndarray, DataFrame} of shape (20000, 16) and of dtype `dtype`
            Whole numbers from 0 to 15.
        target : {ndarray, Series} of shape (20000,)
            The letters, "A" to "Z", as strings.
        frame : DataFrame of shape (20000, 17) or None
            `data` and `target`, if `as_frame`.
        feature_names : list of 16 str
            The names of the columns.
        target_names : ndarray of shape (26,)
            The letters.
        DESCR, filename, data_module : str
            The description, the name of the file and the package that holds the file.
    (data, target) : tuple
        The first two of these, if `return_X_y`.

    Raises
    ------
    ValueError
        If an argument is not one of the values above, or the file is damaged.
    FileNotFoundError
        If the file is missing.
    ImportError
        If `as_frame` and pandas is not installed.

    Notes
    -----
    1,332 rows repeat an earlier row, so a random split puts copies of training rows in the test
    set. By custom the first 16,000 rows are for training and the last 4,000 for testing.

    Source: Slate, D. (1991), UCI Machine Learning Repository. Licence: CC BY 4.0.

    Examples
    --------
    >>> from fastbp.datasets import load_letter
    >>> X, y = load_letter(return_X_y=True)
    >>> X.shape, y[:3].tolist()
    ((20000, 16), ['T', 'I', 'D'])
    """
    check_flag("return_X_y", return_X_y)
    check_flag("as_frame", as_frame)
    float_type = check_dtype(dtype)
    pandas = import_pandas("load_letter") if as_frame else None
    header, rows = read_csv("letter.csv.gz")
    target = np.array([row[0] for row in rows])
    return tabular_result(
        np.array([row[1:] for row in rows], dtype=float_type),
        target,
        pandas=pandas,
        return_X_y=return_X_y,
        target_column=header[0],
        categorical=(header[0],),
        feature_names=header[1:],
        target_names=np.unique(target),
        DESCR=descriptions.LETTER,
        filename="letter.csv.gz",
    )


@overload
def load_california_housing(
    *, return_X_y: Literal[False] = ..., as_frame: bool = ..., dtype: npt.DTypeLike = ...
) -> Bunch: ...
@overload
def load_california_housing(
    *, return_X_y: Literal[True], as_frame: Literal[False] = ..., dtype: npt.DTypeLike = ...
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]]: ...
@overload
def load_california_housing(
    *, return_X_y: Literal[True], as_frame: bool, dtype: npt.DTypeLike = ...
) -> tuple[Any, Any]: ...
def load_california_housing(
    *, return_X_y: bool = False, as_frame: bool = False, dtype: npt.DTypeLike = np.float64
) -> Any:
    """Load California housing, 20,640 block groups with their median house values (regression).

    Parameters
    ----------
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Whether `data` is a pandas DataFrame and `target` a Series.
    dtype : numpy.float32 or numpy.float64, default=numpy.float64
        The dtype of `data` and `target`.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : {ndarray, DataFrame} of shape (20640, 8) and of dtype `dtype`
            The columns in `feature_names`; their scales differ widely.
        target : {ndarray, Series} of shape (20640,) and of dtype `dtype`
            The median house value in units of 100,000 dollars, 0.14999 to 5.00001.
        frame : DataFrame of shape (20640, 9) or None
            `data` and `target`, if `as_frame`.
        feature_names : list of 8 str
            The names of the columns.
        target_names : list of 1 str
            ``["MedHouseVal"]``.
        DESCR, filename, data_module : str
            The description, the name of the file and the package that holds the file.
    (data, target) : tuple
        The first two of these, if `return_X_y`.

    Raises
    ------
    ValueError
        If an argument is not one of the values above, or the file is damaged.
    FileNotFoundError
        If the file is missing.
    ImportError
        If `as_frame` and pandas is not installed.

    Notes
    -----
    Source: Pace and Barry (1997), StatLib. Licence: none is stated.

    Examples
    --------
    >>> from fastbp.datasets import load_california_housing
    >>> X, y = load_california_housing(return_X_y=True)
    >>> X.shape, y[:3].tolist()
    ((20640, 8), [4.526, 3.585, 3.521])
    """
    check_flag("return_X_y", return_X_y)
    check_flag("as_frame", as_frame)
    float_type = check_dtype(dtype)
    pandas = import_pandas("load_california_housing") if as_frame else None
    header, rows = read_csv("california_housing.csv.gz")
    table = np.array(rows, dtype=float_type)
    return tabular_result(
        np.ascontiguousarray(table[:, :-1]),
        np.ascontiguousarray(table[:, -1]),
        pandas=pandas,
        return_X_y=return_X_y,
        target_column=header[-1],
        feature_names=header[:-1],
        target_names=header[-1:],
        DESCR=descriptions.CALIFORNIA_HOUSING,
        filename="california_housing.csv.gz",
    )


@overload
def load_adult(*, return_X_y: Literal[False] = ..., as_frame: bool = ...) -> Bunch: ...
@overload
def load_adult(
    *, return_X_y: Literal[True], as_frame: Literal[False] = ...
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.str_]]: ...
@overload
def load_adult(*, return_X_y: Literal[True], as_frame: bool) -> tuple[Any, Any]: ...
def load_adult(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Load Adult (census income), 48,842 people with 14 mixed columns (2 classes).

    Parameters
    ----------
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Whether `data` is a pandas DataFrame and `target` a Series; the numeric columns are then of
        dtype float64, the categorical columns and the target of dtype ``category``.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : {ndarray of dtype object, DataFrame} of shape (48842, 14)
            Floats in the numeric columns, strings in the categorical ones, ``numpy.nan`` for
            missing values, which occur in categorical columns only.
        target : {ndarray, Series} of shape (48842,)
            "<=50K" or ">50K".
        numeric_features : list of 6 int
            The indices of the numeric columns.
        categorical_features : list of 8 int
            The indices of the categorical columns.
        frame : DataFrame of shape (48842, 15) or None
            `data` and `target`, if `as_frame`.
        feature_names : list of 14 str
            The names of the columns.
        target_names : ndarray of shape (2,)
            The classes.
        DESCR, filename, data_module : str
            The description, the name of the file and the package that holds the file.
    (data, target) : tuple
        The first two of these, if `return_X_y`.

    Raises
    ------
    ValueError
        If an argument is not one of the values above, or the file is damaged.
    FileNotFoundError
        If the file is missing.
    ImportError
        If `as_frame` and pandas is not installed.

    Notes
    -----
    The first 16,281 rows are the original test set, the 32,561 others the original training set.

    Source: Becker and Kohavi (1996), UCI Machine Learning Repository. Licence: CC BY 4.0.

    Examples
    --------
    Both forms of the data go into a ColumnTransformer as they are; the encoder makes a missing
    value a category of its own.

    >>> from sklearn.compose import make_column_transformer
    >>> from sklearn.preprocessing import OneHotEncoder, StandardScaler
    >>> from fastbp.datasets import load_adult
    >>> adult = load_adult()
    >>> encoder = make_column_transformer(
    ...     (StandardScaler(), adult.numeric_features),
    ...     (OneHotEncoder(), adult.categorical_features),
    ... )
    >>> encoder.fit_transform(adult.data).shape
    (48842, 108)
    """
    check_flag("return_X_y", return_X_y)
    check_flag("as_frame", as_frame)
    pandas = import_pandas("load_adult") if as_frame else None
    header, rows = read_csv("adult.csv.gz")
    numeric_names = (
        "age",
        "fnlwgt",
        "educational-num",
        "capital-gain",
        "capital-loss",
        "hours-per-week",
    )
    data = np.empty((len(rows), len(header) - 1), dtype=object)
    for index, name in enumerate(header[:-1]):
        column = [row[index] for row in rows]
        if name in numeric_names:
            data[:, index] = [float(field) for field in column]
        else:
            data[:, index] = [np.nan if field == "?" else field for field in column]
    target = np.array([row[-1] for row in rows])
    numeric = [index for index, name in enumerate(header[:-1]) if name in numeric_names]
    categorical = [index for index, name in enumerate(header[:-1]) if name not in numeric_names]
    return tabular_result(
        data,
        target,
        pandas=pandas,
        return_X_y=return_X_y,
        target_column=header[-1],
        categorical=(*(header[index] for index in categorical), header[-1]),
        feature_names=header[:-1],
        target_names=np.unique(target),
        numeric_features=numeric,
        categorical_features=categorical,
        DESCR=descriptions.ADULT,
        filename="adult.csv.gz",
    )


@overload
def load_clothing_reviews(
    *, target: Literal["recommended", "rating"] = ..., return_X_y: Literal[False] = ...
) -> Bunch: ...
@overload
def load_clothing_reviews(
    *, target: Literal["recommended", "rating"] = ..., return_X_y: Literal[True]
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64]]: ...
def load_clothing_reviews(
    *, target: Literal["recommended", "rating"] = "recommended", return_X_y: bool = False
) -> Any:
    """Load 22,641 reviews of women's clothes, English texts (2 classes or 5 grades).

    The 845 reviews of the file that have no text are left out.

    Parameters
    ----------
    target : {"recommended", "rating"}, default="recommended"
        What to predict: whether the author recommends the item, or the rating.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the attributes

        data : ndarray of shape (22641,) and of dtype object
            The texts, strings.
        target : ndarray of shape (22641,) and of dtype int64
            0 (not recommended) or 1 (recommended); or the rating, 1 to 5.
        feature_names : list of 1 str
            ``["Review Text"]``.
        target_names : ndarray of shape (2,) or (5,)
            The names of the classes, in the order of their numbers.
        DESCR, filename, data_module : str
            The description, the name of the file and the package that holds the file.
    (data, target) : tuple of two ndarrays
        The first two of these, if `return_X_y`.

    Raises
    ------
    ValueError
        If an argument is not one of the values above, or the file is damaged.
    FileNotFoundError
        If the file is missing.

    Notes
    -----
    Source: Women's E-Commerce Clothing Reviews. Licence: CC0.

    Examples
    --------
    >>> from fastbp.datasets import load_clothing_reviews
    >>> texts, y = load_clothing_reviews(return_X_y=True)
    >>> texts[0], int(y[0])
    ('Absolutely wonderful - silky and sexy and comfortable', 1)
    """
    check_choice("target", target, ("recommended", "rating"))
    check_flag("return_X_y", return_X_y)
    header, rows = read_csv("clothing_reviews.csv.gz")
    text = header.index("Review Text")
    label = header.index("Recommended IND" if target == "recommended" else "Rating")
    rows = [row for row in rows if row[text]]
    data = np.array([row[text] for row in rows], dtype=object)
    labels = np.array([int(row[label]) for row in rows], dtype=np.int64)
    if return_X_y:
        return data, labels
    names = ["not recommended", "recommended"] if target == "recommended" else list("12345")
    return Bunch(
        data=data,
        target=labels,
        feature_names=[header[text]],
        target_names=np.array(names),
        DESCR=descriptions.CLOTHING_REVIEWS,
        filename="clothing_reviews.csv.gz",
        data_module=__package__,
    )
