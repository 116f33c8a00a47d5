"""Numbers for Prometheus, in its text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from finescale.serve.jobs import Job


class Metrics:
    """What is counted from the start of the server."""

    def __init__(self) -> None:
        self._jobs: Counter[str] = Counter()
        self._responses: Counter[int] = Counter()
        self._seconds = 0.0
        self._pixels = 0
        self.refused = 0
        """Requests that found the queue full."""
        self.worker_restarts = 0
        """Workers that ended by themselves."""

    def count(self, job: Job) -> None:
        """Count a job that has ended."""
        self._jobs[job.status] += 1
        if job.status == "done" and job.seconds is not None and job.input_size is not None:
            self._seconds += job.seconds
            self._pixels += job.input_size[0] * job.input_size[1]

    def count_response(self, status: int) -> None:
        """Count an answer by its HTTP status."""
        self._responses[status] += 1

    def text(self, gauges: Mapping[str, float]) -> str:
        """Return all numbers, with some that are measured now."""
        lines = ["# TYPE finescale_jobs_total counter"]
        lines += [f'finescale_jobs_total{{status="{s}"}} {self._jobs[s]}' for s in ("done", "failed", "cancelled")]
        lines.append("# TYPE finescale_http_responses_total counter")
        lines += [f'finescale_http_responses_total{{status="{s}"}} {n}' for s, n in sorted(self._responses.items())]
        counters = {
            "job_seconds_total": self._seconds,
            "input_pixels_total": self._pixels,
            "refused_total": self.refused,
            "worker_restarts_total": self.worker_restarts,
        }
        for kind, numbers in (("counter", counters), ("gauge", gauges)):
            for name, value in numbers.items():
                lines += [f"# TYPE finescale_{name} {kind}", f"finescale_{name} {value:g}"]
        return "\n".join(lines) + "\n"
