"""redis-py on asyncio."""

import asyncio

import redis
import redis.asyncio
from checks import HOST, PORT, check, expect, run


def connect(**options):
    return redis.asyncio.Redis(
        host=HOST, port=PORT, decode_responses=True, socket_timeout=20, **options
    )


@check
async def many_commands_at_once():
    pool = redis.asyncio.BlockingConnectionPool(
        host=HOST, port=PORT, decode_responses=True, max_connections=30, timeout=20
    )
    async with redis.asyncio.Redis.from_pool(pool) as r:
        await asyncio.gather(*(r.incr(f"async:{n % 5}") for n in range(500)))
        expect(sum(map(int, await r.mget([f"async:{n}" for n in range(5)]))), 500)


@check
async def subscriptions():
    async with connect() as r, r.pubsub() as subscriber:
        await subscriber.subscribe("async:news")
        await subscriber.psubscribe("async:more.*")
        for _ in range(2):
            await subscriber.get_message(timeout=5)
        got = []

        async def listen():
            async for message in subscriber.listen():
                if message["type"] in ("message", "pmessage"):
                    got.append(message["data"])
                if len(got) == 60:
                    return

        listener = asyncio.create_task(listen())
        for n in range(60):
            await r.publish("async:news" if n % 2 else "async:more.x", str(n))
        await asyncio.wait_for(listener, 10)
        expect(sorted(map(int, got)), list(range(60)))


@check
async def transactions_that_watch():
    async with connect() as r:

        async def raise_once():
            async with r.pipeline() as pipe:
                while True:
                    try:
                        await pipe.watch("async:watched")
                        n = int(await pipe.get("async:watched") or 0)
                        pipe.multi()
                        pipe.set("async:watched", n + 1)
                        await pipe.execute()
                        return
                    except redis.WatchError:
                        continue

        await asyncio.gather(*(raise_once() for _ in range(30)))
        expect(await r.get("async:watched"), "30")


@check
async def locks():
    async with connect() as r:

        async def hold():
            async with r.lock("async:lock", timeout=10, sleep=0.002):
                n = int(await r.get("async:held") or 0)
                await r.set("async:held", n + 1)

        await asyncio.gather(*(hold() for _ in range(20)))
        expect(await r.get("async:held"), "20")


@check
async def registered_scripts():
    async with connect() as r:
        script = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        expect(await script(keys=["async:script"], args=[4]), 4)
        expect(await script(keys=["async:script"], args=[4]), 8)


@check
async def blocking_pops():
    async with connect() as r:
        waiting = asyncio.create_task(r.blpop(["async:queue"], timeout=10))
        await asyncio.sleep(0.05)
        await r.rpush("async:queue", "element")
        expect(tuple(await waiting), ("async:queue", "element"))


if __name__ == "__main__":
    print(f"version redis-py {redis.__version__}")
    run(lambda function: asyncio.run(asyncio.wait_for(function(), 60)))
