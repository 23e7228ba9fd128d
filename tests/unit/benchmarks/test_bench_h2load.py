from __future__ import annotations

import pytest

from benchmarks.h2load import check_summary, read_log
from benchmarks.works import BenchmarkError

SUMMARY = """
finished in 738.07ms, 27097.70 req/s, 10.05MB/s
requests: 200 total, 200 started, 200 done, {succeeded} succeeded, {failed} failed, 0 errored, 0 timeout
status codes: {ok} 2xx, 0 3xx, {refused} 4xx, 0 5xx
traffic: 7.42MB (7780000) total, 2.10MB (2200000) headers (space savings 0.00%), 4.58MB (4800000) data
"""


def summary(*, succeeded: int = 200, ok: int = 200) -> str:
    return SUMMARY.format(succeeded=succeeded, failed=200 - succeeded, ok=ok, refused=200 - ok)


def test_a_summary_of_only_2xx_passes() -> None:
    check_summary(summary(), 200)


@pytest.mark.parametrize(
    "output", [summary(ok=199), summary(succeeded=199), summary(succeeded=150, ok=150), "h2load was changed"]
)
def test_a_single_answer_other_than_2xx_spoils_the_run(output: str) -> None:
    with pytest.raises(BenchmarkError):
        check_summary(output, 200)


def test_fewer_requests_than_asked_for_spoil_the_run() -> None:
    with pytest.raises(BenchmarkError):
        check_summary(summary(), 201)


def test_the_log_gives_rate_and_latency() -> None:
    log = "".join(f"{1_000_000_000 + 10_000 * number}\t200\t{1000 + number}\n" for number in range(100))

    found = read_log(log)

    assert found.requests == 100
    assert found.p50_milliseconds == pytest.approx(1.049)
    assert found.p99_milliseconds == pytest.approx(1.098)
    # The first starts at 0, the last ends 0.99 s + 1.099 ms later.
    assert found.rate_per_second == pytest.approx(100 / 0.991099)


def test_an_empty_log_is_no_outcome() -> None:
    with pytest.raises(BenchmarkError):
        read_log("")
