// The workers, a card each. With many, those set apart come first and in full, the others in short.
import { arrange, byId, make, setAttribute, setText, show, svg } from './dom';
import * as format from './format';
import type { Maybe, Phase, Snapshot, Worker, WorkerState } from './types';

/** From so many workers on, the short form. */
const MANY = 40;
const WIDTH = 200;
const HEIGHT = 40;

const STATES: Record<WorkerState, string> = {
  away: 'away: not connected',
  joining: 'joining',
  behind: 'behind: is being sent what it missed',
  not_awaited: 'votes, but late: not waited for',
  voting: 'voting',
};
const BRIEF: Record<WorkerState, string> = {
  away: 'away',
  joining: 'joining',
  behind: 'behind',
  not_awaited: 'late',
  voting: 'voting',
};

/** One scale for all strips, or they could not be compared. In thousandths. */
interface Scale {
  low: number;
  high: number;
  limit: Maybe;
  rounds: number[];
}

function scaleOf(snapshot: Snapshot): Scale {
  let low = 1000;
  let high = 0;
  const take = (value: Maybe): void => {
    if (value === null) return;
    low = Math.min(low, value);
    high = Math.max(high, value);
  };
  for (const worker of snapshot.workers) for (const value of worker.history) take(value);
  const limit = snapshot.rule.limit === null ? null : 1000 * snapshot.rule.limit;
  take(limit);
  if (low > high) [low, high] = [0, 1000];
  low = Math.max(0, Math.floor(low / 100 - 0.1) * 100);
  high = Math.min(1000, Math.ceil(high / 100 + 0.1) * 100);
  return { low, high, limit, rounds: snapshot.history_rounds };
}

function heightOf(value: number, scale: Scale): string {
  return (HEIGHT - 2 - ((HEIGHT - 4) * (value - scale.low)) / (scale.high - scale.low)).toFixed(1);
}

function strip(history: Maybe[], scale: Scale): string {
  const { rounds } = scale;
  const first = rounds[0] ?? 0;
  const span = Math.max(1, (rounds[rounds.length - 1] ?? 0) - first);
  let path = '';
  let pen = false;
  for (let at = 0; at < history.length; at += 1) {
    const value = history[at];
    const round = rounds[at];
    if (value === null || value === undefined || round === undefined) {
      pen = false;
      continue;
    }
    const x = ((WIDTH * (round - first)) / span).toFixed(1);
    // A lone point gets a width, or it would not be seen.
    path += pen ? `L${x} ${heightOf(value, scale)}` : `M${x} ${heightOf(value, scale)}h2`;
    pen = true;
  }
  return path;
}

class Card {
  readonly element: HTMLLIElement;
  private readonly name = make('h3');
  private readonly place = make('span', 'place');
  private readonly badge = make('strong', 'badge');
  private readonly state = make('p', 'state');
  private readonly agreement = make('b');
  private readonly run = svg('path', { class: 'run', 'vector-effect': 'non-scaling-stroke' });
  private readonly limit = svg('path', { class: 'limit', 'vector-effect': 'non-scaling-stroke' });
  private readonly strip = svg(
    'svg',
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true', focusable: 'false' },
    this.limit,
    this.run,
  );
  private readonly verdict = make('p', 'verdict');
  private readonly voted = make('dd');
  private readonly up = make('dd');
  private readonly down = make('dd');
  private readonly late = make('dd');
  private readonly last = make('p', 'last');

  constructor() {
    const fact = (term: string, value: HTMLElement): HTMLElement => make('div', '', make('dt', '', term), value);
    this.element = make(
      'li',
      'worker',
      make('div', 'name', this.name, this.place, this.badge),
      this.state,
      make('div', 'agree', make('div', 'agree-figure', this.agreement, make('small', '', 'agreement')), this.strip),
      this.verdict,
      make('dl', '', fact('voted', this.voted), fact('up', this.up), fact('down', this.down), fact('late chunks', this.late)),
      this.last,
    );
  }

  update(worker: Worker, compact: boolean, scale: Scale, phase: Phase): void {
    const classes = this.element.classList;
    classes.toggle('apart', worker.apart);
    classes.toggle('compact', compact);
    setText(this.name, format.nameOf(worker));
    setText(this.place, worker.name === '' ? '' : `place ${worker.slot}`);
    setText(this.badge, worker.apart ? '⚠ SET APART' : '');
    // While a run waits for workers, and once it is over, nobody need be there.
    const ordinary = worker.state === 'voting' || worker.state === 'joining' || (worker.state === 'away' && phase !== 'running');
    const lag = worker.lag_rounds > 0 ? `, ${format.many(worker.lag_rounds, 'round')} behind` : '';
    setText(this.state, `${ordinary ? '' : '⚠ '}${(compact ? BRIEF : STATES)[worker.state]}${lag}`);
    this.state.classList.toggle('wrong', !ordinary);
    setText(this.agreement, format.percent(worker.agreement));
    setAttribute(this.run, 'd', strip(worker.history, scale));
    setAttribute(this.limit, 'd', scale.limit === null ? '' : `M0 ${heightOf(scale.limit, scale)}H${WIDTH}`);
    setText(this.verdict, worker.verdict);
    show(this.verdict, worker.verdict !== '');
    setText(this.voted, format.many(worker.rounds, 'round'));
    setText(this.up, format.bytes(worker.up_bytes));
    setText(this.down, format.bytes(worker.down_bytes));
    setText(this.late, format.count(worker.late_chunks));
    setText(this.last, worker.last === '' ? '' : `Last: ${worker.last}`);
    show(this.last, worker.last !== '');
  }
}

export class Workers {
  private readonly first = byId('apart-list');
  private readonly list = byId('worker-list');
  private readonly cards = new Map<number, Card>();

  update(snapshot: Snapshot): void {
    const dense = snapshot.workers.length > MANY;
    const scale = scaleOf(snapshot);
    this.list.classList.toggle('dense', dense);
    // What scrolls must be reached by keyboard.
    if (dense) this.list.tabIndex = 0;
    else this.list.removeAttribute('tabindex');
    const apart: Element[] = [];
    const others: Element[] = [];
    for (const worker of snapshot.workers) {
      let card = this.cards.get(worker.slot);
      if (card === undefined) {
        card = new Card();
        this.cards.set(worker.slot, card);
      }
      card.update(worker, dense && !worker.apart, scale, snapshot.phase);
      (dense && worker.apart ? apart : others).push(card.element);
    }
    show(this.first, apart.length > 0);
    arrange(this.first, apart);
    arrange(this.list, others);

    const { rounds } = scale;
    const first = rounds[0];
    const end = rounds[rounds.length - 1];
    const from = `Agreement: how often a worker's votes were those of the majority.`;
    setText(
      byId('strips'),
      first === undefined || end === undefined
        ? from
        : `${from} Strips: rounds ${format.count(first)} to ${format.count(end)}, from ${scale.low / 10}% at the bottom to ` +
            `${scale.high / 10}% at the top${scale.limit === null ? '' : `; dashed: the limit, ${format.percent(scale.limit / 1000)}`}.`,
    );
    setText(byId('rule'), snapshot.rule.words);
  }
}
