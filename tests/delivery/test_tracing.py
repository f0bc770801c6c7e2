"""OpenTelemetry spans of a delivery, where somebody collects them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from onward.instrument import Call
from onward.testing.app import TestApp
from onward.tracing import Spans

Connect = Callable[..., TestApp]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What was collected.

    The SDK's own setter works once in a process and for all that comes after.
    """
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)
    return exporter


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """Return the spans of one name, in the order they ended."""
    return [span for span in spans.get_finished_spans() if span.name == name]


def facts(span: ReadableSpan) -> dict[str, Any]:
    """Return what a span says."""
    return dict(span.attributes or {})


def test_a_call_lies_in_its_batch_and_that_in_its_drain(
    connect: Connect, tools: Any, spans: InMemorySpanExporter
) -> None:
    """Across the threads of batches, with ids and sizes, and nobody's address."""
    app = connect()
    tools.fire(app, "ana", "bob")

    app.deliver()

    [drain], [batch] = named(spans, "onward.drain"), named(spans, "onward.batch")
    call = named(spans, "onward.call")[-1]
    assert batch.parent is not None
    assert call.parent is not None
    assert batch.parent.span_id == drain.context.span_id
    assert call.parent.span_id == batch.context.span_id
    of = {"onward.connection": "acme", "onward.integration": "acme"}
    assert facts(drain) == {
        **of,
        "onward.connection_id": 1,
        "onward.fence": 1,
        "onward.stopped": "empty",
    }
    assert facts(batch) == {
        **of,
        "onward.kind": "push",
        "onward.batch_size": 2,
        "onward.attempt_id": 1,
        "onward.stopped": "",
    }
    assert facts(call) == {
        **of,
        "http.request.method": "POST",
        "url.template": "/people",
        "http.response.status_code": 200,
    }
    assert call.kind is trace.SpanKind.CLIENT


def test_a_call_without_answer_is_an_error_without_words(
    connect: Connect, tools: Any, spans: InMemorySpanExporter, service: Any
) -> None:
    """The span has the kind of the error and no text, no event, no address."""
    app = connect()
    tools.fire(app, "ana")
    service.script = [tools.is_lost, tools.answers(503)]

    app.deliver()
    app.clock.tick(10)
    app.deliver()

    lost, read, answered = named(spans, "onward.call")[-3:]
    assert facts(lost)["error.type"] == "ReadTimeout"
    assert facts(read)["url.template"] == "/people/{id}"
    assert facts(answered)["http.response.status_code"] == 503
    for span in spans.get_finished_spans():
        assert span.events == ()
        assert span.status.description is None
        assert "shop.example" not in span.to_json()
    assert lost.status.status_code is trace.StatusCode.ERROR
    assert answered.status.status_code is trace.StatusCode.ERROR
    app.clock.tick(timedelta(hours=1))
    app.deliver()
    assert tools.ended(app) == {"ana": ("delivered", "delivered")}


def test_nothing_is_done_where_nobody_collects(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the package, and with it but no provider, no span is made."""
    work = Call("acme", "acme", "GET", "/")
    idle = Spans().watch(work)

    monkeypatch.setattr(
        "opentelemetry.trace.get_tracer_provider", trace.ProxyTracerProvider
    )
    unset = Spans().watch(work)
    monkeypatch.delitem(__import__("sys").modules, "opentelemetry.trace")
    absent = Spans().watch(work)

    assert unset is absent
    assert idle is not absent
