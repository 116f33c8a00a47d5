"""Ledger of the jobs of several processes: how often each has begun, and what has become of it.

It lives in a process of its own, which imports nothing else and survives those that compute.
"""

from __future__ import annotations

from collections import Counter


class Ledger:
    """What has become of each job; jobs are known by their numbers, reports are bytes."""

    def __init__(self) -> None:
        self._times_begun: Counter[int] = Counter()
        self._reports: dict[int, bytes] = {}
        self._at_work: set[int] = set()
        self._has_stopped = False

    def begin(self, job: int) -> tuple[int, bytes | None, bool]:
        """Return how often a job has begun before, its report if it has one, and whether to begin nothing more."""
        before = self._times_begun[job]
        self._at_work.discard(job)  # of a process that was killed
        if not self._has_stopped and job not in self._reports:
            self._times_begun[job] += 1
            self._at_work.add(job)
        return before, self._reports.get(job), self._has_stopped

    def end(self, job: int, report: bytes | None) -> None:
        """Take note that a job is no longer at work, and of its report unless it was given up."""
        self._at_work.discard(job)
        if report is not None:
            self._reports[job] = report

    def stop(self) -> None:
        """Let no further job begin, and those at work be given up."""
        self._has_stopped = True

    def has_stopped(self) -> bool:
        """Return whether jobs at work are to be given up."""
        return self._has_stopped

    def num_at_work(self) -> int:
        """Return the number of jobs that have begun and not ended."""
        return len(self._at_work)

    def reports(self) -> dict[int, bytes]:
        """Return the report of each job that has ended."""
        return dict(self._reports)
