// ioredis: pipelines, transactions, subscriptions, scripts as commands.

import { createRequire } from "node:module";
import { once } from "node:events";
import Redis from "ioredis";
import { expect, options, run, sleep } from "./checks.mjs";

const { version } = createRequire(import.meta.url)("ioredis/package.json");
console.log(`version ioredis ${version}`);
const redis = new Redis(options);

await run({
  async pipelines() {
    const pipeline = redis.pipeline();
    for (let n = 0; n < 500; n += 1) pipeline.set(`pipe:${n}`, n).get(`pipe:${n}`);
    const replies = await pipeline.exec();
    expect(replies.length, 1000);
    expect(replies[999], [null, "499"]);
  },

  async automatic_pipelines() {
    const auto = new Redis({ ...options, enableAutoPipelining: true });
    await Promise.all(Array.from({ length: 300 }, (_, n) => auto.incr(`auto:${n % 7}`)));
    const counts = await auto.mget(Array.from({ length: 7 }, (_, n) => `auto:${n}`));
    expect(counts.reduce((sum, n) => sum + Number(n), 0), 300);
    auto.disconnect();
  },

  async transactions() {
    const replies = await redis.multi().set("multi:a", 1).incr("multi:b").rpush("multi:c", "x").exec();
    expect(replies, [[null, "OK"], [null, 1], [null, 1]]);
    await redis.watch("multi:a");
    const other = redis.duplicate();
    await other.set("multi:a", 2);
    expect(await redis.multi().set("multi:a", 3).exec(), null);
    other.disconnect();
  },

  async subscriptions() {
    const subscriber = redis.duplicate();
    const got = [];
    subscriber.on("message", (channel, message) => got.push(Number(message)));
    subscriber.on("pmessage", (pattern, channel, message) => got.push(Number(message)));
    expect(await subscriber.subscribe("io:news", "io:other"), 2);
    expect(await subscriber.psubscribe("io:more.*"), 3);
    for (let n = 0; n < 60; n += 1) await redis.publish(n % 2 ? "io:news" : "io:more.x", n);
    for (let n = 0; got.length < 60 && n < 200; n += 1) await sleep(20);
    expect(got, Array.from({ length: 60 }, (_, n) => n));
    expect(await subscriber.unsubscribe("io:news", "io:other"), 1);
    subscriber.disconnect();
  },

  async scripts_as_commands() {
    redis.defineCommand("move", {
      numberOfKeys: 2,
      lua: "redis.call('DECRBY', KEYS[1], ARGV[1]) return {redis.call('INCRBY', KEYS[2], ARGV[1]), KEYS[1]}",
    });
    expect(await redis.move("io:from", "io:to", 5), [5, "io:from"]);
    const replies = await redis.pipeline().move("io:from", "io:to", 1).get("io:from").exec();
    expect(replies, [[null, [6, "io:from"]], [null, "-6"]]);
  },

  async blocking_pops() {
    const blocked = redis.duplicate();
    const waiting = blocked.blpop("io:queue:a", "io:queue:b", 10);
    await sleep(50);
    await redis.rpush("io:queue:b", "element");
    expect(await waiting, ["io:queue:b", "element"]);
    blocked.disconnect();
  },

  async scans() {
    const keys = Array.from({ length: 200 }, (_, n) => `io:scan:${n}`);
    await redis.mset(keys.flatMap((key) => [key, "x"]));
    const found = new Set();
    const stream = redis.scanStream({ match: "io:scan:*", count: 31 });
    stream.on("data", (some) => some.forEach((key) => found.add(key)));
    await once(stream, "end");
    expect(found.size, 200);
  },

  async streams() {
    await redis.xgroup("CREATE", "io:stream", "g", "$", "MKSTREAM");
    const reader = redis.duplicate();
    const waiting = reader.xreadgroup("GROUP", "g", "c", "BLOCK", 10000, "STREAMS", "io:stream", ">");
    await sleep(50);
    const id = await redis.xadd("io:stream", "*", "field", "value");
    expect(await waiting, [["io:stream", [[id, ["field", "value"]]]]]);
    expect(await redis.xack("io:stream", "g", id), 1);
    reader.disconnect();
  },
});
