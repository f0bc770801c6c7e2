"""OpenTelemetry spans of drains, batches and calls, where somebody collects them.

Needs `opentelemetry-api` and a tracer provider that the user configured. Who did
that has imported it: so nothing is imported here, and without it nothing is done.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from onward.instrument import Batch, Call, Drain, Sweep, Watch, Work

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_NOTHING: Watch = nullcontext()
_NAMES = {Drain: "onward.drain", Batch: "onward.batch", Call: "onward.call"}


class Spans:
    """Makes a span of what is done. None names a person, and none holds a text."""

    def __init__(self) -> None:
        self._made: tuple[object, Tracer] | None = None

    def watch(self, work: Work) -> Watch:
        """Make a span, if anybody collects them."""
        if isinstance(work, Sweep):
            return _NOTHING
        trace = sys.modules.get("opentelemetry.trace")
        if trace is None:
            return _NOTHING
        provider = trace.get_tracer_provider()
        if isinstance(provider, trace.ProxyTracerProvider):
            return _NOTHING
        if self._made is None or self._made[0] is not provider:
            self._made = provider, provider.get_tracer("onward")
        return self._span(trace, self._made[1], work)

    @contextmanager
    def _span(
        self, trace: Any, tracer: Tracer, work: Drain | Batch | Call
    ) -> Generator[None]:
        kind = trace.SpanKind.CLIENT if isinstance(work, Call) else None
        with tracer.start_as_current_span(
            _NAMES[type(work)],
            kind=kind or trace.SpanKind.INTERNAL,
            # Their texts may name anybody.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(trace.StatusCode.ERROR)
                raise
            finally:
                _describe(span, work)
                if isinstance(work, Call) and (work.status or 0) >= 400:
                    span.set_status(trace.StatusCode.ERROR)

    def settled(self, connection: str, ends: Iterable[tuple[str, str]]) -> None:
        """Do nothing."""

    def waited(self, connection: str, seconds: float) -> None:
        """Do nothing."""


def _describe(span: Span, work: Drain | Batch | Call) -> None:
    """Set the attributes; only now all of them are known."""
    span.set_attribute("onward.connection", work.connection)
    span.set_attribute("onward.integration", work.integration)
    match work:
        case Drain():
            span.set_attribute("onward.connection_id", work.connection_id)
            span.set_attribute("onward.fence", work.fence)
            span.set_attribute("onward.stopped", work.stopped)
        case Batch():
            span.set_attribute("onward.kind", work.kind)
            span.set_attribute("onward.batch_size", len(work.rows))
            span.set_attribute("onward.stopped", work.stopped)
            if work.attempt_id is not None:
                span.set_attribute("onward.attempt_id", work.attempt_id)
        case Call():
            span.set_attribute("http.request.method", work.method)
            span.set_attribute("url.template", work.path)
            if work.status is not None:
                span.set_attribute("http.response.status_code", work.status)
