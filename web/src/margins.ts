// How contested the coordinates are: histograms of |votes for − votes against|, of all and of each tensor.
import { arrange, byId, make, setAttribute, setText, show, svg } from './dom';
import * as format from './format';
import type { ByTensor, Snapshot } from './types';

/** More than these are folded away. */
const VISIBLE = 24;

function sum(bins: number[]): number {
  return bins.reduce((all, one) => all + one, 0);
}

/** The first bin is ties, the last all ballots alike; those between are tenths of the ballots. */
function label(bin: number, bins: number): string {
  if (bin === 0) return 'tie';
  return bin === bins - 1 ? 'over 9/10' : `up to ${bin}/10`;
}

class Histogram {
  private readonly bars = svg('path', {});
  readonly picture: SVGSVGElement;

  constructor(private readonly height: number) {
    const base = svg('line', { x1: '0', x2: '100', y1: `${height}`, y2: `${height}`, 'vector-effect': 'non-scaling-stroke' });
    this.picture = svg(
      'svg',
      { class: 'histogram', viewBox: `0 0 100 ${height}`, preserveAspectRatio: 'none', role: 'img', height: `${height}` },
      this.bars,
      base,
    );
  }

  update(name: string, bins: number[]): void {
    const all = sum(bins);
    const most = Math.max(1, ...bins);
    const step = 100 / Math.max(1, bins.length);
    let path = '';
    bins.forEach((value, bin) => {
      if (value === 0) return;
      const high = Math.max(1, (this.height * value) / most).toFixed(1);
      path += `M${(step * (bin + 0.1)).toFixed(2)} ${this.height}v-${high}h${(step * 0.8).toFixed(2)}v${high}z`;
    });
    setAttribute(this.bars, 'd', path);
    const share = (value: number): string => format.percent(all === 0 ? null : value / all, 0);
    const words = bins.map((value, bin) => `${label(bin, bins.length)} ${share(value)}`).join(', ');
    setAttribute(this.picture, 'aria-label', `${name}: ${words}`);
  }
}

class Small {
  readonly element: HTMLLIElement;
  private readonly name = make('bdi');
  private readonly histogram = new Histogram(32);

  constructor() {
    const ends = make('span', 'ends', make('span', '', 'tie'), make('span', '', 'all'));
    ends.setAttribute('aria-hidden', 'true');
    this.element = make('li', '', make('span', 'tensor', this.name), this.histogram.picture, ends);
  }

  update(name: string, bins: number[]): void {
    setText(this.name, name);
    this.element.title = name;
    this.histogram.update(name, bins);
  }
}

export class Margins {
  private readonly all = new Histogram(90);
  private readonly shares = make('div', 'bins');
  private readonly names = make('div', 'bins names');
  private readonly small: Small[] = [];
  private readonly more = byId<HTMLDetailsElement>('margins-more');
  private latest: ByTensor | null = null;

  constructor() {
    this.shares.setAttribute('aria-hidden', 'true');
    this.names.setAttribute('aria-hidden', 'true');
    byId('margins-all').append(this.shares, this.all.picture, this.names);
    this.more.addEventListener('toggle', () => this.tensors());
  }

  update(snapshot: Snapshot): void {
    const { margins } = snapshot;
    this.latest = margins;
    const known = margins !== null && margins.tensors.length > 0;
    show(byId('margins-all'), known);
    show(byId('margins-layers'), known);
    const share = (value: number): string => format.percent(snapshot.dimension > 0 ? value / snapshot.dimension : null);
    const round =
      snapshot.round > 0 && snapshot.voters > 0
        ? `In the last round ${share(snapshot.ties)} of ${format.count(snapshot.dimension)} coordinates were ties, and ${share(snapshot.holds)} took no step.`
        : '';
    if (margins === null) {
      const why = snapshot.round > 0 ? 'Not known in this run' : 'Not known yet';
      setText(
        byId('margins-words'),
        `${why}. Margins are counted where all ballots of a coordinate are in one place: not where the aggregate is a mean, nor where the tally is sharded. ${round}`,
      );
      return;
    }
    setText(
      byId('margins-words'),
      `The share of coordinates by the distance between the votes for and against, in tenths of the ballots; a sample of round ${format.count(margins.round)}. ${round}`,
    );
    this.whole(margins);
    this.tensors();
  }

  private whole(margins: ByTensor): void {
    const bins = margins.all;
    this.all.update('All tensors', bins);
    const total = sum(bins);
    while (this.shares.childElementCount < bins.length) {
      this.shares.append(make('span'));
      this.names.append(make('span'));
    }
    for (let bin = 0; bin < this.shares.childElementCount; bin += 1) {
      const value = bins[bin];
      const [top, bottom] = [this.shares.children[bin], this.names.children[bin]];
      if (top === undefined || bottom === undefined) continue;
      show(top as HTMLElement, value !== undefined);
      show(bottom as HTMLElement, value !== undefined);
      setText(top, format.percent(total === 0 || value === undefined ? null : value / total, 0));
      const end = bin === bins.length - 1;
      setText(bottom, bin === 0 ? 'tie' : end ? 'all' : `${bin}/10`);
    }
  }

  private tensors(): void {
    const tensors = this.latest?.tensors ?? [];
    const rest = tensors.length - VISIBLE;
    show(this.more, rest > 0);
    setText(byId('margins-more-words'), `${format.many(rest, 'more tensor')}`);
    // What is folded away is drawn when it is opened.
    const drawn = this.more.open ? tensors.length : Math.min(VISIBLE, tensors.length);
    while (this.small.length < drawn) this.small.push(new Small());
    tensors.slice(0, drawn).forEach((tensor, at) => this.small[at]?.update(tensor.name, tensor.bins));
    const elements = this.small.slice(0, drawn).map((one) => one.element);
    arrange(byId('margins-first'), elements.slice(0, VISIBLE));
    arrange(byId('margins-rest'), elements.slice(VISIBLE));
  }
}
