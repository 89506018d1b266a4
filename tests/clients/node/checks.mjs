// Runs named checks one after the other; one that fails or hangs does not stop the others.
// Prints `ok <name>` or `FAIL <name>: <why>` for each, which `cargo xtask clients` counts.

import assert from "node:assert";

export const options = {
  host: "127.0.0.1",
  port: Number(process.env.MOON_CLIENTS_PORT),
  maxRetriesPerRequest: null,
};

const CHECK_MS = 60_000;

// What fails beside a check that has failed already must not end those that follow.
process.on("unhandledRejection", () => {});

export const expect = (actual, expected) => assert.deepStrictEqual(actual, expected);

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export async function run(checks) {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    const late = sleep(CHECK_MS).then(() => {
      throw new Error(`not done after ${CHECK_MS} ms`);
    });
    late.catch(() => {});
    try {
      await Promise.race([check(), late]);
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      const text = String(error?.message ?? error).replace(/\s+/g, " ");
      console.log(`FAIL ${name}: ${text.slice(0, 180)}`);
    }
  }
  process.exit(failed ? 1 : 0);
}
