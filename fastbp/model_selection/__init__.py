"""scikit-learn's searches and cross-validation, for networks that are trained side by side.

The same names, signatures and results: changing the import is all there is to do.
"""

from fastbp.model_selection.searches import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)

__all__ = [
    "GridSearchCV",
    "HalvingGridSearchCV",
    "HalvingRandomSearchCV",
    "RandomizedSearchCV",
    "cross_val_score",
    "cross_validate",
    "learning_curve",
    "validation_curve",
]
