// Figures as people read them. Nothing here knows the page.
import type { Maybe, Worker } from './types';

export const NONE = '–';

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const clocks = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const days = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });

export function count(value: number): string {
  return whole.format(value);
}

/** One noun, or so many. */
export function many(value: number, one: string, more = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : more}`;
}

/** Three significant digits or so, as for a rate. */
export function short(value: number): string {
  const size = Math.abs(value);
  if (size >= 100) return whole.format(value);
  if (size >= 10) return value.toFixed(1);
  if (size >= 1 || size === 0) return value.toFixed(2);
  return size < 0.001 ? value.toExponential(1) : value.toFixed(3);
}

/** Decimal units: 1.3 MB. */
export function bytes(value: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let at = 0;
  let left = value;
  // 999.6 would be written as 1000.
  while (left >= 999.5 && at < units.length - 1) {
    left /= 1000;
    at += 1;
  }
  const digits = at > 0 && left < 9.95 ? 1 : 0;
  return `${left.toFixed(digits)} ${units[at]}`;
}

export function percent(fraction: Maybe, digits = 1): string {
  return fraction === null ? NONE : `${(100 * fraction).toFixed(digits)}%`;
}

/** A loss of which the server says that it is not finite is `null`. */
export function loss(value: Maybe): string {
  if (value === null) return 'not finite';
  return Math.abs(value) >= 10_000 || (value !== 0 && Math.abs(value) < 0.001) ? value.toExponential(2) : value.toFixed(3);
}

export function duration(seconds: number): string {
  const all = Math.round(seconds);
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (all < 60) return `${all} s`;
  if (all < 3600) return `${Math.floor(all / 60)} min ${all % 60} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor((minutes % 1440) / 60)} h`;
}

export function clock(time: number): string {
  return time > 0 ? clocks.format(time * 1000) : NONE;
}

export function day(time: number): string {
  return time > 0 ? days.format(time * 1000) : NONE;
}

/** How much less than plain f32; in words where it is not less. */
export function saving(times: Maybe): string {
  if (times === null) return NONE;
  if (times >= 1.05) return `${times >= 100 ? count(times) : times.toFixed(1)}× less`;
  return times > 0.95 ? 'no less' : `${(1 / times).toFixed(1)}× more`;
}

/** Worker and, where nobody has taken it yet, place. */
export function nameOf(worker: Worker): string {
  return worker.name === '' ? `place ${worker.slot}` : worker.name;
}
