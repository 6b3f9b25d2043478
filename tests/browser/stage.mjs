// The forty incidents in a throwaway database, a console over them, and a browser.

import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const root = fileURLToPath(new URL('../..', import.meta.url));
const program = process.env.WXNOTIFY ?? `${root}target/debug/wxnotify`;
const browserPath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const password = 'correct horse battery';

export const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** The incidents: what their rows are called, and the right answer, from the file that makes them. */
export const incidents = readFileSync(`${root}sql/demo/incidents.sql`, 'utf8')
  .split('\n')
  .map((line) => line.match(/^-- (\d\d) \| (\w+) \| (.+)$/))
  .filter(Boolean)
  .map(([, number, status, answer]) => ({ ref: `incident-${number}`, status, answer }));

/** Resolves with what `pattern` found in the program's output. */
function said(child, pattern) {
  return new Promise((resolve, reject) => {
    let text = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (piece) => {
        text += piece;
        const found = text.match(pattern);
        if (found) resolve(found);
      });
    }
    child.on('exit', (code) => reject(new Error(`it ended with ${code}: ${text}`)));
  });
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

export async function setUp() {
  const database = spawn(program, ['demo', '--incidents', '--color', 'never']);
  const [, url] = await said(database, /DATABASE_URL='([^']+)'/);
  const environment = { ...process.env, DATABASE_URL: url };
  const added = spawnSync(program, ['console', 'user', 'add', 'alice', '--role', 'operator'], { env: environment, input: `${password}\n` });
  if (added.status !== 0) throw new Error(`no user: ${added.stderr}`);
  const port = await freePort();
  const served = spawn(program, ['console', '--listen', `127.0.0.1:${port}`, '--badge', 'staging'], { env: environment });
  const base = `http://127.0.0.1:${port}`;
  for (;;) {
    if (served.exitCode !== null) throw new Error('the console ended');
    const alive = await fetch(`${base}/healthz`).catch(() => null);
    if (alive?.ok) break;
  }
  const browser = await chromium.launch({ executablePath: browserPath, args: ['--no-sandbox'] });
  return {
    base,
    browser,
    async end() {
      await browser.close();
      for (const child of [served, database]) {
        const ended = new Promise((resolve) => child.on('exit', resolve));
        child.kill('SIGINT');
        await ended;
      }
    },
  };
}

/** A page of somebody who has logged in through the form. */
export async function logIn(stage, options = {}) {
  const context = await stage.browser.newContext(options);
  const page = await context.newPage();
  await page.goto(`${stage.base}/login`);
  await page.fill('[name=name]', 'alice');
  await page.fill('[name=password]', password);
  await Promise.all([page.waitForURL((url) => url.pathname === '/'), page.press('[name=password]', 'Enter')]);
  return page;
}
