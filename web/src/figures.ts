// The figures that one looks for first, and the facts that one looks up.
import { arrange, byId, make, setText, show } from './dom';
import * as format from './format';
import type { Maybe, Snapshot } from './types';

interface Figure {
  name: string;
  value: string;
  more: string;
}

function figures(snapshot: Snapshot): Figure[] {
  const { pace, bytes } = snapshot;
  const begun = snapshot.round > 0;
  const held = snapshot.evaluations[snapshot.evaluations.length - 1];
  const sent = bytes.round_up + bytes.round_down;
  const plain = 2 * bytes.f32_each_way;
  return [
    {
      name: 'Training loss',
      value: begun || snapshot.loss !== null ? format.loss(snapshot.loss) : format.NONE,
      more: held === undefined ? 'of late, on batches' : `held-out ${format.loss(held.loss)}`,
    },
    held === undefined
      ? { name: 'Training accuracy', value: format.percent(snapshot.accuracy), more: 'of late, on batches' }
      : {
          name: 'Test accuracy',
          value: format.percent(held.accuracy),
          more: `after round ${format.count(held.round)}; training ${format.percent(snapshot.accuracy)}`,
        },
    {
      name: 'Rounds a second',
      value: begun ? format.short(pace.rounds_per_second) : format.NONE,
      more: snapshot.phase === 'finished' ? 'over the whole run' : 'of late',
    },
    {
      name: 'Bytes a second',
      value: begun ? `${format.bytes(pace.bytes_per_second)}/s` : format.NONE,
      more: begun ? `as f32 ${format.bytes(pace.f32_bytes_per_second)}/s: ${format.saving(pace.times_less)}` : '',
    },
    {
      name: 'Communication',
      value: format.saving(bytes.times_less),
      more: `${format.bytes(sent)} so far, as f32 ${format.bytes(plain)}`,
    },
    {
      name: 'Quorum',
      value: `${format.count(snapshot.quorum)} of ${format.count(snapshot.places)}`,
      more: `fewest ballots that decide; ${format.count(snapshot.voters)} voted last`,
    },
  ];
}

class Card {
  readonly element: HTMLElement;
  private readonly name = make('dt');
  private readonly value = make('dd', 'value');
  private readonly more = make('dd', 'more');

  constructor() {
    this.element = make('div', '', this.name, this.value, this.more);
  }

  update(figure: Figure): void {
    setText(this.name, figure.name);
    setText(this.value, figure.value);
    setText(this.more, figure.more);
  }
}

export class Figures {
  private readonly cards: Card[] = [];

  update(snapshot: Snapshot): void {
    figures(snapshot).forEach((figure, at) => {
      const card = (this.cards[at] ??= new Card());
      card.update(figure);
    });
    arrange(byId('figures'), this.cards.map((card) => card.element));
  }
}

export class Facts {
  private readonly values = new Map<string, HTMLElement>();
  private rows: HTMLTableRowElement[] = [];
  private files = '';

  update(snapshot: Snapshot): void {
    const facts: [string, string][] = [
      ['run', snapshot.run || format.NONE],
      ['server', snapshot.address || format.NONE],
      ['kernels', snapshot.kernels || format.NONE],
      ['coordinates', format.count(snapshot.dimension)],
      ['incarnation', snapshot.incarnation === 0 ? '0: no rounds were lost' : `${snapshot.incarnation}: so often were rounds lost`],
      ['learning rate', snapshot.eta === null ? format.NONE : `${Number(snapshot.eta.toPrecision(4))}`],
      ['began', format.day(snapshot.began)],
      ['last event', format.day(snapshot.time)],
    ];
    for (const [name, value] of facts) {
      let element = this.values.get(name);
      if (element === undefined) {
        element = make('dd');
        this.values.set(name, element);
        byId('facts').append(make('dt', '', name), element);
      }
      setText(element, value);
    }

    const { bytes } = snapshot;
    const each = bytes.f32_each_way;
    const table: [string, number, number | null, Maybe][] = [
      ['to the server', bytes.round_up, each, bytes.times_less_up],
      ['to the workers', bytes.round_down, each, bytes.times_less_down],
      ['both', bytes.round_up + bytes.round_down, 2 * each, bytes.times_less],
      ['joins and farewells', bytes.join, null, null],
    ];
    table.forEach(([direction, sent, plain, times], at) => {
      const row = (this.rows[at] ??= this.row(direction));
      const cells = row.children;
      const texts = [direction, format.bytes(sent), plain === null ? format.NONE : format.bytes(plain), format.saving(times)];
      texts.forEach((text, cell) => cells[cell] !== undefined && setText(cells[cell], text));
    });

    const files = snapshot.files.join('\n');
    show(byId('files-part'), snapshot.files.length > 0);
    if (files !== this.files) {
      this.files = files;
      const links = snapshot.files.map((name) => {
        const link = make('a', '', name);
        link.href = `/files/${encodeURIComponent(name)}`;
        link.download = name;
        return make('li', '', link);
      });
      byId('files').replaceChildren(...links);
    }
    show(byId('config-part'), snapshot.config !== '');
    setText(byId('config'), snapshot.config);
  }

  private row(direction: string): HTMLTableRowElement {
    const name = make('th', '', direction);
    name.scope = 'row';
    const row = make('tr', '', name, make('td'), make('td'), make('td'));
    byId('bytes').append(row);
    return row;
  }
}
