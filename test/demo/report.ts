import { formatTable } from './table';

interface Counters {
  readonly readBytes: number;
  readonly transferredBytes: number;
  readonly storedBytes: number;
}

/** The parts of a session, as `--json` prints it, that the demo uses. */
export interface Session {
  readonly id: string;
  readonly state: string;
  readonly endedAt: string | null;
  readonly tasks: readonly {
    readonly pointId: string | null;
    readonly createdId: string | null;
    readonly failure: { readonly code: string; readonly message: string } | null;
    readonly disks: readonly {
      readonly diskId: string;
      readonly name: string;
      readonly sizeBytes: number;
      readonly mode: string;
      readonly reason: string;
      readonly path: string;
      readonly counters: Counters;
      readonly durationMs: number | null;
    }[];
  }[];
}

interface Row {
  readonly run: string;
  readonly state: string;
  readonly disk: string;
  readonly mode: string;
  readonly reason: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly readBytes: number;
  readonly transferredBytes: number;
  readonly storedBytes: number;
  readonly durationMs: number;
}

interface Comparison {
  readonly what: string;
  readonly difference: string | null;
}

/** What the demo tells: steps while it runs, the table and the comparisons at the end. */
export class Report {
  readonly #rows: Row[] = [];
  readonly #comparisons: Comparison[] = [];
  readonly #startedMs = Date.now();

  constructor(private readonly json: boolean) {}

  /** True when there were comparisons and all held. */
  get good(): boolean {
    return this.#comparisons.length > 0 && this.#comparisons.every(({ difference }) => difference === null);
  }

  step(text: string): void {
    this.note(`\n[${((Date.now() - this.#startedMs) / 1000).toFixed(1).padStart(6)} s] ${text}`);
  }

  note(text: string): void {
    process.stderr.write(`${text}\n`);
  }

  session(run: string, session: Session): void {
    for (const task of session.tasks) {
      for (const disk of task.disks) {
        const { readBytes, transferredBytes, storedBytes } = disk.counters;
        this.#rows.push({
          run,
          state: session.state,
          disk: disk.name,
          mode: disk.mode,
          reason: disk.reason,
          path: disk.path,
          sizeBytes: disk.sizeBytes,
          readBytes,
          transferredBytes,
          storedBytes,
          durationMs: disk.durationMs ?? 0,
        });
      }
      if (task.failure) this.note(`  ${task.failure.message} [${task.failure.code}]`);
    }
  }

  comparison(what: string, difference: string | undefined): void {
    this.#comparisons.push({ what, difference: difference ?? null });
    this.note(`  ${difference === undefined ? 'same ' : 'DIFFERS'} ${what}${difference === undefined ? '' : `: ${difference}`}`);
  }

  print(): void {
    if (this.json) {
      const result = { good: this.good, durationMs: Date.now() - this.#startedMs, runs: this.#rows, comparisons: this.#comparisons };
      process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
      return;
    }
    const size = (bytes: number) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
    const table = formatTable(this.#rows, [
      { title: 'run', value: (r) => r.run },
      { title: 'ended', value: (r) => r.state },
      { title: 'disk', value: (r) => r.disk },
      { title: 'mode', value: (r) => r.mode },
      { title: 'reason', value: (r) => r.reason || '-' },
      { title: 'size', right: true, value: (r) => size(r.sizeBytes) },
      { title: 'read', right: true, value: (r) => size(r.readBytes) },
      { title: 'sent', right: true, value: (r) => size(r.transferredBytes) },
      { title: 'stored', right: true, value: (r) => size(r.storedBytes) },
      { title: 'took', right: true, value: (r) => `${(r.durationMs / 1000).toFixed(1)} s` },
    ]);
    const held = this.#comparisons.filter(({ difference }) => difference === null).length;
    process.stdout.write(`\n${table}\n\n${held} of ${this.#comparisons.length} comparisons held\n`);
  }
}
