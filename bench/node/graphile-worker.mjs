// The npm package graphile-worker with its documented settings for throughput: a local queue that fetches in batches, and
// completions gathered for a moment. `load ROWS` makes the schema and the jobs, `work ROWS` drains them.
import pg from "pg";
import { Logger, run, runMigrations } from "graphile-worker";
import { body, courier } from "./message.mjs";

const [verb, rows] = [process.argv[2], Number(process.argv[3])];
const connectionString = process.env.DATABASE_URL;

if (verb === "load") {
  await runMigrations({ connectionString });
  const client = new pg.Client({ connectionString });
  await client.connect();
  for (let first = 1; first <= rows; first += 1000) {
    const count = Math.min(1000, rows - first + 1);
    const bodies = Array.from({ length: count }, (_, index) => JSON.stringify(body(first + index)));
    await client.query(
      `select count(*) from graphile_worker.add_jobs(array(
         select row('send', b::json, null, null, null, null, null, null)::graphile_worker.job_spec from unnest($1::text[]) b))`,
      [bodies],
    );
  }
  await client.end();
} else {
  const send = await courier(128);
  await run({
    preset: {
      worker: {
        connectionString,
        concurrentJobs: 128,
        maxPoolSize: 20,
        localQueue: { size: 512 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        // It would write two lines a job.
        logger: new Logger(() => () => {}),
      },
    },
    taskList: { send: (payload) => send(JSON.stringify(payload)) },
    noHandleSignals: true,
  });
}
