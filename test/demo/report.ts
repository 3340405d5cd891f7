import { formatTable } from './table';

interface Counters {
  readonly plannedBytes: number;
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
    readonly attempt: number;
    readonly path: { readonly moverId: string } | null;
    readonly notes: readonly { readonly code: string }[];
    readonly failure: { readonly code: string; readonly message: string } | null;
    readonly disks: readonly {
      readonly diskId: string;
      readonly name: string;
      readonly sizeBytes: number;
      readonly mode: string;
      readonly reason: string;
      readonly path: string;
      readonly workerHop: string | null;
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

/** How long the stages of a worker VM took, seconds since the command was given. */
export interface DeployTimes {
  readonly imageBytes: number;
  readonly uploadedAfter: number;
  readonly startedAfter: number;
  /** The VM's own program speaks. */
  readonly bootedAfter: number;
  readonly enrolledAfter: number;
  readonly testedAfter: number;
}

interface Comparison {
  readonly what: string;
  readonly difference: string | null;
}

/** What the demo tells: steps while it runs, the table and the comparisons at the end. */
export class Report {
  readonly #rows: Row[] = [];
  readonly #comparisons: Comparison[] = [];
  #workerVm: DeployTimes | undefined;
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

  deployed(times: DeployTimes): void {
    this.#workerVm = times;
    const mib = times.imageBytes / 1024 / 1024;
    const seconds = (value: number) => `${value.toFixed(1)} s`;
    this.note(
      `  image of ${mib.toFixed(1)} MiB in the storage domain after ${seconds(times.uploadedAfter)} (sent, read back and compared)`,
    );
    this.note(`  VM made and switched on after ${seconds(times.startedAfter)}`);
    this.note(
      `  booted in ${seconds(times.bootedAfter - times.startedAfter)}, enrolled ${seconds(times.enrolledAfter - times.bootedAfter)} later`,
    );
    this.note(`  self-test passed, ready after ${seconds(times.testedAfter)} in all, on an emulated CPU`);
  }

  print(): void {
    if (this.json) {
      const result = {
        good: this.good,
        durationMs: Date.now() - this.#startedMs,
        ...(this.#workerVm ? { workerVm: this.#workerVm } : {}),
        runs: this.#rows,
        comparisons: this.#comparisons,
      };
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
