import Table from 'cli-table3';
import type { CliFailure } from './cli-failure';

export interface Column<T> {
  readonly title: string;
  readonly align?: 'left' | 'right';
  value(row: T): string | number | undefined;
}

/** What a command prints: for people by default, one JSON object on standard output with `--json`. */
export class Output {
  constructor(
    readonly json: boolean,
    readonly stdout: NodeJS.WriteStream,
    readonly stderr: NodeJS.WriteStream,
  ) {}

  /** A list; `{ "items": [...] }` as JSON. */
  list<T>(items: readonly T[], columns: readonly Column<T>[], empty: string): void {
    if (this.json) return this.object({ items });
    if (items.length === 0) {
      this.stdout.write(`${empty}\n`);
      return;
    }
    this.stdout.write(`${formatTable(items, columns)}\n`);
  }

  /** One thing, as `name: value` lines; the object itself as JSON. */
  show(value: object, lines: readonly (readonly [string, string | number | undefined])[]): void {
    if (this.json) return this.object(value);
    const width = Math.max(...lines.map(([name]) => name.length));
    for (const [name, text] of lines) if (text !== undefined && text !== '') this.stdout.write(`${`${name}:`.padEnd(width + 2)}${text}\n`);
  }

  /** A sentence for people; the object as JSON. */
  done(text: string, value: object): void {
    if (this.json) this.object(value);
    else this.stdout.write(`${text}\n`);
  }

  object(value: object): void {
    this.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
  }

  /** Text that is no result: notes and questions. */
  note(text: string): void {
    this.stderr.write(`${text}\n`);
  }

  failure(failure: CliFailure): void {
    if (this.json) this.object({ error: { code: failure.code, message: failure.message, ...failure.details } });
    else this.stderr.write(`tidemark: ${failure.message} [${failure.code}]\n`);
  }
}

/** An aligned table without rules, as other command lines print it. */
export function formatTable<T>(items: readonly T[], columns: readonly Column<T>[]): string {
  const table = new Table({
    head: columns.map((column) => column.title.toUpperCase()),
    colAligns: columns.map((column) => column.align ?? 'left'),
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
    chars: Object.fromEntries(
      [
        'top',
        'top-mid',
        'top-left',
        'top-right',
        'bottom',
        'bottom-mid',
        'bottom-left',
        'bottom-right',
        'left',
        'left-mid',
        'mid',
        'mid-mid',
        'right',
        'right-mid',
        'middle',
      ].map((name) => [name, '']),
    ),
  });
  for (const item of items) table.push(columns.map((column) => String(column.value(item) ?? '-')));
  return table.toString().replace(/[ \t]+$/gm, '');
}

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** e.g. 1.5 GiB. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** e.g. 1h 02m, 3m 05s, 4.2 s. */
export function formatDuration(ms: number): string {
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes}m ${String(Math.floor((ms % 60_000) / 1000)).padStart(2, '0')}s`;
  return `${Math.floor(minutes / 60)}h ${String(minutes % 60).padStart(2, '0')}m`;
}

/** Local time without seconds' fractions; `-` for none. */
export function formatTime(iso: string | null | undefined): string {
  return iso ? iso.replace('T', ' ').replace(/\.\d+Z$/, 'Z') : '-';
}
