// What happened, newest first.
import { arrange, byId, make, setText, show } from './dom';
import * as format from './format';
import type { Entry, Snapshot } from './types';

function line(entry: Entry): HTMLLIElement {
  const time = make('time', '', format.clock(entry.time));
  if (entry.time > 0) time.dateTime = new Date(entry.time * 1000).toISOString();
  const words = make('span', 'words');
  if (entry.warning) words.append(make('span', 'mark', '⚠ warning: '));
  words.append(entry.words);
  return make('li', entry.warning ? 'warning' : '', time, make('span', 'round', `round ${format.count(entry.round)}`), words);
}

export class Events {
  private readonly list = byId('entries');
  private lines = new Map<string, HTMLLIElement>();

  update(snapshot: Snapshot): void {
    const lines = new Map<string, HTMLLIElement>();
    for (let at = snapshot.entries.length - 1; at >= 0; at -= 1) {
      const entry = snapshot.entries[at];
      if (entry === undefined) continue;
      // An entry never changes; a server started anew may count from 0 again.
      const key = `${snapshot.run} ${entry.id} ${entry.time}`;
      lines.set(key, this.lines.get(key) ?? line(entry));
    }
    arrange(this.list, [...lines.values()]);
    this.lines = lines;
    const before = snapshot.entries_before;
    const earlier = byId('earlier');
    show(earlier, before > 0 || lines.size === 0);
    setText(earlier, before > 0 ? `${format.many(before, 'earlier event')} in events.jsonl.` : 'Nothing has happened yet.');
  }
}
