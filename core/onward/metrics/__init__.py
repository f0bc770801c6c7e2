"""Prometheus metrics, when `onward[metrics]` is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onward.errors import ConfigError
from onward.instrument import joined
from onward.runtime import Runtime

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

MISSING = (
    "metrics need the package prometheus-client: `pip install 'onward[metrics]'`, then "
    "start again"
)


def install(
    runtime: Runtime, registry: CollectorRegistry | None = None
) -> CollectorRegistry:
    """Measure what this Onward does from now on.

    Args:
        registry: where the metrics go, as `prometheus_client.REGISTRY`; None = a new
            one.

    Returns:
        The registry.

    Raises:
        ConfigError: prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry as Registry
    except ImportError as error:
        raise ConfigError(MISSING) from error
    from onward.metrics.meter import Meter
    from onward.metrics.stored import Stored

    found = registry if registry is not None else Registry()
    meter = Meter(
        found, database="sqlite" if runtime.database.is_sqlite else "postgresql"
    )
    found.register(Stored(runtime))
    runtime.instrument = joined(runtime.instrument, meter)
    return found


def exposition(registry: CollectorRegistry) -> tuple[bytes, str]:
    """Return all metrics as Prometheus reads them, and the type of that."""
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    return generate_latest(registry), CONTENT_TYPE_LATEST
