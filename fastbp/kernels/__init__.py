"""Compiled code: it sees prepared arrays only, and allocates nothing."""
