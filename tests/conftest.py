"""One seed, printed; hypothesis without surprises in continuous integration."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

SEED = int(os.environ.get("QINTERP_SEED", "20261122"))

_slow_machines = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("dev", deadline=None, suppress_health_check=_slow_machines)
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_report_header() -> str:
    """Print the seed that every random case starts from."""
    return f"qinterp seed {SEED} (QINTERP_SEED)"
