// The page against the program itself. SIGNVOTE names its binary; without it these tests are skipped.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { apart, BROWSER, launch, live, open, round } from './browser.mjs';

const PROGRAM = process.env.SIGNVOTE;
const OUT = fileURLToPath(new URL('out/', import.meta.url));
const MINUTE = 60_000;
/** A run takes as long as the machine needs. */
const LONG = Number(process.env.SIGNVOTE_MINUTES ?? 20) * MINUTE;
const skip = !PROGRAM ? 'SIGNVOTE does not name the program' : existsSync(BROWSER) ? false : `no browser at ${BROWSER}: set CHROMIUM`;

let browser;
const children = new Set();
before(async () => {
  await mkdir(OUT, { recursive: true });
  if (!skip) browser = await launch();
});
after(async () => {
  await Promise.all([...children].map((child) => end(child)));
  await browser?.close();
});

/** Starts the program in a group of its own, so that what it starts ends with it. */
function start(...args) {
  const child = spawn(PROGRAM, args, { detached: true, stdio: ['ignore', 'ignore', 'pipe'] });
  child.said = '';
  child.stderr.setEncoding('utf8');
  child.stderr.on('data', (text) => (child.said += text));
  child.over = new Promise((resolve) => child.once('close', resolve));
  child.over.then(() => children.delete(child));
  children.add(child);
  return child;
}

async function end(child, signal = 'SIGKILL') {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // It is over already.
  }
  await child.over;
}

/** Where the program says that its page is. */
async function address(child) {
  for (;;) {
    const found = /http:\/\/127\.0\.0\.1:\d+\//.exec(child.said);
    if (found) return found[0];
    const more = new Promise((resolve) => child.stderr.once('data', resolve));
    const first = await Promise.race([more.then(() => 'more'), child.over.then(() => 'over')]);
    if (first === 'over') assert.fail(`the program ended before it said where its page is:\n${child.said}`);
  }
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function beyond(page, least, timeout = 2 * MINUTE) {
  return page.waitForFunction(
    (least) => Number(/Round ([\d,]+)/.exec(document.querySelector('#round').textContent)?.[1].replaceAll(',', '') ?? -1) > least,
    least,
    { timeout },
  );
}

/** Waits until exactly these are set apart, for early on a worker may be that is not. */
function untilApart(page, names, timeout) {
  return page.waitForFunction(
    (names) => {
      const cards = [...document.querySelectorAll('.worker')].filter((card) => card.textContent.includes('SET APART'));
      return cards.map((card) => card.querySelector('h3').textContent).join() === names;
    },
    names.join(),
    { timeout },
  );
}

const LIARS = ['worker-1', 'worker-2', 'worker-3'];

test('a run with three liars, live, reloaded, to its end, and looked at afterwards', { skip, timeout: 2 * LONG }, async () => {
  const base = await mkdtemp(join(tmpdir(), 'signvote-page-'));
  const directory = join(base, 'run');
  try {
    const train = start('train', '--adversaries', '3', '--attack', 'sign-flip', '--epochs', '40', '--dashboard', '127.0.0.1:0', '--run-dir', directory);
    const { page, wrong, close } = await open(browser, await address(train));
    await live(page);
    await beyond(page, await round(page));
    await beyond(page, await round(page));
    await untilApart(page, LIARS, LONG);
    await page.screenshot({ path: `${OUT}live.png`, fullPage: true });

    const before = await round(page);
    await page.reload();
    await live(page);
    assert.ok((await round(page)) >= before);
    await untilApart(page, LIARS, LONG);
    await page.locator('#phase', { hasText: 'finished' }).waitFor({ timeout: LONG });
    assert.deepEqual(await apart(page), LIARS);
    assert.deepEqual(wrong, []);
    await close();
    await end(train);

    const view = start('view', directory, '--dashboard', '127.0.0.1:0');
    const later = await open(browser, await address(view));
    await live(later.page);
    await later.page.locator('#phase', { hasText: 'finished' }).waitFor();
    assert.deepEqual(await apart(later.page), LIARS);
    assert.equal(await later.page.locator('.worker').count(), 7);
    assert.match(await later.page.locator('#health').innerText(), /3 of 7 workers are set apart: worker-1, worker-2, worker-3\./);
    for (const link of await later.page.locator('#files a').all()) {
      const answer = await later.page.request.get(new URL(await link.getAttribute('href'), later.page.url()).href);
      assert.equal(answer.status(), 200, await link.innerText());
    }
    await later.page.screenshot({ path: `${OUT}view.png`, fullPage: true });
    assert.deepEqual(later.wrong, []);
    await later.close();
    await end(view);
  } finally {
    await Promise.all([...children].map((child) => end(child)));
    await rm(base, { recursive: true, force: true });
  }
});

test('a server that is killed, and resumed', { skip, timeout: LONG }, async () => {
  const base = await mkdtemp(join(tmpdir(), 'signvote-page-'));
  const directory = join(base, 'run');
  const [port, listen] = [await freePort(), await freePort()];
  const where = ['--dashboard', `127.0.0.1:${port}`, '--listen', `127.0.0.1:${listen}`];
  try {
    const server = start('server', '--workers', '2', '--rounds', '100000', '--run-dir', directory, ...where);
    const url = await address(server);
    for (let at = 0; at < 2; at += 1) start('worker', '--connect', `127.0.0.1:${listen}`);
    const { page, wrong, close } = await open(browser, url);
    await live(page);
    await beyond(page, Math.max(0, await round(page)));
    await page.getByText('▶ running').waitFor();

    await end(server);
    await page.getByText('connection lost, trying again…').waitFor();
    await page.screenshot({ path: `${OUT}lost.png` });
    const before = await round(page);

    await address(start('server', '--resume', directory, ...where));
    await page.getByText('▶ running').waitFor({ timeout: 2 * MINUTE });
    assert.equal(await page.getByText('connection lost').count(), 0);
    await beyond(page, before, LONG);
    assert.deepEqual(wrong, []);
    await close();
  } finally {
    await Promise.all([...children].map((child) => end(child)));
    await rm(base, { recursive: true, force: true });
  }
});
