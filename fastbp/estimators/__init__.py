"""The public classes: the classifier and the regressor."""
