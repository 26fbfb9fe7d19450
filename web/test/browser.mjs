// A browser for the tests, and what no page may do: errors in the console, requests to other hosts.
import { chromium } from 'playwright-core';

export const BROWSER = process.env.CHROMIUM ?? '/usr/bin/chromium';

export function launch() {
  return chromium.launch({ executablePath: BROWSER, args: ['--no-sandbox'] });
}

/** Opens a page. `wrong` gathers what it must not do; a broken connection is not the page's doing. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1024, height: 768 }, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on('pageerror', (error) => wrong.push(`error: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() !== 'error' && message.type() !== 'warning') return;
    if (/net::ERR_(CONNECTION|INCOMPLETE|EMPTY|NETWORK)/.test(message.text())) return;
    wrong.push(`console: ${message.text()}`);
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith('data:')) wrong.push(`request: ${request.url()}`);
  });
  // The page keeps only its last measure; all are gathered here.
  await page.addInitScript(() => {
    window.updates = [];
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (entry.name === 'update') window.updates.push(entry.duration);
    }).observe({ entryTypes: ['measure'] });
  });
  await page.goto(url);
  return { page, wrong, close: () => context.close() };
}

export async function live(page) {
  await page.locator('#main').waitFor({ state: 'visible' });
}

/** The first number in the words about the round. */
export async function round(page) {
  const words = await page.locator('#round').innerText();
  return Number(/Round ([\d,]+)/.exec(words)?.[1].replaceAll(',', '') ?? -1);
}

/** The names of the workers that are set apart, as a reader finds them. */
export function apart(page) {
  return page.locator('.worker', { hasText: 'SET APART' }).locator('h3').allInnerTexts();
}
