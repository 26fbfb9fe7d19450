// The dashboard's page. It keeps no history of its own: each snapshot is all there is to show.
import './app.css';
import { Charts } from './charts';
import { byId, setText, show } from './dom';
import { Events } from './events';
import { Facts, Figures } from './figures';
import { connection, header } from './header';
import { Margins } from './margins';
import { Age, follow } from './stream';
import { VERSION, type Phase, type Snapshot } from './types';
import { Workers } from './workers';

const age = new Age();
const charts = new Charts();
const events = new Events();
const facts = new Facts();
const figures = new Figures();
const margins = new Margins();
const workers = new Workers();

let phase: Phase | undefined;
let connected = true;

function notice(words: string): void {
  setText(byId('notice'), words);
  show(byId('notice'), words !== '');
}

function status(): void {
  connection(phase, connected, age.seconds());
}

function render(snapshot: Snapshot): void {
  phase = snapshot.phase;
  age.took(snapshot);
  header(snapshot);
  // Shown before the charts are drawn, which take their width from the page.
  show(byId('main'), true);
  figures.update(snapshot);
  workers.update(snapshot);
  charts.update(snapshot);
  events.update(snapshot);
  margins.update(snapshot);
  facts.update(snapshot);
  status();
}

follow({
  snapshot(text) {
    const start = performance.now();
    try {
      const snapshot = JSON.parse(text) as Snapshot;
      if (snapshot.version !== VERSION) {
        notice('This page is of another version than its server: reload.');
        return;
      }
      render(snapshot);
      notice('');
    } catch (error) {
      // One snapshot that cannot be shown must not end the page.
      console.error(error);
      notice('The last snapshot could not be shown; the page waits for the next.');
    }
    // Only the last one is kept: the browser would keep them all.
    performance.clearMeasures('update');
    performance.measure('update', { start, end: performance.now() });
  },
  connected(yes) {
    connected = yes;
    status();
  },
});

setInterval(status, 1000);
