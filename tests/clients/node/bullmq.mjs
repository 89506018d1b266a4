// BullMQ: a queue whose every step is a script over several keys; workers, retries, delayed and
// repeated jobs, priorities, parents and children.

import { createRequire } from "node:module";
import { FlowProducer, Queue, QueueEvents, Worker } from "bullmq";
import { expect, options, run, sleep } from "./checks.mjs";

const { version } = createRequire(import.meta.url)("bullmq/package.json");
console.log(`version bullmq ${version}`);
const connection = options;
const WAIT_MS = 50_000;

// Makes a queue with its worker and events for one check, and closes them behind it.
async function withQueue(name, processor, settings, body) {
  const queue = new Queue(name, { connection });
  const events = new QueueEvents(name, { connection });
  queue.on("error", () => {});
  events.on("error", () => {});
  await events.waitUntilReady();
  const worker = new Worker(name, processor, { connection, ...settings });
  worker.on("error", () => {});
  try {
    await worker.waitUntilReady();
    await body(queue, events, worker);
  } finally {
    await Promise.race([Promise.all([worker.close(true), queue.close(), events.close()]), sleep(3000)]);
  }
}

const finished = (jobs, events) =>
  Promise.all(jobs.map((job) => job.waitUntilFinished(events, WAIT_MS)));

await run({
  async two_hundred_jobs() {
    await withQueue("many", async (job) => job.data.n * 2, { concurrency: 8 }, async (queue, events) => {
      const jobs = await queue.addBulk(
        Array.from({ length: 200 }, (_, n) => ({ name: "double", data: { n } })),
      );
      expect(await finished(jobs, events), jobs.map((job) => job.data.n * 2));
      expect(await queue.getCompletedCount(), 200);
    });
  },

  async retries() {
    const processor = async (job) => {
      if (job.attemptsMade < 2) throw new Error("not yet");
      return job.attemptsMade;
    };
    await withQueue("retries", processor, {}, async (queue, events) => {
      const settings = { attempts: 3, backoff: { type: "fixed", delay: 50 } };
      const job = await queue.add("retry", {}, settings);
      expect(await job.waitUntilFinished(events, WAIT_MS), 2);
    });
  },

  async a_job_that_fails_is_kept() {
    const processor = async () => {
      throw new Error("always");
    };
    await withQueue("fails", processor, {}, async (queue, events) => {
      const job = await queue.add("fail", {});
      const error = await job.waitUntilFinished(events, WAIT_MS).catch((e) => e);
      expect(error.message, "always");
      expect(await queue.getFailedCount(), 1);
    });
  },

  async delayed_jobs() {
    await withQueue("delayed", async () => Date.now(), {}, async (queue, events) => {
      const begun = Date.now();
      const late = await queue.add("late", {}, { delay: 600 });
      const soon = await queue.add("soon", {}, { delay: 200 });
      const [lateAt, soonAt] = await finished([late, soon], events);
      expect(lateAt - begun >= 595 && soonAt - begun >= 195 && soonAt < lateAt, true);
    });
  },

  async priorities() {
    const order = [];
    const queue = new Queue("priorities", { connection });
    const settings = [3, 1, 2].map((priority) => ({ name: "p", data: priority, opts: { priority } }));
    await queue.addBulk(settings);
    await withQueue("priorities", async (job) => order.push(job.data), {}, async () => {
      for (let n = 0; order.length < 3 && n < 200; n += 1) await sleep(20);
      expect(order, [1, 2, 3]);
    });
    await queue.close();
  },

  async parents_wait_for_children() {
    const processor = async (job) =>
      job.name === "parent" ? Object.values(await job.getChildrenValues()).sort() : job.data;
    await withQueue("flow", processor, {}, async (queue, events) => {
      const producer = new FlowProducer({ connection });
      const flow = await producer.add({
        name: "parent",
        queueName: "flow",
        children: [1, 2, 3].map((n) => ({ name: "child", data: n, queueName: "flow" })),
      });
      expect(await flow.job.waitUntilFinished(events, WAIT_MS), [1, 2, 3]);
      await producer.close();
    });
  },

  async repeated_jobs() {
    let count = 0;
    await withQueue("repeated", async () => (count += 1), {}, async (queue) => {
      await queue.upsertJobScheduler("ticker", { every: 100 });
      for (let n = 0; count < 3 && n < 300; n += 1) await sleep(20);
      await queue.removeJobScheduler("ticker");
      expect(count >= 3, true);
    });
  },

  async a_queue_is_paused_and_emptied() {
    await withQueue("paused", async () => "done", {}, async (queue, events) => {
      await queue.pause();
      const jobs = await queue.addBulk([{ name: "a", data: 1 }, { name: "b", data: 2 }]);
      expect(await queue.isPaused(), true);
      expect(await queue.getCompletedCount(), 0);
      await queue.resume();
      expect(await finished(jobs, events), ["done", "done"]);
      await queue.obliterate({ force: true });
      expect(await queue.getCompletedCount(), 0);
    });
  },
});
