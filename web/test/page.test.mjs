// The page against a made-up server, in a real browser.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { LARGE, serve, snapshot } from './fake.mjs';
import { apart, BROWSER, launch, live, open, round } from './browser.mjs';

const OUT = fileURLToPath(new URL('out/', import.meta.url));
const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const skip = existsSync(BROWSER) ? false : `no browser at ${BROWSER}: set CHROMIUM`;

let browser;
before(async () => {
  await mkdir(OUT, { recursive: true });
  if (!skip) browser = await launch();
});
after(() => browser?.close());

/** Runs with a server and a page on it, and says what the page did wrong. */
async function withPage(serverOptions, pageOptions, body) {
  const fake = await serve(serverOptions);
  const { page, wrong, close } = await open(browser, fake.url, pageOptions);
  try {
    await live(page);
    await body(page, fake);
    assert.deepEqual(wrong, []);
  } finally {
    await close();
    await fake.stop().catch(() => undefined);
  }
}

async function violations(page) {
  // As the driver runs it, the page's own policy on scripts stays in force for the page.
  await page.evaluate(AXE);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.any?.[0]?.message ?? ''}`).join('; ')}`);
}

test('names those that are set apart, in words', { skip }, () =>
  withPage({}, {}, async (page) => {
    assert.match(await page.locator('#health').innerText(), /3 of 7 workers are set apart: worker-1, worker-2, worker-3\./);
    assert.deepEqual(await apart(page), ['worker-1', 'worker-2', 'worker-3']);
    assert.equal(await page.locator('.worker').count(), 7);
    assert.match(await page.locator('.worker').first().innerText(), /agrees much less than the others: in 56\.0%/);
    assert.match(await page.locator('#rule').innerText(), /less than 64\.6%/);
    assert.match(await page.locator('#figures').innerText(), /33\.\d× less/);
    assert.match(await page.locator('.plot').first().getAttribute('aria-label'), /^Loss over rounds, until round 6\d\d\. Training: first 2\.\d+, last 0\.\d+/);
    assert.match(await page.title(), /3 apart/);
  }));

test('goes on by itself, and is right at once after a reload', { skip }, () =>
  withPage({ every: 0 }, {}, async (page, fake) => {
    assert.equal(await round(page), 600);
    fake.push(50);
    await page.getByText('Round 650 of 1,200').waitFor();
    await page.reload();
    await live(page);
    assert.equal(await round(page), 650);
    assert.equal((await apart(page)).length, 3);
    fake.push(5000);
    await page.getByText('✓ finished').waitFor();
    assert.equal(await page.locator('.worker').count(), 7);
    await page.screenshot({ path: `${OUT}finished.png`, fullPage: true });
    await fake.stop();
    await page.getByText('✓ finished, server gone').waitFor();
  }));

test('says that the connection is lost, and when it is back', { skip }, async () => {
  let fake = await serve({ every: 0 });
  const { page, wrong, close } = await open(browser, fake.url);
  await live(page);
  await page.getByText('▶ running').waitFor();
  await fake.stop();
  await page.getByText('connection lost, trying again…').waitFor();
  fake = await serve({ every: 0, port: fake.port, first: 700 });
  await page.getByText('▶ running').waitFor({ timeout: 20_000 });
  assert.equal(await page.getByText('connection lost').count(), 0);
  assert.equal(await round(page), 700);
  assert.deepEqual(wrong, []);
  await close();
  await fake.stop();
});

test('tries again where a stream is refused', { skip }, async () => {
  const fake = await serve({ every: 0 });
  const { page, close } = await open(browser, 'about:blank');
  await page.route('**/api/stream', (route) => route.fulfill({ status: 503, body: 'too many' }), { times: 1 });
  await page.goto(fake.url);
  await page.getByText('connection lost').waitFor();
  await page.getByText('▶ running').waitFor();
  assert.equal(await page.getByText('connection lost').count(), 0);
  await close();
  await fake.stop();
});

test('says how old the data is', { skip }, () =>
  withPage({ every: 0, time: Date.now() / 1000 - 75 }, {}, async (page) => {
    await page.getByText(/the data is 1 min \d+ s old/).waitFor();
  }));

test('says that it is of another version', { skip }, () =>
  withPage({ every: 0 }, {}, async (page, fake) => {
    fake.override = JSON.stringify({ version: 2 });
    fake.push();
    await page.getByText('This page is of another version than its server: reload.').waitFor();
    fake.override = undefined;
    fake.push();
    await page.locator('#notice').waitFor({ state: 'hidden' });
  }));

test('shows names and reasons as text, whatever they are', { skip }, () =>
  withPage({ hostile: true }, {}, async (page) => {
    assert.match(await page.locator('#health').innerText(), /<img src=x/);
    assert.equal(await page.locator('main img').count(), 0);
  }));

