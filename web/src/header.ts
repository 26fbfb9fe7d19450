// Whether all is well, in words, before anything else.
import { byId, setAttribute, setText, show } from './dom';
import * as format from './format';
import type { Level, Phase, Snapshot } from './types';

const PHASES: Record<Phase, [string, Level]> = {
  gathering: ['… waiting for workers', 'wait'],
  running: ['▶ running', 'good'],
  paused: ['❚❚ paused', 'bad'],
  finished: ['✓ finished', 'good'],
};

const SIGNS: Record<Level, string> = { good: '✓', bad: '⚠', wait: '…' };

export function header(snapshot: Snapshot): void {
  setText(byId('title'), snapshot.title);
  const progress = byId<HTMLProgressElement>('progress');
  progress.max = Math.max(1, snapshot.rounds);
  progress.value = snapshot.round;
  setText(byId('round'), `Round ${format.count(snapshot.round)} of ${format.count(snapshot.rounds)}`);
  const speed = snapshot.pace.rounds_per_second;
  const left = snapshot.rounds - snapshot.round;
  const rest = snapshot.phase === 'running' && speed > 0 && left > 0 ? `, about ${format.duration(left / speed)} left` : '';
  const reason = snapshot.reason === '' ? '' : ` (${snapshot.phase === 'running' ? 'last round closed: ' : ''}${snapshot.reason})`;
  setText(byId('left'), `${format.duration(snapshot.training_seconds)} of training${rest}${reason}`);

  const { level, words, more } = snapshot.health;
  setAttribute(byId('health'), 'data-level', level);
  setText(byId('health-sign'), SIGNS[level]);
  setText(byId('health-words'), words);
  setText(byId('health-more'), more);
  const percent = snapshot.rounds > 0 ? format.percent(snapshot.round / snapshot.rounds, 0) : '';
  const apart = snapshot.workers.filter((worker) => worker.apart).length;
  document.title = `${apart > 0 ? `⚠ ${apart} apart, ` : ''}${percent} ${snapshot.phase} – signvote`;
}

/** `age` is that of the data, in seconds. */
export function connection(phase: Phase | undefined, connected: boolean, age: number): void {
  const pill = byId('phase');
  let [words, level]: [string, Level] = phase === undefined ? ['connecting…', 'wait'] : PHASES[phase];
  // A server that goes when its run is over has not failed.
  if (!connected) [words, level] = phase === 'finished' ? ['✓ finished, server gone', 'good'] : ['⚠ connection lost, trying again…', 'bad'];
  setText(pill, words);
  setAttribute(pill, 'data-level', level);
  const old = byId('age');
  // While workers are awaited nothing need happen, and after the end nothing does.
  const stale = age > 10 && (phase === 'running' || (!connected && (phase === 'gathering' || phase === 'paused')));
  show(old, stale);
  setText(old, stale ? `the data is ${format.duration(age)} old` : '');
}
