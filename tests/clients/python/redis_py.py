"""redis-py, synchronous: what applications use beyond plain commands."""

import threading
import time

import redis
from checks import HOST, PORT, NotFor, check, expect, run


def connect(**options):
    return redis.Redis(host=HOST, port=PORT, decode_responses=True, socket_timeout=20, **options)


def in_threads(count, work):
    failures = []

    def guarded(number):
        try:
            work(number)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    if failures:
        raise failures[0]


@check
def pipelines():
    r = connect()
    with r.pipeline(transaction=False) as plain:
        for n in range(500):
            plain.set(f"plain:{n}", n)
        expect(plain.execute(), [True] * 500)
    with r.pipeline() as atomic:
        for n in range(100):
            atomic.incr(f"atomic:{n % 7}")
        atomic.execute()
    expect(sum(int(n) for n in r.mget([f"atomic:{n}" for n in range(7)])), 100)


@check
def transactions_that_watch():
    def work(_):
        r = connect()
        for _ in range(40):
            def raise_both(pipe):
                a, b = int(pipe.get("watched:a") or 0), int(pipe.get("watched:b") or 0)
                pipe.multi()
                pipe.set("watched:a", a + 1)
                pipe.set("watched:b", b + 1)
            r.transaction(raise_both, "watched:a", "watched:b")

    in_threads(4, work)
    expect(connect().mget("watched:a", "watched:b"), ["160", "160"])


@check
def locks():
    def work(_):
        r = connect()
        for _ in range(20):
            with r.lock("lock:one", timeout=10, sleep=0.002):
                held = int(r.get("lock:count") or 0)
                r.set("lock:count", held + 1)

    in_threads(3, work)
    expect(connect().get("lock:count"), "60")


@check
def lock_is_extended_and_reacquired():
    lock = connect().lock("lock:two", timeout=5)
    expect(lock.acquire(), True)
    expect(lock.extend(10), True)
    expect(lock.reacquire(), True)
    expect(connect().lock("lock:two").acquire(blocking=False), False)
    lock.release()
    expect(lock.locked(), False)


@check
def registered_scripts():
    r = connect()
    move = r.register_script(
        """
        local amount = tonumber(ARGV[1])
        redis.call('DECRBY', KEYS[1], amount)
        redis.call('INCRBY', KEYS[2], amount)
        return redis.call('MGET', KEYS[1], KEYS[2])
        """
    )
    expect(move(keys=["script:a", "script:b"], args=[7]), ["-7", "7"])
    r.script_flush()
    expect(move(keys=["script:a", "script:b"], args=[3]), ["-10", "10"])
    with r.pipeline() as pipe:
        move(keys=["script:c", "script:d"], args=[1], client=pipe)
        move(keys=["script:c", "script:d"], args=[1], client=pipe)
        expect(pipe.execute()[1], ["-2", "2"])


@check
def functions():
    r = connect()
    r.function_load(
        "#!lua name=shop\n"
        "redis.register_function('buy', function(keys, args)\n"
        "  return redis.call('INCRBY', keys[1], args[1])\n"
        "end)",
        replace=True,
    )
    expect(r.fcall("buy", 1, "bought", 5), 5)
    expect(r.function_list(library="shop")[0][1], "shop")


@check
def subscriptions():
    r = connect()
    subscriber = r.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe("news")
    subscriber.psubscribe("news.*")
    seen = []
    deadline = time.time() + 10
    while time.time() < deadline and r.pubsub_numpat() + dict(r.pubsub_numsub("news"))["news"] < 2:
        subscriber.get_message(timeout=0.05)
    for n in range(50):
        connect().publish("news" if n % 2 else "news.more", n)
    while len(seen) < 50 and time.time() < deadline:
        message = subscriber.get_message(timeout=0.2)
        if message:
            seen.append((message["type"], message["channel"], int(message["data"])))
    expect([n for _, channel, n in seen if channel == "news"], list(range(1, 50, 2)))
    expect([n for kind, _, n in seen if kind == "pmessage"], list(range(0, 50, 2)))
    subscriber.close()


@check
def subscription_thread():
    r, got = connect(), threading.Event()
    subscriber = r.pubsub()
    subscriber.subscribe(**{"thread": lambda message: got.set()})
    thread = subscriber.run_in_thread(sleep_time=0.01, daemon=True)
    deadline = time.time() + 10
    while not got.is_set() and time.time() < deadline:
        r.publish("thread", "x")
        time.sleep(0.01)
    thread.stop()
    thread.join()
    expect(got.is_set(), True)


@check
def blocking_pops():
    taken = []

    def work(number):
        r = connect()
        if number == 0:
            for n in range(100):
                r.rpush(f"jobs:{n % 3}", n)
        else:
            while (item := r.blpop(["jobs:0", "jobs:1", "jobs:2"], timeout=0.5)) is not None:
                taken.append(int(item[1]))

    in_threads(4, work)
    expect(sorted(taken), list(range(100)))


@check
def streams_with_groups():
    r = connect()
    r.xgroup_create("stream", "workers", id="0", mkstream=True)
    ids = [r.xadd("stream", {"n": n}) for n in range(30)]
    read = r.xreadgroup("workers", "one", {"stream": ">"}, count=10, block=100)
    expect([entry[0] for entry in read[0][1]], ids[:10])
    expect(r.xack("stream", "workers", *ids[:5]), 5)
    claimed = r.xautoclaim("stream", "workers", "two", 0)
    expect([entry[0] for entry in claimed[1]], ids[5:10])


@check
def scans():
    r = connect()
    r.mset({f"scan:{n}": n for n in range(300)})
    expect(len(set(r.scan_iter("scan:*", count=37))), 300)


@check
def resp3_with_a_cache():
    from redis.cache import CacheConfig

    other = connect()
    try:
        r = connect(protocol=3, cache_config=CacheConfig())
        r.ping()
    except redis.ConnectionError as error:
        if "7.4 or later" in str(error):
            raise NotFor("redis-py caches with Redis 7.4 and later only")
        raise
    other.set("cached", "1")
    expect(r.get("cached"), "1")
    expect(r.get("cached"), "1")
    other.set("cached", "2")
    deadline = time.time() + 5
    while (value := r.get("cached")) != "2" and time.time() < deadline:
        time.sleep(0.01)
    expect(value, "2")


@check
def client_and_server_commands():
    r = connect(client_name="clients-check")
    expect(r.client_getname(), "clients-check")
    expect(any(c["name"] == "clients-check" for c in r.client_list()), True)
    expect(r.info("server")["redis_mode"], "standalone")
    expect(r.memory_usage("no such key"), None)
    r.slowlog_get(3)


if __name__ == "__main__":
    print(f"version redis-py {redis.__version__}")
    run(lambda function: function())
