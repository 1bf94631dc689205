"""What users touch: the classifier and the regressor."""
