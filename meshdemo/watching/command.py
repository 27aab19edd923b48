"""`meshdemo watch`: calls a URL at a steady pace, and shows who answered, with what status and how fast."""

from __future__ import annotations

import io
import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import urllib3

from meshdemo.calling.connection import ConnectTo
from meshdemo.calling.upstream import Answer, Upstream
from meshdemo.console import streams, terminal
from meshdemo.escaping import printable
from meshdemo.explaining.command import find_lab
from meshdemo.page.page import CHANGED_HEADER
from meshdemo.watching import table, why
from meshdemo.watching.display import Display, display_for
from meshdemo.watching.expectations import Expectation, judge
from meshdemo.watching.first_call import find_problem, find_problem_of_wait
from meshdemo.watching.pace import REQUEST_ID, Sample, Watch
from meshdemo.watching.report import Report, make_report, to_json
from meshdemo.watching.tally import Tally

#: How many calls are made where neither a number nor a duration is given.
DEFAULT_REQUESTS = 100
_TICK_SECONDS = 0.1
# A first call that takes longer than this, in seconds, is looked into.
_LONG_SECONDS = 1.0


@dataclass(frozen=True)
class WatchOptions:
    """What to call and how.

    `requests` of None is DEFAULT_REQUESTS, or with `duration_seconds` as many as begin in that time; 0 has no end.
    Where both are given, the one that is reached first ends the watch. `rate` is in requests a second, 0 as fast as
    `concurrency` allows. With `explains` the lab that is called explains one call of each kind at the end.
    Calls are made as by the program of a pod of `origin`, a pod or workload, in the lab of `lab_port`, None for the one
    that there is.
    """

    url: str
    requests: int | None = None
    duration_seconds: float | None = None
    rate: float = 20.0
    concurrency: int = 64
    headers: tuple[tuple[str, str], ...] = ()
    timeout_seconds: float = 30.0
    keep_alive: bool = False
    explains: bool = False
    origin: str | None = None
    lab_port: int | None = None

    @property
    def planned(self) -> int:
        """How many requests are to be made, 0 where that is open."""
        if self.requests is None:
            return DEFAULT_REQUESTS if self.duration_seconds is None else 0
        return self.requests

    @property
    def is_endless(self) -> bool:
        """Whether it goes on until somebody ends it."""
        return not self.planned and self.duration_seconds is None


def run(options: WatchOptions, expectations: Sequence[Expectation] = (), display: Display | None = None) -> Report:
    """Make the calls, showing on `display` how far they have come, and return the report.

    The first call is made before the others. When it is not answered, the watch is given up, unless an expectation
    allows unanswered calls. Ctrl+C and SIGTERM end the watch early. Raise StartError where no lab can explain, or call.
    """
    lab: Path | None = None
    connect_to: tuple[ConnectTo, ...] = ()
    checks_certificates = True
    if options.origin:
        lab = find_lab(options.lab_port)
        connect_to, checks_certificates = why.find_ways(lab, options.origin, options.url)
    elif not any(name.lower() == REQUEST_ID for name, _ in options.headers):
        lab = why.require_lab(options.url) if options.explains else why.find_lab(options.url)
    upstream = Upstream(
        options.url,
        timeout_seconds=options.timeout_seconds,
        keep_alive=options.keep_alive,
        connect_to=connect_to,
        checks_certificates=checks_certificates,
    )
    headers = dict(urllib3.HTTPHeaderDict(options.headers))  # one that is repeated is a list (RFC 9110, 5.3)
    watch = Watch(
        upstream,
        headers=headers,
        requests=options.planned,
        rate=options.rate,
        concurrency=options.concurrency,
        duration_seconds=options.duration_seconds,
        has_ids=lab is not None,
    )
    count, problem = _Count(starts_anew=options.is_endless), None
    asked_path = urlsplit(upstream.url_for("/")).path
    header_names = {name.lower() for name in headers}
    goes_on = any(expectation.allows_unanswered for expectation in expectations)

    def report(*, is_interrupted: bool = False, explained: Sequence[why.Explained] = ()) -> Report:
        return make_report(
            count.tally,
            judge(expectations, count.tally),
            url=options.url,
            path=asked_path,
            planned=options.planned or None,
            seconds=watch.seconds - count.since_seconds,
            change=count.change,
            stopped_seconds=watch.stopped_seconds,
            under_way=watch.under_way,
            header_names=header_names,
            is_interrupted=is_interrupted,
            problem=problem,
            explained=explained,
        )

    looked_into = goes_on
    display = display or Display()
    with _signals(watch) as signals, display:
        for sample in watch.poll(_TICK_SECONDS):
            if sample:
                count.add(sample, watch.seconds)
                if count.tally.requests == 1 and not goes_on:
                    problem = find_problem(options.url, sample.outcome)
            elif not looked_into and not count.tally.requests and watch.seconds > _LONG_SECONDS:
                looked_into = True
                problem = find_problem_of_wait(options.url)
            if problem or signals.is_told_to_end:
                break
            if signals.is_told_to_stop:
                display.leave()
                signals.stop_process()
            display.show(report)
        for sample in watch.stop():
            count.add(sample, watch.seconds)
        if lab:
            why.settle(count.tally, lab)
        explained = why.explain(count.tally, lab) if lab and options.explains else ()
        return report(is_interrupted=signals.is_told_to_end, explained=explained)


