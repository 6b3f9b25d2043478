// The npm package pg-boss: batches of 500, four workers that fetch without a pause while batches are full.
// `load ROWS` makes the schema and the jobs, `work ROWS` drains them.
import { PgBoss } from "pg-boss";
import { body, courier } from "./message.mjs";

const [verb, rows] = [process.argv[2], Number(process.argv[3])];
const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, max: 10 });
boss.on("error", (error) => console.error(error));
await boss.start();

if (verb === "load") {
  await boss.createQueue("send");
  for (let first = 1; first <= rows; first += 1000) {
    const count = Math.min(1000, rows - first + 1);
    await boss.insert("send", Array.from({ length: count }, (_, index) => ({ data: body(first + index) })));
  }
  await boss.stop({ graceful: false });
} else {
  const send = await courier(256);
  await boss.work(
    "send",
    { batchSize: 500, localConcurrency: 4, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true },
    (jobs) => Promise.all(jobs.map((job) => send(JSON.stringify(job.data)))).then(() => undefined),
  );
}
