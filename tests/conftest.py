"""Settings for all tests."""

from hypothesis import HealthCheck, settings

# The same cases in each run, and no time limit: a first case may wait for the compiler.
settings.register_profile(
    "fastbp",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("fastbp")
