// The live connection. Every message is a whole snapshot, so that after a gap the next one is all that is needed.
import type { Snapshot } from './types';

const RETRY_MS = 2000;

export interface Listener {
  /** Text is given, not a snapshot, so that the time to read it is measured with the rest. */
  snapshot(text: string): void;
  connected(yes: boolean): void;
}

export function follow(listener: Listener): void {
  let source: EventSource;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const again = (): void => {
    if (timer !== undefined) return;
    timer = setTimeout(() => {
      timer = undefined;
      source.close();
      open();
      // Where streams are refused, for example because there are too many, the page still shows how things stand.
      fetch('/api/snapshot', { cache: 'no-store' })
        .then((answer) => (answer.ok ? answer.text() : undefined))
        .then((text) => {
          if (text !== undefined && source.readyState !== EventSource.OPEN) listener.snapshot(text);
        })
        .catch(() => undefined);
    }, RETRY_MS);
  };

  const open = (): void => {
    source = new EventSource('/api/stream');
    source.addEventListener('open', () => listener.connected(true));
    source.addEventListener('snapshot', (event) => {
      listener.connected(true);
      listener.snapshot((event as MessageEvent<string>).data);
    });
    source.addEventListener('error', () => {
      listener.connected(false);
      // A browser tries again by itself, save after an answer that is not a stream.
      if (source.readyState === EventSource.CLOSED) again();
    });
  };

  open();
}

/** How old the newest snapshot is. The server's clock may be wrong, so the least delay ever seen counts as none. */
export class Age {
  private least = Infinity;
  private seen = 0;
  private time = 0;

  private now(): number {
    return Date.now() / 1000;
  }

  took(snapshot: Snapshot): void {
    if (snapshot.time === this.time) return;
    this.time = snapshot.time;
    this.seen += 1;
    this.least = Math.min(this.least, this.now() - snapshot.time);
  }

  seconds(): number {
    if (this.seen === 0) return 0;
    // A single snapshot cannot tell a slow clock from an old snapshot.
    const skew = this.seen > 1 ? this.least : Math.min(0, this.least);
    return this.now() - this.time - skew;
  }
}