test('shows a run before its first round, one of a mean, and one whose workers are alike', { skip }, async () => {
  await withPage({ every: 0, first: 0, phase: 'gathering' }, {}, async (page) => {
    assert.match(await page.locator('#health').innerText(), /7 of 7 workers are there/);
    assert.deepEqual(await violations(page), []);
    await page.screenshot({ path: `${OUT}gathering.png` });
  });
  await withPage({ every: 0, mean: true }, {}, async (page) => {
    assert.match(await page.locator('#margins-words').innerText(), /Not known in this run\. Margins are counted where all ballots/);
    assert.match(await page.locator('#health').innerText(), /too early to say whether a worker lies/);
    await page.screenshot({ path: `${OUT}mean.png`, fullPage: true });
  });
  await withPage({ every: 0, liars: [] }, {}, async (page) => {
    assert.match(await page.locator('#health').innerText(), /All 7 workers vote like each other/);
    await page.screenshot({ path: `${OUT}healthy.png` });
  });
});

test('its charts can be had over rounds, bytes and seconds, by keyboard', { skip }, () =>
  withPage({ every: 0 }, {}, async (page, fake) => {
    const label = () => page.locator('.plot').last().getAttribute('aria-label');
    await page.locator('#axis input').first().focus();
    await page.keyboard.press('ArrowRight');
    assert.match(await label(), /^Accuracy over bytes/);
    await page.keyboard.press('ArrowRight');
    assert.match(await label(), /^Accuracy over seconds/);
    fake.push();
    await page.getByText('Round 607 of').waitFor();
    assert.match(await label(), /^Accuracy over seconds/);
  }));

for (const colorScheme of ['light', 'dark']) {
  for (const [width, height] of [[360, 800], [1024, 768], [1920, 1080]]) {
    test(`is fit for use at ${width}×${height}, ${colorScheme}`, { skip }, () =>
      withPage({ every: 0 }, { viewport: { width, height }, colorScheme }, async (page) => {
        assert.deepEqual(await violations(page), []);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
        await page.screenshot({ path: `${OUT}${width}-${colorScheme}.png` });
        await page.screenshot({ path: `${OUT}${width}-${colorScheme}-whole.png`, fullPage: true });
      }));
  }
}

test('takes over the colours when the scheme changes', { skip }, () =>
  withPage({ every: 0 }, { colorScheme: 'light' }, async (page) => {
    const pixels = () => page.locator('.plot canvas').first().evaluate((canvas) => canvas.toDataURL());
    const light = await pixels();
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.waitForFunction((before) => document.querySelector('.plot canvas').toDataURL() !== before, light);
  }));

test('stays quick with 200 workers and 10,000 rounds', { skip }, () =>
  withPage({ ...LARGE, every: 0, first: 9000 }, { viewport: { width: 1920, height: 1080 } }, async (page, fake) => {
    for (let at = 1; at <= 15; at += 1) {
      fake.push(10);
      await page.getByText(`Round ${(9000 + 10 * at).toLocaleString('en')} of`).waitFor();
    }
    await page.waitForFunction(() => window.updates.length >= 16);
    const updates = (await page.evaluate(() => window.updates)).slice(1).sort((a, b) => a - b);
    const median = updates[Math.floor(updates.length / 2)];
    const paint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime);
    const size = JSON.stringify(snapshot(9000, LARGE)).length;
    console.log(`update: median ${median.toFixed(1)} ms, most ${updates.at(-1).toFixed(1)} ms; first paint ${paint.toFixed(0)} ms; snapshot ${size} bytes`);
    assert.ok(median < 50, `${median} ms`);
    assert.ok(paint < 1000, `${paint} ms`);
    assert.deepEqual(await apart(page), ['worker-3', 'worker-50', 'worker-199']);
    assert.deepEqual(await violations(page), []);
    await page.screenshot({ path: `${OUT}large.png` });
    await page.setViewportSize({ width: 360, height: 800 });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
    await page.screenshot({ path: `${OUT}large-360.png` });
  }));

test('the built files are small, and have the licence of what is in them', async () => {
  const assets = fileURLToPath(new URL('../../crates/dashboard/assets/', import.meta.url));
  const texts = await Promise.all(['index.html', 'app.js', 'app.css'].map((name) => readFile(assets + name, 'utf8')));
  assert.ok(texts.join('').length < 120_000);
  for (const text of texts.slice(1)) assert.match(text, /Permission is hereby granted, free of charge/);
  assert.doesNotMatch(texts[0], /<script>|<style|https?:\/\/(?!www\.w3\.org)/);
});
