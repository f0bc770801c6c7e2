"""One run of dlt as reverse ETL, in a process of its own.

Its best of the settings that were tried by hand in November 2026 (dlt 1.31, 20,000
contacts, three calls of 50 ms a batch, a busy machine with 2 cores; rows a second):

    pages of dicts, typed-jsonl, as the guide shows               3,360
    the same, `disable_compression`                               3,820
    the same, 200 files of one batch · two normalizing processes  2,830 · 3,020
    pages of dicts, parquet                                       3,590
    Arrow tables, parquet, one file for each of 8 workers         4,180 to 4,200
    the same, pages of 500 instead of one a file                  3,960
    the same, 16 files · 40 · 200                                 3,650 · 3,510 · 2,550
    the same, two normalizing processes                           3,790

It was the best at 0 ms and with one call a batch as well. At 0 ms two workers instead
of eight were faster (11,940 against 9,240); they are no 8 requests in flight.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.sender import Sender, mapped


def _settings(folder: str, workers: int, file_rows: int) -> dict[str, str]:
    return {
        "DLT_DATA_DIR": f"{folder}/dlt",
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "CRITICAL",
        "NORMALIZE__WORKERS": "1",
        "LOAD__WORKERS": str(workers),
        "DATA_WRITER__FILE_MAX_ITEMS": str(file_rows),
        "DATA_WRITER__BUFFER_MAX_ITEMS": str(file_rows),
        "DATA_WRITER__DISABLE_COMPRESSION": "true",
    }


def run(
    folder: str, integration: str, url: str, rows: int, batch: int, parallel: int
) -> dict[str, float]:
    """Push the contacts of a folder's `onward.db`.

    The clock is on `pipeline.run`: extract, normalize, load. A first run of one
    contact has loaded dlt's modules and made its schema.

    Returns:
        `{"contacts": answered, "requests": answered, "took": s, "load": s}`.
    """
    # A file is loaded by one worker, batch after batch: one file each, whole batches.
    file_rows = -(-rows // parallel // batch) * batch
    os.environ.update(_settings(folder, parallel, file_rows))
    # They read the settings when they are imported.
    import dlt
    import pyarrow as pa

    sender = Sender(integration, url, parallel)

    def push(items: Any, table: Any) -> None:
        sender.send(items.to_pylist())

    def contacts(count: int) -> Iterator[Any]:
        for names, values in mapped(Path(folder) / "onward.db", count, file_rows):
            columns = zip(*values, strict=True)
            yield pa.table(dict(zip(names, columns, strict=True)))

    destination = dlt.destination(
        name="dummy",
        batch_size=batch,
        loader_file_format="parquet",
        max_parallel_load_jobs=parallel,
        loader_parallelism_strategy="parallel",
    )(push)
    pipeline = dlt.pipeline("bench", destination=destination)
    pipeline.run(contacts(1), table_name="contacts")
    sender.contacts = sender.requests = 0
    started = time.perf_counter()
    pipeline.run(contacts(rows), table_name="contacts")
    took = time.perf_counter() - started
    steps = {step.step: step for step in pipeline.last_trace.steps}
    load = steps["load"].finished_at - steps["load"].started_at
    return {
        "contacts": sender.contacts,
        "requests": sender.requests,
        "took": took,
        "load": load.total_seconds(),
    }


if __name__ == "__main__":
    print(json.dumps(run(**json.loads(sys.argv[1]))))
