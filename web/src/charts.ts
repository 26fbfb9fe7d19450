// Loss and accuracy over the run. uPlot draws; the words around it are ours.
import uPlot from 'uplot';
import { byId, make, setAttribute, setText } from './dom';
import * as format from './format';
import type { Maybe, Snapshot } from './types';

type Axis = 'round' | 'bytes' | 'seconds';

interface Kind {
  title: string;
  /** Of the series and of the evaluations. */
  field: 'loss' | 'accuracy';
  words: (value: Maybe) => string;
}

const KINDS: Kind[] = [
  { title: 'Loss', field: 'loss', words: format.loss },
  { title: 'Accuracy', field: 'accuracy', words: (value) => format.percent(value) },
];

const HEIGHT = 200;

function onAxis(axis: Axis, value: number): string {
  if (axis === 'round') return `round ${format.count(value)}`;
  return axis === 'bytes' ? format.bytes(value) : format.duration(value);
}

function tick(axis: Axis, value: number): string {
  if (axis === 'bytes') return format.bytes(value);
  return axis === 'seconds' ? `${format.count(value)} s` : format.count(value);
}

/** The last value that is known, for words. */
function last<T>(values: T[]): T | undefined {
  return values[values.length - 1];
}

class Chart {
  private readonly plot = make('div', 'plot');
  private readonly training = make('span', 'key');
  private readonly held = make('span', 'key points');
  private readonly at = make('span', 'at');
  private drawn: uPlot | undefined;
  private data: uPlot.AlignedData = [[], [], []];
  private axis: Axis = 'round';

  constructor(
    parent: Element,
    private readonly kind: Kind,
  ) {
    this.plot.setAttribute('role', 'img');
    const caption = make('figcaption', '', make('h3', '', kind.title), this.training, this.held, this.at);
    parent.append(make('figure', '', caption, this.plot));
    new ResizeObserver(() => this.fit()).observe(this.plot);
  }

  update(snapshot: Snapshot, axis: Axis): void {
    const { series, evaluations } = snapshot;
    const { field, words, title } = this.kind;
    const points = evaluations.map((one) => one[field]);
    this.data = uPlot.join([
      [series[axis], series[field]],
      [evaluations.map((one) => one[axis]), points],
    ]);
    const turned = axis !== this.axis;
    this.axis = axis;

    const now = last(series[field]);
    const held = last(points);
    setText(this.training, `training${now === undefined ? '' : ` ${words(now)}`}`);
    setText(this.held, `held-out data${held === undefined ? '' : ` ${words(held)}`}`);
    const over = axis === 'round' ? 'rounds' : axis;
    setAttribute(
      this.plot,
      'aria-label',
      now === undefined
        ? `${title} over ${over}: nothing yet`
        : `${title} over ${over}, until round ${format.count(last(series.round) ?? 0)}. Training: first ${words(series[field][0] ?? null)}, ` +
            `last ${words(now)}. Held-out data: ${held === undefined ? 'not yet' : `last ${words(held)} after round ${format.count(last(evaluations)?.round ?? 0)}`}.`,
    );

    if (this.drawn === undefined || turned) {
      this.redraw();
    } else {
      // Drawn at once, so that its time is part of the update's.
      const drawn = this.drawn;
      drawn.batch(() => drawn.setData(this.data));
    }
  }

  /** Anew: colours and the width that the axis' words need are taken from the page as it is now. */
  redraw(): void {
    this.drawn?.destroy();
    this.drawn = undefined;
    const width = this.plot.clientWidth;
    if (width === 0) return;
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string): string => style.getPropertyValue(name).trim();
    const axis = {
      stroke: colour('--dim'),
      font: '12px system-ui, sans-serif',
      grid: { stroke: colour('--grid'), width: 1 },
      ticks: { stroke: colour('--line'), width: 1, size: 4 },
    };
    const { field } = this.kind;
    this.drawn = new uPlot(
      {
        width,
        height: HEIGHT,
        padding: [8, 12, 0, 0],
        legend: { show: false },
        cursor: { drag: { x: false, y: false }, y: false, points: { size: 7 } },
        scales: {
          x: { time: false },
          y: {
            range: (_, low, high) => {
              if (low === null || high === null) return [0, 1];
              if (field === 'loss') return uPlot.rangeNum(low, high, 0.08, true);
              // Whole tenths keep the axis still while the curve moves.
              const top = Math.min(1, Math.ceil(high * 10 + 0.001) / 10);
              return [Math.min(top - 0.1, Math.max(0, Math.floor(low * 10) / 10)), top];
            },
          },
        },
        axes: [
          { ...axis, size: 28, gap: 4, space: 70, values: (_, ticks) => ticks.map((value) => tick(this.axis, value)) },
          {
            ...axis,
            size: 48,
            gap: 4,
            values: (_, ticks) => ticks.map((value) => (field === 'accuracy' ? format.percent(value, 0) : `${Number(value.toPrecision(4))}`)),
          },
        ],
        series: [
          {},
          { stroke: colour('--blue'), width: 1.75, points: { show: (u) => u.data[0].length < 3 } },
          { stroke: colour('--orange'), width: 1, dash: [3, 3], spanGaps: true, points: { show: true, size: 7, width: 2, fill: colour('--card') } },
        ],
        hooks: { setCursor: [(chart) => this.point(chart)] },
      },
      this.data,
      this.plot,
    );
  }

  private point(chart: uPlot): void {
    const at = chart.cursor.idx;
    const x = at === null || at === undefined ? undefined : chart.data[0][at];
    if (x === undefined || (chart.cursor.left ?? -1) < 0) {
      setText(this.at, '');
      return;
    }
    const parts = [onAxis(this.axis, x)];
    const training = chart.data[1]?.[at as number];
    const held = chart.data[2]?.[at as number];
    if (training !== undefined) parts.push(`training ${this.kind.words(training)}`);
    if (held !== undefined) parts.push(`held-out ${this.kind.words(held)}`);
    setText(this.at, parts.join(', '));
  }

  private fit(): void {
    const width = this.plot.clientWidth;
    if (width === 0) return;
    if (this.drawn === undefined) this.redraw();
    else if (this.drawn.width !== width) this.drawn.setSize({ width, height: HEIGHT });
  }
}

export class Charts {
  private readonly charts = KINDS.map((kind) => new Chart(byId('charts'), kind));
  private readonly radios = [...document.querySelectorAll<HTMLInputElement>('#axis input')];
  private snapshot: Snapshot | undefined;

  constructor() {
    byId('axis').addEventListener('change', () => this.draw());
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      for (const chart of this.charts) chart.redraw();
    });
  }

  update(snapshot: Snapshot): void {
    this.snapshot = snapshot;
    this.draw();
    const { stride } = snapshot.series;
    setText(byId('stride'), stride > 1 ? `A point of the training curves is the mean of ${format.count(stride)} rounds.` : '');
  }

  private draw(): void {
    if (this.snapshot === undefined) return;
    // Read from the page, for a browser restores a choice over a reload.
    const axis = (this.radios.find((radio) => radio.checked)?.value ?? 'round') as Axis;
    for (const chart of this.charts) chart.update(this.snapshot, axis);
  }
}