class _Count:
    """What is counted. With `starts_anew` a change of the mesh begins a new count, where the proxy tells of changes.

    `since_seconds` is when it has begun, `change` the change with which it has, None for the first count.
    """

    def __init__(self, *, starts_anew: bool) -> None:
        self.tally = Tally()
        self.since_seconds = 0.0
        self.change: str | None = None
        self._starts_anew = starts_anew
        self._state: str | None = None  # as of which change the counted answers are; begins with a time in ISO 8601

    def add(self, sample: Sample, seconds: float) -> None:
        """Count a sample that came after so many seconds, unless it belongs to what was before the last change."""
        headers = sample.outcome.headers if isinstance(sample.outcome, Answer) else {}
        state = headers.get(CHANGED_HEADER) if self._starts_anew else None
        if state is not None and self._state is not None:
            if state < self._state:
                return
            if state > self._state:
                self.tally, self.since_seconds, self.change = Tally(), seconds, unquote(state)
        self._state = state or self._state
        self.tally.add(sample)


class _Signals:
    """What the process was told by signals, to be looked at between two samples instead of in the middle of a count."""

    is_told_to_end = False
    is_told_to_stop = False

    def __init__(self, watch: Watch) -> None:
        self.handlers = {
            signal.SIGINT: self._end,
            signal.SIGTERM: self._end,
            signal.SIGCONT: lambda *_: watch.leave_out_stop(),
        }
        if signal.getsignal(signal.SIGTSTP) != signal.SIG_IGN:
            self.handlers[signal.SIGTSTP] = self._stop

    def _end(self, *_: object) -> None:
        self.is_told_to_end = True

    def _stop(self, *_: object) -> None:
        self.is_told_to_stop = True

    def stop_process(self) -> None:
        """Stop until SIGCONT comes, as Ctrl+Z is meant to."""
        self.is_told_to_stop = False
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._stop)


@contextmanager
def _signals(watch: Watch) -> Iterator[_Signals]:
    """Heed signals, where this is the main thread."""
    signals = _Signals(watch)
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    former = {number: signal.signal(number, handler) for number, handler in signals.handlers.items()}
    try:
        yield signals
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def exit_status(report: Report) -> int:
    """Return 1 where the watch was given up or an expectation is not met; without any, where a call is unanswered."""
    if report.problem:
        return 1
    if report.verdicts:
        return 0 if all(verdict.met for verdict in report.verdicts) else 1
    return 1 if report.unanswered else 0


def print_report(report: Report, *, as_json: bool = False) -> None:
    """Print tables, fitted to the terminal where there is one, or one JSON object; a problem on standard error."""
    if as_json:
        # DEL is the one control character that JSON leaves as it is (RFC 8259, 7).
        click.echo(json.dumps(to_json(report), indent=2, allow_nan=False).replace("\x7f", "\\u007f"))
    elif not report.problem:
        columns, rows = terminal.size_of(sys.stdout)
        height = rows if terminal.is_terminal(sys.stdout) else None
        marks = terminal.marks_for(sys.stdout)
        lines = table.format_table(report, (columns, height), marks)
        click.echo("\n".join([*lines, *why.format_explained(report.explained, columns - 1, marks)]))
    if report.problem:
        click.echo(f"Error: {printable(report.problem)}", err=True)


def command(
    options: WatchOptions, expectations: Sequence[Expectation], *, as_json: bool, heading: Sequence[str] = ()
) -> int:
    """Run a watch, show it, print its report, and return the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for a terminal that does not know every character
    if not terminal.is_terminal(sys.stderr):  # there, progress has to be gone before the report is printed
        streams.unblock("stderr")
    report = run(options, expectations, display_for(as_json=as_json, heading=heading))
    try:
        print_report(report, as_json=as_json)
    except BrokenPipeError:
        raise  # a reader that has seen enough
    except OSError as error:
        sys.stdout = io.StringIO()  # what is left in the buffer would fail again at the end of the process
        raise click.ClickException(f"The result cannot be written: {(error.strerror or '').lower()}.") from None
    return exit_status(report)
