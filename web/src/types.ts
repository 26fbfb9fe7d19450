// The snapshot's schema, version 1, as the server's `snapshot.rs` writes it.

export const VERSION = 1;

export type Phase = 'gathering' | 'running' | 'paused' | 'finished';
export type WorkerState = 'away' | 'joining' | 'behind' | 'not_awaited' | 'voting';

/** What could not be known, or was not finite. */
export type Maybe = number | null;

export interface Snapshot {
  version: number;
  run: string;
  address: string;
  title: string;
  config: string;
  files: string[];
  health: Health;
  phase: Phase;
  reason: string;
  round: number;
  rounds: number;
  incarnation: number;
  dimension: number;
  places: number;
  quorum: number;
  tolerated_liars: number;
  kernels: string;
  began: number;
  time: number;
  training_seconds: number;
  loss: Maybe;
  accuracy: Maybe;
  eta: Maybe;
  voters: number;
  ties: number;
  holds: number;
  pace: Pace;
  bytes: Bytes;
  series: Series;
  evaluations: Evaluation[];
  workers: Worker[];
  history_rounds: number[];
  rule: Rule;
  margins: ByTensor | null;
  entries: Entry[];
  entries_before: number;
}

export type Level = 'wait' | 'good' | 'bad';

export interface Health {
  level: Level;
  words: string;
  more: string;
}

export interface Pace {
  rounds_per_second: number;
  bytes_per_second: number;
  f32_bytes_per_second: number;
  times_less: Maybe;
}

export interface Bytes {
  round_up: number;
  round_down: number;
  join: number;
  f32_each_way: number;
  times_less_up: Maybe;
  times_less_down: Maybe;
  times_less: Maybe;
}

export interface Series {
  stride: number;
  round: number[];
  seconds: number[];
  bytes: number[];
  loss: Maybe[];
  accuracy: Maybe[];
  eta: number[];
}

export interface Evaluation {
  round: number;
  loss: Maybe;
  accuracy: number;
  seconds: number;
  bytes: number;
}

export interface Worker {
  slot: number;
  name: string;
  state: WorkerState;
  lag_rounds: number;
  rounds: number;
  late_chunks: number;
  agreement: Maybe;
  history: Maybe[];
  up_bytes: number;
  down_bytes: number;
  apart: boolean;
  verdict: string;
  last: string;
}

export interface Rule {
  low: Maybe;
  high: Maybe;
  limit: Maybe;
  words: string;
}

export interface ByTensor {
  round: number;
  all: number[];
  tensors: OfTensor[];
}

export interface OfTensor {
  name: string;
  bins: number[];
}

export interface Entry {
  id: number;
  time: number;
  round: number;
  event: string;
  slot: number | null;
  warning: boolean;
  words: string;
}
