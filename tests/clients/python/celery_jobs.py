"""Celery: a worker process, a few hundred jobs, chords, retries, delayed jobs."""

import subprocess
import sys
import time

import celery
from celery import chord, group
from celery_app import add, app, fails_twice, total
from checks import check, expect, run

WAIT_S = 60


@check
def three_hundred_jobs():
    results = [add.delay(n, n) for n in range(300)]
    expect([r.get(timeout=WAIT_S) for r in results], [2 * n for n in range(300)])


@check
def groups():
    expect(group(add.s(n, 1) for n in range(40))().get(timeout=WAIT_S), list(range(1, 41)))


@check
def chords():
    expect(chord(add.s(n, 0) for n in range(30))(total.s()).get(timeout=WAIT_S), 435)


@check
def retries():
    expect(fails_twice.delay().get(timeout=WAIT_S), 2)


@check
def delayed_jobs():
    begun = time.time()
    expect(add.apply_async((1, 2), countdown=0.7).get(timeout=WAIT_S), 3)
    expect(time.time() - begun >= 0.7, True)


@check
def remote_control():
    expect(len(app.control.ping(timeout=5)), 1)
    expect(len(app.control.inspect(timeout=5).registered()), 1)


if __name__ == "__main__":
    print(f"version celery {celery.__version__}")
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_app", "worker"]
        + ["--pool", "threads", "--concurrency", "4", "--loglevel", "ERROR"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        run(lambda function: function())
    finally:
        worker.terminate()
        worker.wait(30)
