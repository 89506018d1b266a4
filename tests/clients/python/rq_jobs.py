"""RQ: two worker processes, a few hundred jobs, retries, scheduled jobs, dependencies."""

import subprocess
import sys
import time
from datetime import timedelta

import redis
import rq
import rq_tasks
from checks import HOST, PORT, URL, check, expect, run
from rq import Queue, Retry

connection = redis.Redis(host=HOST, port=PORT)
queue = Queue("checks", connection=connection)
WAIT_S = 90


def wait(jobs):
    deadline = time.time() + WAIT_S
    while time.time() < deadline:
        states = [job.get_status(refresh=True) for job in jobs]
        if all(state in ("finished", "failed") for state in states):
            break
        time.sleep(0.05)
    return [job.return_value(refresh=True) for job in jobs]


@check
def two_hundred_jobs():
    jobs = [queue.enqueue(rq_tasks.square, n) for n in range(200)]
    expect(wait(jobs), [n * n for n in range(200)])


@check
def jobs_enqueued_together():
    data = [Queue.prepare_data(rq_tasks.square, (n,)) for n in range(20)]
    expect(wait(queue.enqueue_many(data)), [n * n for n in range(20)])


@check
def retries():
    expect(wait([queue.enqueue(rq_tasks.fails_twice, retry=Retry(max=3))]), [3])


@check
def dependencies():
    first = queue.enqueue(rq_tasks.square, 3)
    second = queue.enqueue(rq_tasks.square, 4, depends_on=first)
    expect(wait([first, second]), [9, 16])


@check
def scheduled_jobs():
    job = queue.enqueue_in(timedelta(seconds=1), rq_tasks.square, 5)
    expect(wait([job]), [25])


@check
def registries_are_consistent():
    expect(queue.count, 0)
    expect(queue.failed_job_registry.count, 0)
    expect(queue.started_job_registry.count, 0)
    expect(queue.finished_job_registry.count >= 224, True)


if __name__ == "__main__":
    print(f"version rq {rq.VERSION}")
    command = [sys.executable, "-m", "rq.cli", "worker", "--url", URL, "--with-scheduler"]
    command += ["--worker-class", "rq.SimpleWorker", "--logging_level", "ERROR", "checks"]
    # What fails on purpose is logged at length.
    workers = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
    try:
        run(lambda function: function())
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(30)
