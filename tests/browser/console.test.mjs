// The console in a real browser: `make browser`, or `npm test` here. PICTURES=../../docs/console also keeps the pictures.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { axe, incidents, logIn, setUp } from './stage.mjs';

const pages = ['/', '/find', '/find?status=dead', '/failures', '/dead', '/doubts', '/credits', '/reminders', '/forecast', '/apps', '/workers', '/batches', '/actions', '/about'];
const looks = [
  { name: '1440-light', viewport: { width: 1440, height: 900 }, colorScheme: 'light' },
  { name: '390-dark', viewport: { width: 390, height: 844 }, colorScheme: 'dark' },
];
const kept = { '/': 'overview', '/find?status=dead': 'find', '/dead': 'dead', '/doubts': 'doubts', '/forecast': 'forecast' };
const pictures = process.env.PICTURES;
let stage;

before(async () => {
  stage = await setUp();
});
after(() => stage?.end());

async function keep(page, name) {
  if (!pictures) return;
  mkdirSync(pictures, { recursive: true });
  await page.screenshot({ path: `${pictures}/${name}.png` });
}

async function open(page, path) {
  const answer = await page.goto(`${stage.base}${path}`);
  assert.equal(answer.status(), 200, path);
}

// First, since a worker of the incidents counts as alive for a minute.
test('each of the forty incidents is found by the box and rightly explained', async () => {
  const page = await logIn(stage);
  assert.equal(incidents.length, 40);
  for (const incident of incidents) {
    await open(page, '/');
    await page.fill('#q', incident.ref);
    await Promise.all([page.waitForURL(/\/(find|n\/)/), page.press('#q', 'Enter')]);
    if (!/\/n\/\d+/.test(page.url())) await Promise.all([page.waitForURL(/\/n\/\d+/), page.locator('main a[href^="/n/"]').first().click()]);
    const text = (await page.locator('main').textContent()).replace(/\s+/g, ' ');
    assert.ok(text.includes(incident.answer.trim()), `${incident.ref}: ${incident.answer} is not in ${text.slice(0, 600)}`);
  }
  await page.context().close();
});

for (const look of looks) {
  for (const lang of ['en', 'zh']) {
    test(`every page is accessible and fits ${look.name} in ${lang}`, async () => {
      // The policy forbids the checker's script as it forbids everybody's.
      const page = await logIn(stage, { ...look, bypassCSP: true });
      await open(page, `/?lang=${lang}`);
      for (const path of pages) {
        await open(page, path);
        await page.addScriptTag({ content: axe });
        const faults = await page.evaluate(() => globalThis.axe.run());
        assert.deepEqual(faults.violations.map((fault) => `${fault.id}: ${fault.nodes[0].html}`), [], path);
        const width = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(width <= look.viewport.width, `${path} is ${width} wide`);
        // What a section clips does not make the page wider.
        const clipped = await page.evaluate(() =>
          [...document.querySelectorAll('main section .btn, main section button')]
            .filter((verb) => {
              const [inner, outer] = [verb, verb.closest('section')].map((part) => part.getBoundingClientRect());
              return inner.width > 0 && (inner.left < outer.left || (inner.right > outer.right && getComputedStyle(verb.closest('section')).overflowX === 'hidden'));
            })
            .map((verb) => verb.outerHTML),
        );
        assert.deepEqual(clipped, [], `${path}: cut off`);
        if (kept[path]) await keep(page, `${kept[path]}${lang === 'zh' ? '.zh' : ''}-${look.name}`);
      }
      await page.context().close();
    });
  }
}

test('no page complains, breaks its own policy or asks for anything from elsewhere', async () => {
  const page = await logIn(stage);
  const complaints = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => request.url().startsWith(stage.base) || complaints.push(request.url()));
  for (const path of pages) await open(page, path);
  assert.deepEqual(complaints, []);
  await page.context().close();
});

test('the first page is at most 100 KB on the wire', async () => {
  const page = await logIn(stage);
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  await session.send('Network.setCacheDisabled', { cacheDisabled: true });
  let bytes = 0;
  session.on('Network.loadingFinished', (event) => {
    bytes += event.encodedDataLength;
  });
  await open(page, '/');
  assert.ok(bytes > 0 && bytes <= 100 * 1024, `${bytes} bytes`);
  await page.context().close();
});

test('without JavaScript one logs in, finds a row, previews a redrive, confirms it and sees its batch', async () => {
  const page = await logIn(stage, { javaScriptEnabled: false, viewport: looks[0].viewport });
  await open(page, '/dead');
  const redrive = page.locator('form[action="/preview"] button').first();
  await Promise.all([page.waitForURL(/\/batches\/\d+/), redrive.click()]);
  await keep(page, 'dead-preview-1440-light');
  await page.fill('#note', 'the field is mended');
  const start = page.locator('form[action$="/start"] button.main');
  await Promise.all([page.waitForResponse((answer) => answer.request().method() === 'POST'), start.click()]);
  await page.waitForLoadState();
  const text = await page.locator('main').textContent();
  assert.match(text, /the field is mended/);
  await keep(page, 'batch-1440-light');
  await page.context().close();
});

test('the keyboard alone reaches every link and verb of a page', async () => {
  const page = await logIn(stage, { viewport: looks[0].viewport });
  for (const path of ['/', '/dead', '/workers', '/find?status=dead']) {
    await open(page, `${path}${path.includes('?') ? '&' : '?'}live=0`);
    const wanted = await page.locator('main a.btn:visible, main button:visible').count();
    const reached = await page.evaluate(() => document.querySelectorAll('main a.btn, main button').forEach((verb, n) => verb.setAttribute('data-verb', n)));
    assert.equal(reached, undefined);
    const seen = new Set();
    for (let step = 0; step < 400; step += 1) {
      await page.keyboard.press('Tab');
      const at = await page.evaluate(() => document.activeElement?.getAttribute('data-verb') ?? (document.activeElement === document.body ? 'end' : null));
      if (at === 'end') break;
      if (at !== null) seen.add(at);
    }
    assert.equal(seen.size, wanted, path);
  }
  await page.context().close();
});

test('a row and the log-in page, for the eye', async () => {
  for (const look of looks) {
    const page = await logIn(stage, look);
    await open(page, '/find?q=incident-07');
    const link = page.locator('main a[href^="/n/"]').first();
    if (!/\/n\/\d+/.test(page.url())) await Promise.all([page.waitForURL(/\/n\/\d+/), link.click()]);
    await keep(page, `row-${look.name}`);
    await page.context().clearCookies();
    await page.goto(`${stage.base}/login`);
    await keep(page, `login-${look.name}`);
    await page.context().close();
  }
});
